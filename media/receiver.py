"""From packets to frames: what comes in whenever, one frame out per 20 ms.

The jitter buffer decides, the decoder makes sound of it. Long gaps fade out: after 3
made-up frames by 6 dB a frame, for what a codec makes up for longer is a hum. Coming
back, and cutting a frame out, fade over 5 ms. A machine; the decoder is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, assert_never

import numpy as np

from media.errors import WireError
from media.frame import FRAME_S, FRAME_SAMPLES, Pcm, silence
from media.jitter import Conceal, JitterBuffer, JitterStatistics, Play, Recover, Silent
from media.packet import Quiet, QuietReason, VoiceFrame
from media.quality import Reception, mos

__all__ = ["FrameDecoder", "Receiver", "ReceiverStatistics"]

CONCEALED_AT_FULL: Final = 3
FADE_PER_FRAME: Final = 0.5
FADED_OUT: Final = 0.01
RAMP_SAMPLES: Final = 240
QUIET_PEAK: Final = 600
# -35 dBFS: room noise and the pauses between words.
MEMORY_FRAMES: Final = 250
# Shares of concealed and repaired frames look back about 5 s.
FEC_ARMED_SHARE: Final = 0.1
# An encoder with FEC armed repeats speech only, not the pauses.
APPARATUS_S: Final = 0.06
# Packetising, look-ahead and sound cards of both sides, beside network and buffer.


class FrameDecoder(Protocol):
    """What turns packets into frames: `media.opus.Decoder`."""

    def decode(self, packet: bytes) -> Pcm:
        """Decode a packet; `WireError` if it is none."""
        ...

    def decode_fec(self, next_packet: bytes) -> Pcm:
        """Decode the frame before `next_packet` from it; `WireError` likewise."""
        ...

    def conceal(self) -> Pcm:
        """Make up a frame."""
        ...

    def has_lbrr(self, packet: bytes) -> bool:
        """Whether `decode_fec` of it is better than `conceal`."""
        ...


@dataclass(frozen=True, slots=True)
class ReceiverStatistics:
    """Counts since the start, and the state of now."""

    expected: int
    received: int
    lost: int
    duplicates: int
    garbage: int
    """Payloads that are not 20 ms of Opus."""
    played: int
    concealed: int
    fec_recovered: int
    loss: float
    """Share of frames that did not come, over the last 5 s."""
    jitter_s: float
    """RFC 3550 §6.4.1."""
    buffer: JitterStatistics


class Receiver:
    """One side's incoming voice; lives as long as the call."""

    def __init__(self, decoder: FrameDecoder) -> None:
        self._decoder = decoder
        self._buffer = JitterBuffer()
        self._reception = Reception()
        self._gain = 1.0
        self._made_up = 0
        self._was_quiet = True
        self._played = self._concealed = self._recovered = self._garbage = 0
        self._concealed_share = self._repaired_share = 0.0
        self._payload_bytes = 0
        self._repeating_share = 0.0

    @property
    def played(self) -> int:
        """How many frames were played as they were sent."""
        return self._played

    @property
    def played_to_slot(self) -> int:
        """The sender's slot that comes next."""
        return self._buffer.played_to_slot

    @property
    def peer_muted(self) -> bool:
        """Whether the sender said that it is muted."""
        quiet = self._buffer.quiet
        return quiet is not None and quiet.reason is QuietReason.MUTED

    @property
    def has_ended(self) -> bool:
        """Whether the sender's audio has ended and all of it has been played."""
        quiet = self._buffer.quiet
        ended = quiet is not None and quiet.reason is QuietReason.ENDED
        return ended and self._buffer.has_ended

    def statistics(self) -> ReceiverStatistics:
        """Give the counts and the state of now."""
        return ReceiverStatistics(
            expected=self._reception.expected,
            received=self._reception.received,
            lost=self._reception.lost,
            duplicates=self._reception.duplicates,
            garbage=self._garbage,
            played=self._played,
            concealed=self._concealed,
            fec_recovered=self._recovered,
            loss=self._reception.loss,
            jitter_s=self._reception.jitter_s,
            buffer=self._buffer.statistics(),
        )

    def mos(self, network_s: float) -> float | None:
        """Estimate what a listener would say, `network_s` being one way.

        None before there was anything to hear.
        """
        if not self._played:
            return None
        delay_s = self._buffer.statistics().delay_s
        return mos(
            concealed=self._concealed_share,
            repaired=self._repaired_share,
            one_way_s=network_s + max(delay_s, 0.0) + APPARATUS_S,
            bitrate_bps=self._payload_bytes * 8 / FRAME_S,
            fec=self._repeating_share > FEC_ARMED_SHARE,
        )

    def receive(self, packet: VoiceFrame | Quiet, now: float) -> None:
        """Take in what came `now`."""
        if isinstance(packet, VoiceFrame):
            if not self._reception.receive(packet.sequence, packet.slot, now):
                return
            self._payload_bytes = len(packet.payload)
        self._buffer.receive(packet, now)

    def pull(self, now: float) -> Pcm:
        """Give the frame to play in the 20 ms from `now` on; once for each 20 ms."""
        match self._buffer.pull(now, quiet=self._was_quiet):
            case Play(payload, skipped):
                frame = self._play(payload, skipped)
            case Recover(next_payload):
                frame = self._recover(next_payload)
            case Conceal():
                frame = self._conceal()
            case Silent():
                self._made_up = 0
                frame = silence()
            case playout:
                assert_never(playout)
        self._was_quiet = bool(np.abs(frame).max() < QUIET_PEAK)
        return self._fade(frame)

    def _play(self, payload: bytes, skipped: bytes | None) -> Pcm:
        try:
            before = self._decoder.decode(skipped) if skipped else None
            frame = self._decoder.decode(payload)
        except WireError:
            self._garbage += 1
            return self._conceal()
        repeating = self._decoder.has_lbrr(payload)
        self._repeating_share += (repeating - self._repeating_share) / MEMORY_FRAMES
        self._played += 1
        self._remember(concealed=False, repaired=False)
        self._made_up = 0
        return frame if before is None else _fade_over(before, frame)

    def _recover(self, next_payload: bytes) -> Pcm:
        if not self._decoder.has_lbrr(next_payload):
            return self._conceal()
        try:
            frame = self._decoder.decode_fec(next_payload)
        except WireError:
            return self._conceal()
        self._recovered += 1
        self._remember(concealed=False, repaired=True)
        self._made_up = 0
        return frame

    def _conceal(self) -> Pcm:
        self._concealed += 1
        self._remember(concealed=True, repaired=False)
        self._made_up += 1
        return self._decoder.conceal()

    def _remember(self, *, concealed: bool, repaired: bool) -> None:
        self._concealed_share += (concealed - self._concealed_share) / MEMORY_FRAMES
        self._repaired_share += (repaired - self._repaired_share) / MEMORY_FRAMES

    def _fade(self, frame: Pcm) -> Pcm:
        """Apply the volume that so many made-up frames leave, without a step."""
        gain = FADE_PER_FRAME ** max(0, self._made_up - CONCEALED_AT_FULL)
        gain = gain if gain > FADED_OUT else 0.0
        if gain == self._gain == 1.0:
            return frame
        volume = np.full(FRAME_SAMPLES, gain)
        volume[:RAMP_SAMPLES] = np.linspace(self._gain, gain, RAMP_SAMPLES)
        self._gain = gain
        faded: Pcm = (frame * volume).astype(np.int16)
        return faded


def _fade_over(before: Pcm, frame: Pcm) -> Pcm:
    """Start as `before` did and go on as `frame`."""
    rising = np.linspace(0.0, 1.0, RAMP_SAMPLES)
    frame[:RAMP_SAMPLES] = (
        before[:RAMP_SAMPLES] * (1 - rising) + frame[:RAMP_SAMPLES] * rising
    ).astype(np.int16)
    return frame
