"""What the two ends of a call say to each other, sealed from one end to the other.

While a call is being set up its datagrams travel as the payload of `Introduce` and
`Signal` messages through the callee's home; later through relays or straight:

    04  opening   version(1) sender_index(4) Noise IK message 1, with an `Offer`
    05  reply     sender_index(4) receiver_index(4) Noise message 2, with a `Reply`
    07  data      sealed envelope (`overlay.messages`) with a body below
    08  media     sealed voice; its content is none of the overlay's business

Indexes are little-endian. There is no padding and no mac here: only a home that knows
the caller forwards openings, and it limits them. Bodies are msgpack arrays
`[tag, field, ...]`, append-only like those between nodes; unknown tags are refused.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from nat.errors import WireError
from overlay.messages import Contact, Record, Seconds, decode_with

__all__ = [
    "Accept",
    "CallReply",
    "CallRequest",
    "Candidates",
    "EndReason",
    "HangUp",
    "Offer",
    "OfferedRelay",
    "Opening",
    "Purpose",
    "Refuse",
    "Reply",
    "Ringing",
    "Taken",
    "UseRelays",
    "decode_call_answer",
    "decode_call_reply",
    "decode_call_request",
    "decode_offer",
    "decode_opening",
    "decode_reply",
    "encode_call_body",
    "encode_opening",
    "encode_reply",
    "end_reason",
]

VERSION: Final = 1
RELAYS_MAX: Final = 3
# As many as a node has homes.
CANDIDATES_MAX: Final = 8
# A host with four addresses in both families; more would be a flood.
CANDIDATE_BYTES_MAX: Final = 120
# One candidate in its text form of RFC 8839.

CandidateText: TypeAlias = Annotated[str, Meta(max_length=CANDIDATE_BYTES_MAX)]
CandidateTexts: TypeAlias = Annotated[
    tuple[CandidateText, ...], Meta(max_length=CANDIDATES_MAX)
]


class Purpose(enum.IntEnum):
    """What a caller wants."""

    VOICE = 1
    PING = 2  # no ringing: answer, show the best path, hang up


class EndReason(enum.IntEnum):
    """Why a call ended; the same on both sides."""

    HUNG_UP = 1
    REFUSED = 2
    BUSY = 3
    NO_ANSWER = 4
    CANCELLED = 5  # the caller hung up before it was answered
    NOT_ONLINE = 6  # no home of the callee has it, or it does not react
    LOST = 7  # the other side vanished: no path carries anything any more
    NO_RELAY = 8  # neither a relay nor a direct path came up
    FAILED = 9  # the other side broke the protocol
    SHUT_DOWN = 10  # the node was stopped


def end_reason(number: int) -> EndReason:
    """Give the reason with this number; one we do not know is a failure."""
    known = number in EndReason.__members__.values()
    return EndReason(number) if known else EndReason.FAILED


class Offer(msgspec.Struct, array_like=True, frozen=True, tag=64):
    """I would like to talk to you; my signed presence says who I am."""

    presence: Record
    purpose: Annotated[int, Meta(ge=0, le=255)]
    relay_only: bool


class OfferedRelay(msgspec.Struct, array_like=True, frozen=True):
    """A relay one side can use, with that side's round trip to it."""

    contact: Contact
    rtt_s: Seconds


class Ringing(msgspec.Struct, array_like=True, frozen=True, tag=65):
    """It rings here, and we can meet at these relays."""

    relays: Annotated[tuple[OfferedRelay, ...], Meta(max_length=RELAYS_MAX)]


class Refuse(msgspec.Struct, array_like=True, frozen=True, tag=66):
    """No, or no longer; an `EndReason` says why."""

    reason: Annotated[int, Meta(ge=0, le=255)]


class UseRelays(msgspec.Struct, array_like=True, frozen=True, tag=67):
    """Join these relays, the best first; the channel follows from our handshake."""

    relays: Annotated[tuple[Contact, ...], Meta(max_length=RELAYS_MAX)]


class Accept(msgspec.Struct, array_like=True, frozen=True, tag=68):
    """Let us talk; I can be tried at these addresses (none: only through relays)."""

    candidates: CandidateTexts


class Candidates(msgspec.Struct, array_like=True, frozen=True, tag=69):
    """And I at these."""

    candidates: CandidateTexts


class HangUp(msgspec.Struct, array_like=True, frozen=True, tag=70):
    """It is over; an `EndReason` says why."""

    reason: Annotated[int, Meta(ge=0, le=255)]


class Taken(msgspec.Struct, array_like=True, frozen=True, tag=71):
    """The answer to each request: understood."""


CallReply: TypeAlias = Ringing | Refuse
CallRequest: TypeAlias = UseRelays | Accept | Candidates | Refuse | HangUp
CallBody: TypeAlias = Offer | CallReply | CallRequest | Taken


@dataclass(frozen=True, slots=True)
class Opening:
    """The first datagram of a call, from the caller."""

    sender_index: int
    noise: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The second, from the callee."""

    sender_index: int
    receiver_index: int
    noise: bytes


_OPENING: Final = 0x04
_REPLY: Final = 0x05
_ENCODER: Final = msgspec.msgpack.Encoder()
_OFFERS: Final = msgspec.msgpack.Decoder(Offer)
_REPLIES: Final[msgspec.msgpack.Decoder[CallReply]] = msgspec.msgpack.Decoder(CallReply)
_REQUESTS: Final[msgspec.msgpack.Decoder[CallRequest]] = msgspec.msgpack.Decoder(
    CallRequest
)
_ANSWERS: Final = msgspec.msgpack.Decoder(Taken)


def encode_opening(opening: Opening) -> bytes:
    """Give the wire form of an opening."""
    index = opening.sender_index.to_bytes(4, "little")
    return bytes((_OPENING, VERSION)) + index + opening.noise


def decode_opening(encoded: bytes) -> Opening:
    """Read an opening. Raises `WireError`."""
    if len(encoded) < 6 or encoded[0] != _OPENING or encoded[1] != VERSION:
        raise WireError(f"no opening of a call: {encoded[:6].hex()}")
    return Opening(int.from_bytes(encoded[2:6], "little"), encoded[6:])


def encode_reply(reply: Reply) -> bytes:
    """Give the wire form of a reply."""
    sender = reply.sender_index.to_bytes(4, "little")
    receiver = reply.receiver_index.to_bytes(4, "little")
    return bytes((_REPLY,)) + sender + receiver + reply.noise


def decode_reply(encoded: bytes) -> Reply:
    """Read a reply. Raises `WireError`."""
    if len(encoded) < 9 or encoded[0] != _REPLY:
        raise WireError(f"no reply of a call: {encoded[:9].hex()}")
    sender = int.from_bytes(encoded[1:5], "little")
    receiver = int.from_bytes(encoded[5:9], "little")
    return Reply(sender, receiver, encoded[9:])


def encode_call_body(body: CallBody) -> bytes:
    """Give the wire form of a body."""
    return _ENCODER.encode(body)


def decode_offer(encoded: bytes) -> Offer:
    """Read the payload of the first message. Raises `WireError`."""
    return decode_with(_OFFERS, encoded)


def decode_call_reply(encoded: bytes) -> CallReply:
    """Read the payload of the second message. Raises `WireError`."""
    return decode_with(_REPLIES, encoded)


def decode_call_request(encoded: bytes) -> CallRequest:
    """Read the body of a request. Raises `WireError`."""
    return decode_with(_REQUESTS, encoded)


def decode_call_answer(encoded: bytes) -> Taken:
    """Read the body of an answer. Raises `WireError`."""
    return decode_with(_ANSWERS, encoded)
