"""What two nodes say to each other inside a session.

A sealed DATA datagram carries one envelope (`overlay.envelope`), whose body is one
msgpack array `[tag, field, ...]` of at most 1,132 bytes.

The tag tells the body's class below. Later versions may append fields with defaults and
new tags; fields are never reordered or reused. An unknown tag is refused, a field more
than we know is ignored. `Request` has exactly one answer each; whoever asks repeats the
request until the answer comes (`overlay.exchange`), so every request is idempotent.

Keys of the index are 8 bytes, static keys, identities 32, introductions 16, relay
channels 8. Addresses are packed as `nat.address` says. Signed records are opaque bytes
here and are read by `overlay.records`.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from nat.address import Address
from nat.errors import WireError

__all__ = [
    "Announce",
    "Answer",
    "Body",
    "Busy",
    "Contact",
    "Deliver",
    "Done",
    "GetSupernodes",
    "Goodbye",
    "Introduce",
    "JoinRelay",
    "Joined",
    "LeaveRelay",
    "LookUp",
    "NotFound",
    "Notice",
    "Ping",
    "Pong",
    "Referral",
    "Refusal",
    "Refused",
    "Register",
    "Registered",
    "Request",
    "Signal",
    "Store",
    "Stored",
    "Supernodes",
    "Value",
    "decode_answer",
    "decode_notice",
    "decode_request",
    "decode_with",
    "encode_body",
    "may_be_early",
]

_T = TypeVar("_T")

RECORD_BYTES_MAX: Final = 420
# A presence with three IPv6 homes takes 345.
RECORDS_MAX: Final = 6
# One more than the descriptors that fit beside an envelope.
OWNERS_MAX: Final = 8
# The owners of one key: any 5 of 8 meet any other 5 in two.
PAYLOAD_BYTES_MAX: Final = 1_000
# What an introducer carries in one piece.

Key: TypeAlias = Annotated[bytes, Meta(min_length=8, max_length=8)]
Bytes32: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
PackedAddress: TypeAlias = Annotated[bytes, Meta(min_length=6, max_length=18)]
Record: TypeAlias = Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]
IntroductionId: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
ChannelId: TypeAlias = Annotated[bytes, Meta(min_length=8, max_length=8)]
Payload: TypeAlias = Annotated[bytes, Meta(max_length=PAYLOAD_BYTES_MAX)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=86_400)]
Load: TypeAlias = Annotated[float, Meta(ge=0, le=1_000)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Contact(msgspec.Struct, array_like=True, frozen=True):
    """How to reach a supernode: its packed address and its static key."""

    packed_address: PackedAddress
    static: Bytes32

    @classmethod
    def of(cls, address: Address, static: bytes) -> Contact:
        """Make a contact of an address and a static key."""
        return cls(address.pack(), static)

    @property
    def address(self) -> Address:
        """The address; `WireError` if it was packed wrongly."""
        return Address.unpack(self.packed_address)


Contacts: TypeAlias = Annotated[tuple[Contact, ...], Meta(max_length=OWNERS_MAX)]
Records: TypeAlias = Annotated[tuple[Record, ...], Meta(max_length=RECORDS_MAX)]


class Refusal(enum.IntEnum):
    """Why a request was refused."""

    NOT_A_SUPERNODE = 1
    NOT_HERE = 2  # the target of an introduction is not registered at this home
    BAD_RECORD = 3  # a signature, a field or a sequence number is wrong
    NOT_FOR_YOU = 4  # not without a session, or not from you
    CHANNEL_TAKEN = 5  # two others hold it
    NOT_UNDERSTOOD = 6


# -- liveness --------------------------------------------------------------------------


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Are you there? Keeps a session and the NAT mappings under it alive."""


