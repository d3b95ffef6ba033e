"""The datagrams of a handshake, each with a proof that its sender knows whom it asks.

Numbers are little-endian; each side names its end of the session to come by an index.

    HS1     0    04                  1 byte
            1    version             1 byte: 1
            2    pattern             1 byte: 1 IK, 2 NK, 3 XX
            3    sender's index      4 bytes
            7    noise length        2 bytes
            9    noise message 1     its payload is an `Opening`
                 padding             zeros (not looked at), to the size wished
            -32  mac1                16 bytes
            -16  mac2                16 bytes, zeros without a cookie

    HS2     0    05                  1 byte
            1    sender's index      4 bytes
            5    receiver's index    4 bytes
            9    noise message 2     up to mac1; its payload is a `Reply`
            -16  mac1                16 bytes

    HS3     as HS2, but 0B and noise message 3 of XX, without payload

    COOKIE  0    06                  1 byte
            1    receiver's index    4 bytes
            5    nonce               24 bytes
            29   sealed cookie       32 bytes: XChaCha20-Poly1305 of 16 bytes, the
                                     associated data is the mac1 of the HS1 it answers

An HS1 has 512 to 1,200 bytes, and no answer is longer than it, because until HS3 or the
first sealed datagram its source may be forged.

mac1 = BLAKE2s-16(key = BLAKE2s("mac1" || S), all bytes before it), where S is the
responder's static key, 32 zero bytes in XX. It turns away, for 2 us, whoever does not
even know whom they talk to. mac2 = BLAKE2s-16(key = cookie, all bytes before it) is
asked for under load, see `overlay.cookies`.

The payloads are msgpack arrays: `[timestamp, features, request]` and
`[features, response]`; later versions may append.

Contract: pure. Decoders raise `WireError` and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from nat.errors import WireError
from overlay import tai64n
from overlay.noise import KEY_BYTES, TAG_BYTES, Pattern

__all__ = [
    "COOKIE_REPLY_BYTES",
    "INITIATION_BYTES_MAX",
    "INITIATION_BYTES_MIN",
    "INITIATION_OVERHEAD_BYTES",
    "MAC_BYTES",
    "RESPONSE_OVERHEAD_BYTES",
    "Completion",
    "CookieReply",
    "HandshakeDatagram",
    "Initiation",
    "Opening",
    "Reply",
    "Response",
    "decode",
    "decode_opening",
    "decode_reply",
    "encode_completion",
    "encode_cookie_reply",
    "encode_initiation",
    "encode_payload",
    "encode_response",
    "key_among_knowers",
    "mac",
    "mac1_of",
    "network_id",
    "prologue",
    "verify_mac1",
]

VERSION: Final = 1
INITIATION, RESPONSE, COOKIE, COMPLETION = 0x04, 0x05, 0x06, 0x0B

INITIATION_HEADER: Final = struct.Struct("<BBBIH")
ANSWER_HEADER: Final = struct.Struct("<BII")
COOKIE_HEADER: Final = struct.Struct("<BI24s")
MAC_BYTES: Final = 16

INITIATION_BYTES_MIN: Final = 512
# Room for what may be answered: never more bytes than came.
INITIATION_BYTES_MAX: Final = 1_200
# The longest datagram Koe sends: below it no path fragments.
INITIATION_OVERHEAD_BYTES: Final = INITIATION_HEADER.size + 2 * MAC_BYTES
# What an HS1 adds to its noise message, padding aside: 41.
RESPONSE_OVERHEAD_BYTES: Final = ANSWER_HEADER.size + MAC_BYTES
# What an HS2 or HS3 adds to its noise message: 25.
COOKIE_REPLY_BYTES: Final = COOKIE_HEADER.size + MAC_BYTES + TAG_BYTES
# Always 61.

FEATURES_LIMIT: Final = 2**64
NETWORK_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Initiation:
    """HS1: somebody wants a session, whose end at their side is `sender_index`."""

    pattern: Pattern
    sender_index: int
    noise: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """HS2: the responder agrees; `receiver_index` is the HS1's `sender_index`."""

    sender_index: int
    receiver_index: int
    noise: bytes


