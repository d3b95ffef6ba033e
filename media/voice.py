"""The voice of one call: a microphone and a speaker at one end of a channel. A service.

Two tasks keep the same 20 ms beat (`media/ticks.py`): one captures, encodes and sends,
the other pulls from the jitter buffer and plays. A third takes what the channel brings,
a fourth reports each second how the other side is heard.

    microphone -> Sender -> channel -> ... -> channel -> Receiver -> speaker

The channel carries datagrams of at most 1,000 bytes and may lose, repeat and reorder
them. It belongs to whoever opened it; when it closes, voice stops and
`Voice.channel_closed` is set. When the microphone's file ends, the voice goes on
listening. Leaving the context stops all at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from media.device import Microphone, Speaker
from media.errors import DeviceError, EndOfAudio, WireError
from media.frame import FRAME_S, Pcm
from media.opus import Decoder, Encoder
from media.packet import NO_ECHO, Report, decode, encode
from media.receiver import Receiver
from media.sender import Sender
from media.ticks import Ticks

__all__ = ["Voice", "VoiceSettings", "VoiceStatistics", "open_voice"]

REPORT_S: Final = 1.0
LATE_GRACE_S: Final = 0.005
CLOCK_MS_MODULUS: Final = 2**32


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """How to encode; a ladder that follows the reports belongs here.

    The defaults spend bandwidth on repair. Wide-band PESQ of the shipped clip through
    libopus 1.6.1 (and 1.3.1), at a constant rate:

        kbit/s  FEC   no loss      5 % lost
        24      off   4.41 (4.40)  3.0 (3.0)
        24      10 %  4.21 (3.68)  3.9 (3.6)
        32      10 %  4.36 (4.16)  4.1 (4.0)

    At 24 kbit/s and a constant rate, an expected loss of 5 % or less arms no FEC.
    """

    bitrate_bps: int = 32_000
    complexity: int = 10
    fec: bool = True
    expected_loss_percent: int = 10


@dataclass(frozen=True, slots=True)
class VoiceStatistics:
    """A voice's counts since its start, and its state now; instants by its clock."""

    sent: int
    received: int
    lost: int
    concealed: int
    fec_recovered: int
    late: int
    duplicates: int
    garbage: int
    played: int
    loss: float
    jitter_ms: float
    buffer_ms: float
    delay_ms: float
    target_ms: float
    mos: float | None
    """None before any voice was heard."""
    rtt_ms: float | None
    muted: bool
    peer_muted: bool
    theirs: Report | None
    """How the other side hears us, by its newest report."""
    first_sent_at: float | None
    first_played_at: float | None
    finished_sending_at: float | None
    microphone_error: DeviceError | None
    speaker_error: DeviceError | None


