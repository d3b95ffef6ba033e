"""One thing said over a sealed line: a request, its answer, or a notice.

    offset 0   kind      1 byte: 0 request, 1 answer, 2 notice
    offset 1   number    4 bytes, little-endian: an answer repeats its request's number;
                         0 in a notice
    offset 5   body      `overlay.messages` between nodes, `overlay.call_messages`
                         between the two ends of a call

Nothing may be appended: the body reaches to the end.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from nat.errors import WireError

__all__ = [
    "ENVELOPE_BYTES_MAX",
    "Envelope",
    "EnvelopeKind",
    "decode_early",
    "decode_envelope",
    "encode_envelope",
]

ENVELOPE_BYTES_MAX: Final = 1_137
# 1,200 bytes of datagram less a relay's header (9), a sealed header (13), a tag (16)
# and the envelope of an introduction around it (25).


class EnvelopeKind(enum.IntEnum):
    """The first byte of an envelope."""

    REQUEST = 0
    ANSWER = 1
    NOTICE = 2


@dataclass(frozen=True, slots=True)
class Envelope:
    """What it is, which one, and the body, not yet decoded."""

    kind: EnvelopeKind
    number: int
    body: bytes


_HEADER_BYTES: Final = 5
# kind 1, number 4


def encode_envelope(envelope: Envelope) -> bytes:
    """Give the wire form of an envelope."""
    number = envelope.number.to_bytes(4, "little")
    return bytes((envelope.kind,)) + number + envelope.body


def decode_envelope(encoded: bytes) -> Envelope:
    """Read an envelope; its body stays as it is. Raises `WireError`."""
    if len(encoded) < _HEADER_BYTES:
        raise WireError(f"an envelope of {len(encoded)} bytes, expected 5 or more")
    if encoded[0] > EnvelopeKind.NOTICE:
        raise WireError(f"an envelope of kind {encoded[0]}, expected 0, 1 or 2")
    number = int.from_bytes(encoded[1:_HEADER_BYTES], "little")
    return Envelope(EnvelopeKind(encoded[0]), number, encoded[_HEADER_BYTES:])


def decode_early(encoded: bytes | None, kind: EnvelopeKind) -> Envelope | None:
    """Read what rode in a handshake message, if anything did: it has to be of `kind`.

    Raises `WireError`.
    """
    if encoded is None:
        return None
    envelope = decode_envelope(encoded)
    if envelope.kind is not kind:
        raise WireError(f"{envelope.kind.name} in a handshake, expected {kind.name}")
    return envelope