class Pong(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """I am: how you look from here, and my load as a home and as a relay (1 = full).

    `at_home` tells whether you are registered here: a home that was restarted knows
    nobody any more.
    """

    observed: PackedAddress
    load: Load
    relay_load: Load
    at_home: bool = False


# -- supernodes ------------------------------------------------------------------------


class GetSupernodes(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Name supernodes whose ring position is at or after `start`."""

    start: Key


class Supernodes(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """A page of descriptors in ring order; `next_start` is empty on the last page."""

    descriptors: Records
    next_start: Annotated[bytes, Meta(max_length=8)]
    total: Count


class Announce(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """News of supernodes, as they signed it themselves."""

    descriptors: Records


class Done(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """It is done; there is nothing to add."""


# -- the index -------------------------------------------------------------------------


class Register(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """Be my home; if `publish`, write these records to their owners for me."""

    presence: Record
    claim: Record
    publish: bool


class Registered(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """You are at home here for `ttl_s`; `stored` of `owners` have the presence."""

    ttl_s: Seconds
    stored: Count
    owners: Count
    observed: PackedAddress


class Store(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """You own the keys of these records: keep them."""

    records: Records


class Stored(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """So many of them are kept (an older or equal one than held counts as kept)."""

    kept: Count


class LookUp(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """What is known under this key?"""

    key: Key


class Value(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """These records are."""

    records: Records


class Referral(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """I do not own that key; these do."""

    owners: Contacts


class NotFound(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """I own that key and hold nothing; these own it too."""

    owners: Contacts


# -- introductions ---------------------------------------------------------------------


class Introduce(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """Hand this to the node with that identity, who is at home with you."""

    introduction: IntroductionId
    target: Bytes32
    payload: Payload


class Deliver(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """Somebody asked to be introduced to you and says this."""

    introduction: IntroductionId
    payload: Payload


class Signal(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """Hand this to the other side of an introduction. Never repeated by us."""

    introduction: IntroductionId
    payload: Payload


# -- relays ----------------------------------------------------------------------------


class JoinRelay(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """Join me to this channel of your relay."""

    channel: ChannelId


class Joined(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """You are on it; `paired` if the other side is, too."""

    paired: bool


class LeaveRelay(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """I am done with this channel."""

    channel: ChannelId


# -- no --------------------------------------------------------------------------------


class Busy(msgspec.Struct, array_like=True, frozen=True, tag=21):
    """Not now: come back later, or ask these."""

    retry_after_s: Seconds
    alternatives: Contacts


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=22):
    """No, and asking again will not help."""

    reason: Annotated[int, Meta(ge=0, le=255)]


class Goodbye(msgspec.Struct, array_like=True, frozen=True, tag=23):
    """I am leaving: forget this session, and my registration if I had one."""


Request: TypeAlias = (
    Ping
    | GetSupernodes
    | Announce
    | Register
    | Store
    | LookUp
    | Introduce
    | Deliver
    | JoinRelay
)
Answer: TypeAlias = (
    Pong
    | Supernodes
    | Done
    | Registered
    | Stored
    | Value
    | Referral
    | NotFound
    | Joined
    | Busy
    | Refused
)
Notice: TypeAlias = Signal | LeaveRelay | Goodbye
Body: TypeAlias = Request | Answer | Notice


_ENCODER: Final = msgspec.msgpack.Encoder()
_REQUESTS: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_ANSWERS: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)
_NOTICES: Final[msgspec.msgpack.Decoder[Notice]] = msgspec.msgpack.Decoder(Notice)


def encode_body(body: Body) -> bytes:
    """Give the wire form of a body."""
    return _ENCODER.encode(body)


def decode_request(encoded: bytes) -> Request:
    """Read the body of a request. Raises `WireError`."""
    return decode_with(_REQUESTS, encoded)


def may_be_early(encoded: bytes) -> bool:
    """Tell whether the body of a request may ride in a first handshake message.

    What binds memory or traffic to the asker's address has to wait until that address
    is proven: registering, storing, announcing, joining a relay.
    """
    try:
        request = decode_request(encoded)
    except WireError:
        return False
    return isinstance(request, (Ping, GetSupernodes, LookUp, Introduce, Deliver))


def decode_answer(encoded: bytes) -> Answer:
    """Read the body of an answer. Raises `WireError`."""
    return decode_with(_ANSWERS, encoded)


def decode_notice(encoded: bytes) -> Notice:
    """Read the body of a notice. Raises `WireError`."""
    return decode_with(_NOTICES, encoded)


def decode_with(decoder: msgspec.msgpack.Decoder[_T], encoded: bytes) -> _T:
    """Decode untrusted msgpack; whatever msgspec raises becomes `WireError`."""
    try:
        return decoder.decode(encoded)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"no body that we know: {error}") from None
