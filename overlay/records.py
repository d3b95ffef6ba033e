"""What nodes sign about themselves: presences, descriptors and claims.

A record is a msgpack array `[kind, payload, signature]`:

    kind        1 presence, 2 descriptor, 3 claim
    payload     bytes: a msgpack array, the fields of the class below in their order
    signature   64 bytes, Ed25519 over b"koe/1/<kind's name>\\0" || payload

`public_key` in the payload is whose signature it is. `ver` is 1; within it fields with
defaults may be appended to the payload and are ignored by those who do not know them.
Instants are whole seconds since the Unix epoch. `seq` and `incarnation` only grow:
among records of one identity the highest counts. `seq` is the time in milliseconds, or
one more than the last if that is more; `incarnation` the same in seconds.

A record travels and is kept as the bytes it came in, never encoded again: each record
that was read carries them as `raw`, which is no field (records are equal if their
fields are) and empty in a record that was never signed.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Annotated, ClassVar, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from nat.address import Address
from nat.errors import WireError
from overlay.identity import Identity, verify
from overlay.messages import (
    RECORD_BYTES_MAX,
    Bytes32,
    Contact,
    PackedAddress,
    decode_with,
)
from overlay.names import check_name
from overlay.noise import check_public_key

__all__ = [
    "HOMES_MAX",
    "PRESENCE_TTL_S_MAX",
    "Capability",
    "Claim",
    "Descriptor",
    "Presence",
    "SignedRecord",
    "id_key",
    "name_key",
    "read_claim",
    "read_descriptor",
    "read_presence",
    "read_record",
    "sign_claim",
    "sign_descriptor",
    "sign_presence",
]

HOMES_MAX: Final = 3
# One primary home and two standbys.
PRESENCE_TTL_S_MAX: Final = 3_600
# A leaf that is gone is forgotten within the hour, whatever it asked for.

_T = TypeVar("_T")

Serial: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Instant: TypeAlias = Annotated[int, Meta(ge=0, le=2**40)]
Flags: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Version: TypeAlias = Annotated[str, Meta(pattern=r"^[!-~]{0,16}\Z")]
Homes: TypeAlias = Annotated[tuple[Contact, ...], Meta(max_length=HOMES_MAX)]


class Capability(enum.IntFlag):
    """Bits of `caps`. Unknown ones are kept and ignored."""

    RELAY = 1  # carries calls of others


class Presence(msgspec.Struct, array_like=True, frozen=True, kw_only=True, dict=True):
    """Where the node with this identity can be met now: at its homes.

    Never says the node's own address.
    """

    raw: ClassVar[bytes] = b""
    ver: Literal[1] = 1
    public_key: Bytes32
    dh_public: Bytes32
    seq: Serial
    issued: Instant
    ttl_s: Annotated[int, Meta(ge=1, le=PRESENCE_TTL_S_MAX)]
    homes: Homes
    caps: Flags
    client_version: Version


class Descriptor(msgspec.Struct, array_like=True, frozen=True, kw_only=True, dict=True):
    """A supernode and its address."""

    raw: ClassVar[bytes] = b""
    ver: Literal[1] = 1
    public_key: Bytes32
    dh_public: Bytes32
    packed_address: PackedAddress
    incarnation: Serial
    issued: Instant
    caps: Flags
    client_version: Version

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address.unpack(self.packed_address)


class Claim(msgspec.Struct, array_like=True, frozen=True, kw_only=True, dict=True):
    """This identity goes by that name, and has since `created`."""

    raw: ClassVar[bytes] = b""
    ver: Literal[1] = 1
    name: str
    public_key: Bytes32
    created: Instant
    seq: Serial


SignedRecord: TypeAlias = Presence | Descriptor | Claim


class _Kind(enum.IntEnum):
    PRESENCE = 1
    DESCRIPTOR = 2
    CLAIM = 3

    @property
    def domain(self) -> bytes:
        return b"koe/1/" + self.name.lower().encode() + b"\0"


class _Signed(msgspec.Struct, array_like=True, frozen=True):
    kind: _Kind
    payload: bytes
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


_ENCODER: Final = msgspec.msgpack.Encoder()
_SIGNED: Final = msgspec.msgpack.Decoder(_Signed)
_PRESENCES: Final = msgspec.msgpack.Decoder(Presence)
_DESCRIPTORS: Final = msgspec.msgpack.Decoder(Descriptor)
_CLAIMS: Final = msgspec.msgpack.Decoder(Claim)


def id_key(public_key: bytes) -> bytes:
    """Give the index's key for an identity."""
    return hashlib.blake2b(b"koe/id/1" + public_key, digest_size=8).digest()


