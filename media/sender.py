"""From captured frames to packets: one frame in per 20 ms, at most one packet out.

Muted means that no voice leaves, not even encoded silence: only a marker each 60 ms,
which also keeps paths and relays awake. The same holds after the end of a file. A
machine; the encoder is handed in.
"""

from __future__ import annotations

from typing import Final, Protocol

from media.frame import Pcm
from media.packet import Quiet, QuietReason, VoiceFrame, encode

__all__ = ["FrameEncoder", "Sender"]

MARKER_SLOTS: Final = 3
# 60 ms: the keepalive by which the other side notices a dead path.


class FrameEncoder(Protocol):
    """What turns a frame into a packet: `media.opus.Encoder`."""

    def encode(self, frame: Pcm) -> bytes:
        """Encode one frame."""
        ...


class Sender:
    """One side's outgoing voice; lives as long as the call."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder
        self._slot = 0
        self._quiet: Quiet | None = None
        self.sent = 0
        self.muted = False

    @property
    def ended_at_slot(self) -> int | None:
        """The slot since which there is nothing more to send, if it has come."""
        if self._quiet and self._quiet.reason is QuietReason.ENDED:
            return self._quiet.since
        return None

    def send(self, frame: Pcm | None) -> bytes | None:
        """Give the datagram for 20 ms; None as `frame`: the audio has ended."""
        slot = self._slot
        self._slot += 1
        if frame is None:
            return self._mark(QuietReason.ENDED, slot)
        if self.muted:
            return self._mark(QuietReason.MUTED, slot)
        self._quiet = None
        packet = VoiceFrame(self.sent, slot, self._encoder.encode(frame))
        self.sent += 1
        return encode(packet)

    def _mark(self, reason: QuietReason, slot: int) -> bytes | None:
        if self._quiet is None or self._quiet.reason is not reason:
            since = self._quiet.since if self._quiet else slot
            self._quiet = Quiet(reason, self.sent, since)
            return encode(self._quiet)
        if (slot - self._quiet.since) % MARKER_SLOTS:
            return None
        return encode(self._quiet)