class Voice:
    """One side of a call's sound, while its context is open."""

    def __init__(
        self,
        channel: trio.abc.Channel[bytes],
        microphone: Microphone,
        speaker: Speaker,
        settings: VoiceSettings,
        clock: Callable[[], float],
    ) -> None:
        self._channel = channel
        self._microphone = microphone
        self._speaker = speaker
        self._clock = clock
        self._sender = Sender(
            Encoder(
                bitrate_bps=settings.bitrate_bps,
                complexity=settings.complexity,
                fec=settings.fec,
                expected_loss_percent=settings.expected_loss_percent,
            )
        )
        self._receiver = Receiver(Decoder())
        self._garbage = 0
        self._theirs: Report | None = None
        self._theirs_at = 0.0
        self._rtt_s: float | None = None
        self._first_sent_at: float | None = None
        self._first_played_at: float | None = None
        self._finished_sending_at: float | None = None
        self._microphone_error: DeviceError | None = None
        self._speaker_error: DeviceError | None = None
        self._played_out = trio.Event()
        self.finished_playing_in = trio.Event()
        """Set when the microphone's file has been sent to its end."""
        self.heard_out = trio.Event()
        """Set when the other side's file has ended and been played here to its end."""
        self.channel_closed = trio.Event()
        """Set when the channel is closed, from either end: nothing moves any more."""

    @property
    def muted(self) -> bool:
        """Whether the microphone is read but nothing of it sent."""
        return self._sender.muted

    @muted.setter
    def muted(self, muted: bool) -> None:
        self._sender.muted = muted

    async def wait_played_out(self) -> None:
        """Wait until the other side reports that it has played all of our file.

        For ever, if our microphone has no end or their reports do not come.
        """
        await self._played_out.wait()

    def statistics(self) -> VoiceStatistics:
        """Give the counts and the state of now."""
        receiver = self._receiver.statistics()
        return VoiceStatistics(
            sent=self._sender.sent,
            received=receiver.received,
            lost=receiver.lost,
            concealed=receiver.concealed,
            fec_recovered=receiver.fec_recovered,
            late=receiver.buffer.late,
            duplicates=receiver.duplicates,
            garbage=self._garbage + receiver.garbage,
            played=receiver.played,
            loss=receiver.loss,
            jitter_ms=receiver.jitter_s * 1e3,
            buffer_ms=receiver.buffer.buffer_s * 1e3,
            delay_ms=max(0.0, receiver.buffer.delay_s * 1e3),
            target_ms=receiver.buffer.target_s * 1e3,
            mos=self._mos(),
            rtt_ms=None if self._rtt_s is None else self._rtt_s * 1e3,
            muted=self._sender.muted,
            peer_muted=self._receiver.peer_muted,
            theirs=self._theirs,
            first_sent_at=self._first_sent_at,
            first_played_at=self._first_played_at,
            finished_sending_at=self._finished_sending_at,
            microphone_error=self._microphone_error,
            speaker_error=self._speaker_error,
        )

    async def run(self) -> None:
        """Carry voice until the channel closes; `open_voice` does this."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._capture)
            nursery.start_soon(self._play)
            nursery.start_soon(self._receive)
            nursery.start_soon(self._report_each_second)
            await self.channel_closed.wait()
            nursery.cancel_scope.cancel()

    async def _capture(self) -> None:
        while not self.finished_playing_in.is_set():
            try:
                frame = await self._microphone.read()
            except (EndOfAudio, DeviceError) as end:
                self._microphone_error = end if isinstance(end, DeviceError) else None
                self._finished_sending_at = self._clock()
                self.finished_playing_in.set()
            else:
                await self._send(self._sender.send(frame))
        ticks = Ticks()
        while True:
            await self._send(self._sender.send(None))
            await ticks.wait()

    async def _send(self, datagram: bytes | None) -> None:
        if datagram is None:
            return
        try:
            await self._channel.send(datagram)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.channel_closed.set()
            return
        if self._first_sent_at is None and self._sender.sent:
            self._first_sent_at = self._clock()

    async def _play(self) -> None:
        ticks = Ticks()
        while True:
            due = await ticks.wait()
            if trio.current_time() - due > FRAME_S:
                # The whole process was late: packets of that time are waiting to be
                # read, and count as lost if we do not let the readers go first.
                await trio.sleep(LATE_GRACE_S)
            frame = self._receiver.pull(due)
            if self._first_played_at is None and self._receiver.played:
                self._first_played_at = self._clock()
            self._write(frame)
            if self._receiver.has_ended and not self.heard_out.is_set():
                self.heard_out.set()
                await self._send(encode(self._report()))

    def _write(self, frame: Pcm) -> None:
        if self._speaker_error is not None:
            return
        try:
            self._speaker.write(frame)
        except DeviceError as error:
            self._speaker_error = error

    async def _receive(self) -> None:
        try:
            async for datagram in self._channel:
                self._take(datagram, trio.current_time())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.channel_closed.set()

    def _take(self, datagram: bytes, now: float) -> None:
        try:
            packet = decode(datagram)
        except WireError:
            self._garbage += 1
            return
        if isinstance(packet, Report):
            self._heed(packet, now)
        else:
            self._receiver.receive(packet, now)

    def _heed(self, report: Report, now: float) -> None:
        self._theirs, self._theirs_at = report, now
        if report.echo_held_ms != NO_ECHO:
            away_ms = (_milliseconds(now) - report.echo_ms) % CLOCK_MS_MODULUS
            self._rtt_s = max(0, away_ms - report.echo_held_ms) / 1e3
        ended_at_slot = self._sender.ended_at_slot
        if ended_at_slot is not None and report.played_to_slot >= ended_at_slot:
            self._played_out.set()

    async def _report_each_second(self) -> None:
        ticks = Ticks(REPORT_S)
        while True:
            await ticks.wait()
            await self._send(encode(self._report()))

    def _report(self) -> Report:
        statistics = self._receiver.statistics()
        now = trio.current_time()
        held_ms = round((now - self._theirs_at) * 1e3)
        return Report(
            expected=statistics.expected,
            received=statistics.received,
            concealed=statistics.concealed,
            jitter_us=min(round(statistics.jitter_s * 1e6), 2**32 - 1),
            delay_ms=min(max(round(statistics.buffer.delay_s * 1e3), 0), 2**16 - 1),
            mos_hundredths=round((self._mos() or 0.0) * 100),
            played_to_slot=self._receiver.played_to_slot,
            sent_at_ms=_milliseconds(now),
            echo_ms=self._theirs.sent_at_ms if self._theirs else 0,
            echo_held_ms=min(held_ms, NO_ECHO) if self._theirs else NO_ECHO,
        )

    def _mos(self) -> float | None:
        return self._receiver.mos(network_s=(self._rtt_s or 0.0) / 2)


@asynccontextmanager
async def open_voice(
    channel: trio.abc.Channel[bytes],
    microphone: Microphone,
    speaker: Speaker,
    settings: VoiceSettings | None = None,
    *,
    clock: Callable[[], float] = trio.current_time,
) -> AsyncIterator[Voice]:
    """Carry voice between the devices and the channel until the context is left.

    `clock` dates the instants in the statistics. Raises `OpusMissing`. Devices that
    fail on the way end in the statistics, not in an exception.
    """
    voice = Voice(channel, microphone, speaker, settings or VoiceSettings(), clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(voice.run)
        yield voice
        nursery.cancel_scope.cancel()


def _milliseconds(now: float) -> int:
    return round(now * 1e3) % CLOCK_MS_MODULUS