def name_key(name: str) -> bytes:
    """Give the index's key for a name."""
    return hashlib.blake2b(b"koe/name/1" + name.encode(), digest_size=8).digest()


def sign_presence(identity: Identity, presence: Presence) -> bytes:
    """Give the record; `presence` must be the identity's own."""
    return _sign(identity, _Kind.PRESENCE, presence)


def sign_descriptor(identity: Identity, descriptor: Descriptor) -> bytes:
    """Give the record; `descriptor` must be the identity's own."""
    return _sign(identity, _Kind.DESCRIPTOR, descriptor)


def sign_claim(identity: Identity, claim: Claim) -> bytes:
    """Give the record; `claim` must be the identity's own."""
    return _sign(identity, _Kind.CLAIM, claim)


def read_record(raw: bytes) -> SignedRecord:
    """Read and verify a record of any kind. Raises `WireError`."""
    if len(raw) > RECORD_BYTES_MAX:
        raise WireError(f"a record of {len(raw)} bytes, expected {RECORD_BYTES_MAX}")
    signed = decode_with(_SIGNED, raw)
    record = _decode_payload(signed)
    verify(record.public_key, signed.kind.domain, signed.payload, signed.signature)
    msgspec.structs.force_setattr(record, "raw", raw)
    return record


def read_presence(raw: bytes) -> Presence:
    """Read and verify a presence. Raises `WireError`."""
    return _of_kind(Presence, read_record(raw))


def read_descriptor(raw: bytes) -> Descriptor:
    """Read and verify a descriptor. Raises `WireError`."""
    return _of_kind(Descriptor, read_record(raw))


def read_claim(raw: bytes) -> Claim:
    """Read and verify a claim. Raises `WireError`."""
    return _of_kind(Claim, read_record(raw))


def _sign(identity: Identity, kind: _Kind, record: SignedRecord) -> bytes:
    if record.public_key != identity.public_key:
        raise ValueError(f"{record}: expected a record of {identity}'s own")
    payload = _ENCODER.encode(record)
    signature = identity.sign(kind.domain, payload)
    return _ENCODER.encode(_Signed(kind, payload, signature))


def _decode_payload(signed: _Signed) -> SignedRecord:
    """Decode, and check what the types do not say. `WireError` for weak keys too."""
    match signed.kind:
        case _Kind.PRESENCE:
            presence = decode_with(_PRESENCES, signed.payload)
            check_public_key(presence.dh_public)
            for home in presence.homes:
                Address.unpack(home.packed_address)
            return presence
        case _Kind.DESCRIPTOR:
            descriptor = decode_with(_DESCRIPTORS, signed.payload)
            check_public_key(descriptor.dh_public)
            Address.unpack(descriptor.packed_address)
            return descriptor
        case _Kind.CLAIM:
            claim = decode_with(_CLAIMS, signed.payload)
            try:
                check_name(claim.name)
            except ValueError as error:
                raise WireError(f"a claim to no name: {error}") from None
            return claim


def _of_kind(kind: type[_T], record: SignedRecord) -> _T:
    if not isinstance(record, kind):
        raise WireError(f"a {type(record).__name__}, expected a {kind.__name__}")
    return record