@dataclass(frozen=True, slots=True)
class Completion:
    """HS3: the initiator of XX shows who it is."""

    sender_index: int
    receiver_index: int
    noise: bytes


@dataclass(frozen=True, slots=True)
class CookieReply:
    """COOKIE: the responder is under load; repeat the HS1 with this cookie's mac2."""

    receiver_index: int
    nonce: bytes
    sealed: bytes


HandshakeDatagram: TypeAlias = Initiation | Response | Completion | CookieReply


def encode_initiation(
    message: Initiation,
    responder_static: bytes | None,
    *,
    size: int = INITIATION_BYTES_MIN,
    cookie: bytes | None = None,
) -> bytes:
    """Give the datagram, padded to at least `size` bytes: as much may be answered.

    `responder_static` is None in XX. Raises `ValueError` if it cannot be 512 to 1,200
    bytes long.
    """
    size = max(size, INITIATION_OVERHEAD_BYTES + len(message.noise))
    _check_size(size, ValueError)
    header = INITIATION_HEADER.pack(
        INITIATION, VERSION, message.pattern, message.sender_index, len(message.noise)
    )
    body = (header + message.noise).ljust(size - 2 * MAC_BYTES, b"\0")
    body += mac(key_among_knowers(b"mac1", responder_static), body)
    body += bytes(MAC_BYTES) if cookie is None else mac(cookie, body)
    return body


def encode_response(
    message: Response, responder_static: bytes | None, initiation_bytes: int
) -> bytes:
    """Give the answer to an HS1 of `initiation_bytes`; `responder_static` as there.

    Raises `ValueError` if it would be longer than the HS1.
    """
    datagram = _encode_answer(RESPONSE, message, responder_static)
    if len(datagram) > initiation_bytes:
        raise ValueError(
            f"{len(datagram)} bytes in answer to {initiation_bytes}: never more"
        )
    return datagram


def encode_completion(message: Completion, responder_static: bytes | None) -> bytes:
    """Give the datagram; `responder_static` is None in XX."""
    return _encode_answer(COMPLETION, message, responder_static)


def encode_cookie_reply(message: CookieReply) -> bytes:
    """Give the datagram, 61 bytes long."""
    header = COOKIE_HEADER.pack(COOKIE, message.receiver_index, message.nonce)
    return header + message.sealed


def decode(datagram: bytes) -> HandshakeDatagram:
    """Read the form of a handshake datagram. Raises `WireError`.

    Costs no cryptography: check mac1 (not of a cookie reply) before anything that does.
    """
    match datagram[:1]:
        case b"\x04":
            return _decode_initiation(datagram)
        case b"\x05":
            return Response(*_decode_answer(datagram))
        case b"\x0b":
            return Completion(*_decode_answer(datagram))
        case b"\x06":
            if len(datagram) < COOKIE_REPLY_BYTES:
                raise WireError(f"a cookie reply of {len(datagram)} bytes, expected 61")
            _, receiver_index, nonce = COOKIE_HEADER.unpack_from(datagram)
            sealed = datagram[COOKIE_HEADER.size : COOKIE_REPLY_BYTES]
            return CookieReply(receiver_index, nonce, sealed)
    raise WireError(f"first byte {datagram[:1].hex()!r}: no handshake datagram")


def verify_mac1(datagram: bytes, responder_static: bytes | None) -> None:
    """Return if mac1 of an HS1, HS2 or HS3 is right, else `WireError`.

    `responder_static` is None in XX. The datagram must have passed `decode`.
    """
    expected = mac(
        key_among_knowers(b"mac1", responder_static), datagram[: _mac1_at(datagram)]
    )
    if not hmac.compare_digest(expected, mac1_of(datagram)):
        raise WireError("a mac1 that is not for this responder's key")


def mac1_of(datagram: bytes) -> bytes:
    """Give the mac1 of an encoded HS1, HS2 or HS3: a cookie is bound to it."""
    at = _mac1_at(datagram)
    return datagram[at : at + MAC_BYTES]


def mac(key: bytes, data: bytes) -> bytes:
    """Give the 16-byte keyed BLAKE2s of the data."""
    return hashlib.blake2s(data, key=key, digest_size=MAC_BYTES).digest()


