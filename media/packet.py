"""What travels over a call's channel: voice, quiet, and reports. A codec.

The channel has authenticated and encrypted these bytes already; lengths are all that
anybody on the path sees, and voice at a constant bit rate has one length whatever is
said. All numbers are unsigned, in network byte order. Byte 0 is the version (1) in the
high and the kind in the low four bits.

*Slots* number the 20 ms of a sender's time, from 0 as it starts; *sequences* number the
voice frames it sent. A slot without a frame was quiet, a missing sequence was lost.

    VoiceFrame  0x11                        Report  0x13
    offset 0   kind                         offset 0   kind
           1   flags, 0 for now                    1   flags, 0 for now
           2   sequence         u32                2   expected frames  u32
           6   slot             u32                6   received frames  u32
          10   payload length   u16               10   concealed frames u32
          12   Opus packet                        14   jitter, us       u32
                                                  18   buffer delay, ms u16
    Quiet       0x12                              20   MOS x 100        u16
    offset 0   kind                               22   played to slot   u32
           1   reason: 1 muted, 2 ended           26   sent at, ms      u32
           2   next sequence    u32               30   echoed, ms       u32
           6   quiet since slot u32               34   echo held, ms    u16

Later versions may set flags and append (redundant copies go behind a voice frame's
payload); readers ignore flags and bytes they do not know. Unknown kinds, versions and
reasons are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias, assert_never

from media.errors import WireError

__all__ = [
    "DATAGRAM_BYTES_MAX",
    "NO_ECHO",
    "Packet",
    "Quiet",
    "QuietReason",
    "Report",
    "VoiceFrame",
    "decode",
    "encode",
]

DATAGRAM_BYTES_MAX: Final = 1_000
# What the channel of a call promises to carry in one piece.
NO_ECHO: Final = 0xFFFF
# `echo_held_ms` of a report by someone who has not received one yet.

VOICE: Final = 0x11
QUIET: Final = 0x12
REPORT: Final = 0x13

VOICE_FORM: Final = struct.Struct("!BxIIH")
QUIET_FORM: Final = struct.Struct("!BBII")
REPORT_FORM: Final = struct.Struct("!BxIIIIHHIIIH")

PAYLOAD_BYTES_MAX: Final = DATAGRAM_BYTES_MAX - VOICE_FORM.size


class QuietReason(IntEnum):
    """Why a sender sends no voice."""

    MUTED = 1
    ENDED = 2


@dataclass(frozen=True, slots=True)
class VoiceFrame:
    """20 ms of voice: the Opus packet `payload`, of 1 to 988 bytes."""

    sequence: int
    slot: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Quiet:
    """No voice since slot `since`; repeated while it lasts, also to keep paths open.

    `next_sequence` says how many frames came before, so that losses right before the
    pause are seen as such.
    """

    reason: QuietReason
    next_sequence: int
    since: int


@dataclass(frozen=True, slots=True)
class Report:
    """How the sender of this report hears the other side; one a second.

    `echo_ms` repeats the `sent_at_ms` of the newest report received, `echo_held_ms`
    later; so whoever gets it knows the round trip (RFC 3550 §6.4.1 has the idea).
    """

    expected: int
    received: int
    concealed: int
    jitter_us: int
    delay_ms: int
    mos_hundredths: int
    played_to_slot: int
    sent_at_ms: int
    echo_ms: int
    echo_held_ms: int

    @property
    def lost(self) -> int:
        """Frames that never came, or have not yet."""
        return max(0, self.expected - self.received)


Packet: TypeAlias = VoiceFrame | Quiet | Report


def encode(packet: Packet) -> bytes:
    """Give the datagram of a packet, at most 1,000 bytes."""
    match packet:
        case VoiceFrame(sequence, slot, payload):
            assert 0 < len(payload) <= PAYLOAD_BYTES_MAX, len(payload)
            return VOICE_FORM.pack(VOICE, sequence, slot, len(payload)) + payload
        case Quiet(reason, next_sequence, since):
            return QUIET_FORM.pack(QUIET, reason, next_sequence, since)
        case Report():
            return REPORT_FORM.pack(
                REPORT,
                packet.expected,
                packet.received,
                packet.concealed,
                packet.jitter_us,
                packet.delay_ms,
                packet.mos_hundredths,
                packet.played_to_slot,
                packet.sent_at_ms,
                packet.echo_ms,
                packet.echo_held_ms,
            )
        case _:
            assert_never(packet)


def decode(datagram: bytes) -> Packet:
    """Read a packet. Raises `WireError`."""
    try:
        match datagram[0] if datagram else None:
            case 0x11:
                return _decode_voice(datagram)
            case 0x12:
                _, reason, sequence, since = QUIET_FORM.unpack_from(datagram)
                return Quiet(_reason(reason), sequence, since)
            case 0x13:
                _, *fields = REPORT_FORM.unpack_from(datagram)
                return Report(*fields)
            case kind:
                raise WireError(f"a packet of kind {kind}, expected 0x11 to 0x13")
    except struct.error as cause:
        raise WireError(f"a packet of {len(datagram)} bytes: {cause}") from None


def _decode_voice(datagram: bytes) -> VoiceFrame:
    _, sequence, slot, length = VOICE_FORM.unpack_from(datagram)
    payload = datagram[VOICE_FORM.size : VOICE_FORM.size + length]
    if not 0 < length <= PAYLOAD_BYTES_MAX or len(payload) != length:
        raise WireError(f"a payload of {length} bytes, of which {len(payload)} came")
    return VoiceFrame(sequence, slot, payload)


def _reason(number: int) -> QuietReason:
    try:
        return QuietReason(number)
    except ValueError:
        raise WireError(f"a quiet for reason {number}, expected 1 or 2") from None
