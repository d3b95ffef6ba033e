"""STUN binding messages: bytes <-> frozen values. The one user of `aioice.stun`.

Koe speaks STUN for two things. A node asks a supernode where its datagrams seem to come
from (*reflection*, RFC 8489), and the two ends of a call check their paths
(*connectivity checks*, RFC 8445), in a form that any ICE agent understands:

    offset 0   kind 2        0001 request, 0101 response, 0111 error
    offset 2   length 2      of all attributes, a multiple of 4
    offset 4   cookie 4      2112a442
    offset 8   transaction 12
    offset 20  attributes    type 2, length 2, value, zeros up to a multiple of 4

    request    [USERNAME] [PRIORITY] [ICE-CONTROLLING | ICE-CONTROLLED] [USE-CANDIDATE]
               [PADDING]
    response   XOR-MAPPED-ADDRESS
    error      ERROR-CODE
    with a key, all of them end in MESSAGE-INTEGRITY (HMAC-SHA1), FINGERPRINT (CRC-32)

`decode` raises `WireError` and nothing else. It is stricter than the parser it wraps,
which takes wrong cookies and attributes that overrun the message: attributes must fill
the message exactly, none may come twice, FINGERPRINT must be right and last, and what a
receiver must understand but we do not is refused. Unknown optional attributes are
skipped, and so is whatever stands between MESSAGE-INTEGRITY and FINGERPRINT.

`decode` does not say who sent a message; `verify` does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from aioice import stun as wire

from nat.address import Address
from nat.errors import WireError

__all__ = [
    "REFLECTION_PADDING_BYTES",
    "TRANSACTION_BYTES",
    "BindingError",
    "BindingRequest",
    "BindingResponse",
    "Message",
    "decode",
    "encode",
    "is_stun",
    "reflect",
    "transaction_of",
    "username_of",
    "verify",
]

TRANSACTION_BYTES: Final = 12
# RFC 8489 §5.
REFLECTION_PADDING_BYTES: Final = 20
# 20 of header, 4 + 20 of padding: as long as the answer that holds an IPv6 address.
USERNAME_BYTES_MAX: Final = 513
# RFC 8489 §14.3: below 513 bytes; two ICE fragments of 256 and a colon.

_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")
_USERNAME: Final = 0x0006
_MESSAGE_INTEGRITY: Final = 0x0008
_PADDING: Final = 0x0026
_FINGERPRINT: Final = 0x8028
_OPTIONAL: Final = 0x8000
# RFC 8489 §14: a receiver may skip attributes from here upwards.
_UNDERSTOOD: Final = frozenset(
    {
        0x0001,  # MAPPED-ADDRESS, which some servers add for old clients
        0x0004,  # SOURCE-ADDRESS, the same
        0x0005,  # CHANGED-ADDRESS, the same
        _USERNAME,
        _MESSAGE_INTEGRITY,
        0x0009,  # ERROR-CODE
        0x0020,  # XOR-MAPPED-ADDRESS
        0x0024,  # PRIORITY
        0x0025,  # USE-CANDIDATE
        _PADDING,
    }
)
_PADDING_ENTRY: Final = (_PADDING, "PADDING", wire.pack_bytes, wire.unpack_bytes)
wire.ATTRIBUTES_BY_TYPE[_PADDING] = _PADDING_ENTRY
wire.ATTRIBUTES_BY_NAME["PADDING"] = _PADDING_ENTRY
# aioice lacks RFC 5780's PADDING. Its tables are how it can be taught.


@dataclass(frozen=True, slots=True)
class BindingRequest:
    """Asks "where do I come from?"; with a username, also "do you still want this?"."""

    transaction_id: bytes
    username: str | None = None
    priority: int | None = None
    controlling: bool | None = None
    tie_breaker: int = 0
    use_candidate: bool = False
    padding_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BindingResponse:
    """Tells the asker which source address its request arrived with."""

    transaction_id: bytes
    mapped: Address


@dataclass(frozen=True, slots=True)
class BindingError:
    """Refuses a request."""

    transaction_id: bytes
    code: int
    reason: str


Message = BindingRequest | BindingResponse | BindingError


def is_stun(datagram: bytes) -> bool:
    """Tell, cheaply, whether a datagram claims to be STUN (RFC 7983, RFC 8489 §6.3)."""
    return (
        len(datagram) >= _HEADER.size
        and datagram[0] <= 3
        and int.from_bytes(datagram[4:8], "big") == wire.COOKIE
    )


def transaction_of(datagram: bytes) -> bytes:
    """Give the transaction id of what `is_stun` accepted."""
    return bytes(datagram[8 : _HEADER.size])


def username_of(datagram: bytes) -> str | None:
    """Give the USERNAME, to find the call a check is for; None if there is none.

    Cheap, and verifies nothing. Raises nothing: garbage has no username.
    """
    try:
        for kind, value in _attributes(datagram):
            if kind == _USERNAME:
                return value.decode()
    except ValueError:
        pass
    return None


def encode(message: Message, key: bytes | None = None) -> bytes:
    """Give the bytes of a message, authenticated with `key` if there is one."""
    match message:
        case BindingRequest():
            kind, attributes = wire.Class.REQUEST, _request_attributes(message)
        case BindingResponse():
            kind = wire.Class.RESPONSE
            attributes = {"XOR-MAPPED-ADDRESS": message.mapped}
        case BindingError():
            kind = wire.Class.ERROR
            attributes = {"ERROR-CODE": (message.code, message.reason)}
    encoded = wire.Message(
        wire.Method.BINDING, kind, message.transaction_id, attributes
    )
    if key is not None:
        encoded.add_message_integrity(key)
    return bytes(encoded)


def decode(datagram: bytes) -> Message:
    """Read a binding message. Raises `WireError`."""
    parsed = _parse(datagram)
    match parsed.message_class:
        case wire.Class.REQUEST:
            return _request(parsed)
        case wire.Class.RESPONSE:
            if "XOR-MAPPED-ADDRESS" not in parsed.attributes:
                raise WireError("a STUN response without XOR-MAPPED-ADDRESS")
            host, port = parsed.attributes["XOR-MAPPED-ADDRESS"]
            return BindingResponse(parsed.transaction_id, Address(host, port))
        case wire.Class.ERROR:
            if "ERROR-CODE" not in parsed.attributes:
                raise WireError("a STUN error without ERROR-CODE")
            code, reason = parsed.attributes["ERROR-CODE"]
            return BindingError(parsed.transaction_id, code, reason)
        case _:
            raise WireError("a STUN indication, expected a request or an answer")


def verify(datagram: bytes, key: bytes) -> None:
    """Check MESSAGE-INTEGRITY and FINGERPRINT. Raises `WireError`."""
    parsed = _parse(datagram)
    if "FINGERPRINT" not in parsed.attributes:
        raise WireError("a STUN message without FINGERPRINT")
    if not parsed.check_message_integrity(key):
        raise WireError("a STUN message that its claimed sender did not write")


def reflect(request: bytes, source: Address) -> bytes | None:
    """Give a STUN server's answer: where the request came from.

    None where there is none to give: the message is no request, it is a check that
    belongs to a call, or the answer would be longer than the request (a request without
    PADDING, RFC 5780 §7.6), which no source address that can be forged may cause.
    Raises `WireError`.
    """
    message = decode(request)
    if not isinstance(message, BindingRequest) or message.username is not None:
        return None
    answer = encode(BindingResponse(message.transaction_id, source))
    return answer if len(answer) <= len(request) else None


def _request_attributes(request: BindingRequest) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if request.username is not None:
        attributes["USERNAME"] = request.username
    if request.priority is not None:
        attributes["PRIORITY"] = request.priority
    if request.controlling is not None:
        role = "ICE-CONTROLLING" if request.controlling else "ICE-CONTROLLED"
        attributes[role] = request.tie_breaker
    if request.use_candidate:
        attributes["USE-CANDIDATE"] = None
    if request.padding_bytes:
        attributes["PADDING"] = bytes(request.padding_bytes)
    return attributes


def _request(parsed: wire.Message) -> BindingRequest:
    attributes = parsed.attributes
    controlling = attributes.get("ICE-CONTROLLING")
    controlled = attributes.get("ICE-CONTROLLED")
    if controlling is not None and controlled is not None:
        raise WireError("a STUN request with both ICE roles")
    has_role = controlling is not None or controlled is not None
    return BindingRequest(
        transaction_id=parsed.transaction_id,
        username=attributes.get("USERNAME"),
        priority=attributes.get("PRIORITY"),
        controlling=controlling is not None if has_role else None,
        tie_breaker=controlling or controlled or 0,
        use_candidate="USE-CANDIDATE" in attributes,
        padding_bytes=len(attributes.get("PADDING", b"")),
    )


def _parse(datagram: bytes) -> wire.Message:
    """Check what aioice does not, then let it parse."""
    for _ in _attributes(datagram):
        pass
    try:
        parsed = wire.parse_message(bytes(datagram))
    except (ValueError, struct.error) as error:
        raise WireError(f"STUN: {error}") from None
    if parsed.message_method != wire.Method.BINDING:
        raise WireError(f"STUN method {parsed.message_method}, expected 1 (binding)")
    return parsed


def _attributes(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk a message's authenticated attributes. Raises `WireError`."""
    if not is_stun(datagram):
        raise WireError(f"{len(datagram)} bytes that are no STUN message")
    _, length, _, _ = _HEADER.unpack_from(datagram)
    if length % 4 or length != len(datagram) - _HEADER.size:
        raise WireError(f"STUN length {length} in a datagram of {len(datagram)} bytes")
    offset = _HEADER.size
    seen: set[int] = set()
    while offset < len(datagram):
        kind, size = _ATTRIBUTE.unpack_from(datagram, offset)
        start, offset = offset + 4, offset + 4 + (size + 3) // 4 * 4
        if offset > len(datagram):
            raise WireError(f"STUN attribute {kind:#06x} overruns the message")
        if _FINGERPRINT in seen:
            raise WireError("a STUN attribute after FINGERPRINT")
        if _MESSAGE_INTEGRITY in seen and kind != _FINGERPRINT:
            continue
        _check_attribute(kind, size, seen)
        seen.add(kind)
        yield kind, datagram[start : start + size]


def _check_attribute(kind: int, size: int, seen: set[int]) -> None:
    if kind in seen:
        raise WireError(f"STUN attribute {kind:#06x} twice")
    if kind < _OPTIONAL and kind not in _UNDERSTOOD:
        raise WireError(f"STUN attribute {kind:#06x} is required and unknown")
    if kind == _USERNAME and size > USERNAME_BYTES_MAX:
        raise WireError(f"a STUN username of {size} bytes")