def key_among_knowers(label: bytes, responder_static: bytes | None) -> bytes:
    """Give the key that all who know a responder's static key share for a purpose.

    It is BLAKE2s(label || static key), with 32 zero bytes for None: in XX nobody knows
    the key yet, and mac1 is no more than a checksum.
    """
    return hashlib.blake2s(label + (responder_static or bytes(KEY_BYTES))).digest()


class Opening(msgspec.Struct, frozen=True, array_like=True):
    """The payload of Noise message 1."""

    timestamp: bytes
    """TAI64N, 12 bytes."""
    features: int
    """What the sender understands beyond version 1, as bits 0..63."""
    request: bytes | None = None
    """What is asked at once; must be idempotent, for IK proves no sender yet."""


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The payload of Noise message 2."""

    features: int
    response: bytes | None = None


def encode_payload(payload: Opening | Reply) -> bytes:
    """Give the bytes for `Handshake.write_message`."""
    return msgspec.msgpack.encode(payload)


def decode_opening(payload: bytes) -> Opening:
    """Read the payload of message 1. Raises `WireError`."""
    try:
        opening = _OPENINGS.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"an opening that is none: {error}") from None
    tai64n.decode(opening.timestamp)
    _check_features(opening.features)
    return opening


def decode_reply(payload: bytes) -> Reply:
    """Read the payload of message 2. Raises `WireError`."""
    try:
        reply = _REPLIES.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"a reply that is none: {error}") from None
    _check_features(reply.features)
    return reply


def network_id(name: str) -> bytes:
    """Give the 8 bytes that keep networks apart.

    They are BLAKE2b-8("koe/1/network\\0" || name).
    """
    return hashlib.blake2b(b"koe/1/network\0" + name.encode(), digest_size=8).digest()


def prologue(network: bytes) -> bytes:
    """Give what both sides must agree on before a handshake: version and network id."""
    if len(network) != NETWORK_ID_BYTES:
        raise ValueError(f"a network id of {len(network)} bytes, expected 8")
    return b"koe/1" + network


_OPENINGS: Final = msgspec.msgpack.Decoder(Opening)
_REPLIES: Final = msgspec.msgpack.Decoder(Reply)
_PATTERNS: Final[Mapping[int, Pattern]] = {
    pattern.value: pattern for pattern in Pattern
}


def _decode_initiation(datagram: bytes) -> Initiation:
    _check_size(len(datagram), WireError)
    _, version, number, sender_index, length = INITIATION_HEADER.unpack_from(datagram)
    if version != VERSION or number not in _PATTERNS:
        raise WireError(f"version {version}, pattern {number}: expected 1 and 1..3")
    if length > len(datagram) - INITIATION_OVERHEAD_BYTES:
        raise WireError(f"a noise message of {length} in {len(datagram)} bytes")
    start = INITIATION_HEADER.size
    return Initiation(_PATTERNS[number], sender_index, datagram[start : start + length])


def _encode_answer(
    kind: int, message: Response | Completion, responder_static: bytes | None
) -> bytes:
    header = ANSWER_HEADER.pack(kind, message.sender_index, message.receiver_index)
    body = header + message.noise
    return body + mac(key_among_knowers(b"mac1", responder_static), body)


def _decode_answer(datagram: bytes) -> tuple[int, int, bytes]:
    if len(datagram) < RESPONSE_OVERHEAD_BYTES:
        raise WireError(f"an answer of {len(datagram)} bytes, expected at least 25")
    _, sender_index, receiver_index = ANSWER_HEADER.unpack_from(datagram)
    return sender_index, receiver_index, datagram[ANSWER_HEADER.size : -MAC_BYTES]


def _check_size(size: int, error: type[ValueError]) -> None:
    if not INITIATION_BYTES_MIN <= size <= INITIATION_BYTES_MAX:
        raise error(f"a first message of {size} bytes, expected 512 to 1200")


def _check_features(features: int) -> None:
    if not 0 <= features < FEATURES_LIMIT:
        raise WireError(f"features {features}, expected 64 bits")


def _mac1_at(datagram: bytes) -> int:
    macs = 2 if datagram[0] == INITIATION else 1
    return len(datagram) - macs * MAC_BYTES
