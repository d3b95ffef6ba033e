"""Sound cards, through PortAudio. A facade over sounddevice, which is loaded late.

PortAudio calls back from a thread of its own, each 10 ms. The callback only moves bytes
to or from a ring; reading and writing happen on the beat of `media/ticks.py`, so the
card's clock never paces a call. Rings of at most 200 ms absorb the difference: fuller
than they need be, they lose a block; empty, they give silence.

What drivers do, and what is done about it:

- PortAudio is missing: sounddevice cannot even be imported (`PortAudioMissing`).
- A duplex stream stalls under PulseAudio: microphone and speaker are streams apart.
- A stream starts late, or falls silent for ever: it is restarted when it has not called
  back for 2 s, until that too fails.
- ALSA's `null` device calls back as fast as it can (38,000 times a second): a device
  faster than 1.1 x the clock is taken out, and silence put in its place, paced.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import numpy as np
import trio

from media.device import DeviceInfo
from media.errors import DeviceFailed, NoDevice, Notice, PortAudioMissing
from media.frame import FRAME_SAMPLES, RATE_HZ, Pcm, silence
from media.ticks import Ticks

__all__ = [
    "SoundMicrophone",
    "SoundSpeaker",
    "list_sound_devices",
    "open_sound_microphone",
    "open_sound_speaker",
]

BLOCK_SAMPLES: Final = 480
BLOCK_BYTES: Final = 2 * BLOCK_SAMPLES
RING_BLOCKS_MAX: Final = 20
# 200 ms: what a busy machine's beat may be late without losing sound.
FILL_BLOCKS: Final = 4
# 40 ms in a ring before the first is taken, so that it does not run dry at once.
TRIM_TAKES: Final = 50
# Every second or half: 10 ms a second outruns any drift.
WATCH_S: Final = 0.5
SILENT_S_MAX: Final = 2.0
RESTARTS_MAX: Final = 3
# In a row that never called back, each given 2 s: by then the card is gone.
UNPACED_RATIO: Final = 1.1
UNPACED_AFTER_BLOCKS: Final = 100
# Judged on 1 s of sound at least: drivers deliver their first blocks in a burst.


class _Ring:
    """Blocks between PortAudio's thread and ours; the oldest give way.

    One side only puts, the other only takes. A deque's single operations are atomic, so
    the callback never waits for a lock.
    """

    def __init__(self) -> None:
        self._blocks: deque[bytes] = deque(maxlen=RING_BLOCKS_MAX)
        self._filling = True
        self._takes = 0
        self._least = RING_BLOCKS_MAX
        self.blocks_called = 0
        """How many blocks the device has given or taken."""

    def put(self, block: bytes) -> None:
        self._blocks.append(block)

    def take(self, count: int) -> bytes | None:
        """Give `count` blocks; None, and fill up anew, if they are not there."""
        depth = len(self._blocks)
        self._filling = depth < (FILL_BLOCKS if self._filling else count)
        if self._filling:
            return None
        self._trim(depth - count)
        return b"".join(self._blocks.popleft() for _ in range(count))

    def clear(self) -> None:
        self._blocks.clear()

    def _trim(self, left: int) -> None:
        """Drop a block if all the last takes left more than needed: clocks drift."""
        self._takes += 1
        self._least = min(self._least, left)
        if self._takes == TRIM_TAKES:
            if self._least > FILL_BLOCKS:
                self._blocks.popleft()
            self._takes, self._least = 0, RING_BLOCKS_MAX


class SoundMicrophone:
    """A sound card's input while its context is open."""

    def __init__(self, ring: _Ring, watch: _Watch) -> None:
        self._ring = ring
        self._watch = watch
        self._ticks: Ticks | None = None

    @property
    def notices(self) -> Sequence[Notice]:
        """What became of the device."""
        return self._watch.notices

    async def read(self) -> Pcm:
        """Wait for the next beat and give 20 ms, silent if the card is behind.

        Raises `DeviceFailed` when the card is beyond restarting.
        """
        self._ticks = self._ticks or Ticks()
        await self._ticks.wait()
        self._watch.check()
        captured = self._ring.take(FRAME_SAMPLES // BLOCK_SAMPLES)
        return silence() if captured is None else np.frombuffer(captured, np.int16)


class SoundSpeaker:
    """A sound card's output while its context is open."""

    def __init__(self, ring: _Ring, watch: _Watch) -> None:
        self._ring = ring
        self._watch = watch

    @property
    def notices(self) -> Sequence[Notice]:
        """What became of the device."""
        return self._watch.notices

    def write(self, frame: Pcm) -> None:
        """Queue a frame. Raises `DeviceFailed` when the card is beyond restarting."""
        self._watch.check()
        samples = frame.tobytes()
        for start in range(0, len(samples), BLOCK_BYTES):
            self._ring.put(samples[start : start + BLOCK_BYTES])


@dataclass(frozen=True, slots=True)
class _Stream:
    """A started PortAudio stream, and how to end it. `Any`: sounddevice is untyped."""

    raw: Any

    def close(self) -> None:
        self.raw.close(ignore_errors=True)


class _Watch:
    """Keeps one stream alive; lives as long as the device's context."""

    def __init__(self, name: str, ring: _Ring, start: Callable[[], _Stream]) -> None:
        self._name = name
        self._ring = ring
        self._start = start
        self._stream: _Stream | None = None
        self._failure: str | None = None
        self.notices: tuple[Notice, ...] = ()

    def check(self) -> None:
        """Raise `DeviceFailed` if the device is lost."""
        if self._failure is not None:
            raise DeviceFailed(self._failure)

    async def run(self) -> None:
        """Look after the stream until it is lost, taken out, or this is cancelled."""
        dumb = 0
        while await self._wait_dead():
            dumb = 0 if self._ring.blocks_called else dumb + 1
            if dumb > RESTARTS_MAX:
                self._failure = f"{self._name} is silent after {RESTARTS_MAX} restarts"
                return
            await self.close()
            try:
                await self.open()
            except (NoDevice, DeviceFailed) as error:
                self._failure = error.cause
                return

    async def open(self) -> None:
        """Start the stream. Raises `NoDevice`, `DeviceFailed`."""
        self._ring.blocks_called = 0
        self._stream = await trio.to_thread.run_sync(self._start)

    async def close(self) -> None:
        """Stop the stream, even in a cancelled scope: PortAudio needs 100 ms for it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(stream.close)

    async def _wait_dead(self) -> bool:
        """Wait until the stream is dead; False if it is taken out instead."""
        started_at = trio.current_time()
        heard_at, heard = started_at, 0
        while True:
            await trio.sleep(WATCH_S)
            now, called = trio.current_time(), self._ring.blocks_called
            if self._is_unpaced(called, now - started_at):
                await self.close()
                self._ring.clear()
                self.notices = (_unpaced(self._name),)
                return False
            if called != heard:
                heard_at, heard = now, called
            elif now - heard_at >= SILENT_S_MAX:
                return True

    def _is_unpaced(self, called: int, elapsed_s: float) -> bool:
        played_s = called * BLOCK_SAMPLES / RATE_HZ
        enough = called >= UNPACED_AFTER_BLOCKS
        return enough and played_s > UNPACED_RATIO * elapsed_s + WATCH_S


@asynccontextmanager
async def open_sound_microphone(name: str | None) -> AsyncIterator[SoundMicrophone]:
    """Open a sound card's input, the default one for None.

    Raises `PortAudioMissing`, `NoDevice`, `DeviceFailed`. Threads open and close it.
    """
    ring = _Ring()

    def callback(data: Any, _frames: int, _time: Any, _status: Any) -> None:
        ring.blocks_called += 1
        ring.put(bytes(data))

    def start() -> _Stream:
        return _start_stream("RawInputStream", name, callback)

    watch = _Watch(name or "the default microphone", ring, start)
    async with _watched(watch):
        yield SoundMicrophone(ring, watch)


@asynccontextmanager
async def open_sound_speaker(name: str | None) -> AsyncIterator[SoundSpeaker]:
    """Open a sound card's output, the default one for None.

    Raises `PortAudioMissing`, `NoDevice`, `DeviceFailed`. Threads open and close it.
    """
    ring = _Ring()

    def callback(data: Any, _frames: int, _time: Any, _status: Any) -> None:
        ring.blocks_called += 1
        data[:] = ring.take(1) or bytes(len(data))

    def start() -> _Stream:
        return _start_stream("RawOutputStream", name, callback)

    watch = _Watch(name or "the default speaker", ring, start)
    async with _watched(watch):
        yield SoundSpeaker(ring, watch)


@asynccontextmanager
async def _watched(watch: _Watch) -> AsyncIterator[None]:
    await watch.open()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            yield
            nursery.cancel_scope.cancel()
    finally:
        await watch.close()


def list_sound_devices() -> tuple[DeviceInfo, ...]:
    """Give the sound cards' inputs and outputs. Raises `PortAudioMissing`."""
    sounddevice = _load()
    default_input, default_output = sounddevice.default.device
    return tuple(
        DeviceInfo(
            spec=f"sound:{found['name']}",
            description=sounddevice.query_hostapis(found["hostapi"])["name"],
            inputs=found["max_input_channels"],
            outputs=found["max_output_channels"],
            is_default=found["index"] in (default_input, default_output),
        )
        for found in sounddevice.query_devices()
    )


_starting = threading.Lock()
"""PortAudio is not thread-safe where streams are opened, and sounddevice's import
initialises it."""


def _start_stream(
    kind: str, name: str | None, callback: Callable[..., None]
) -> _Stream:
    with _starting:
        sounddevice = _load()
        try:
            sounddevice.query_devices(name, "input" if "Input" in kind else "output")
        except (sounddevice.PortAudioError, ValueError) as error:
            raise NoDevice(str(error) if name else "this machine has none") from None
        try:
            stream = getattr(sounddevice, kind)(
                samplerate=RATE_HZ,
                blocksize=BLOCK_SAMPLES,
                device=name,
                channels=1,
                dtype="int16",
                callback=callback,
            )
            stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DeviceFailed(f"{name or 'the default device'}: {error}") from None
        return _Stream(stream)


def _load() -> ModuleType:
    try:
        import sounddevice
    except OSError as error:
        raise PortAudioMissing(str(error)) from None
    loaded: ModuleType = sounddevice
    return loaded


def _unpaced(name: str) -> Notice:
    return Notice(
        code="103",
        title="Audio device replaced by silence",
        cause=f"{name} plays faster than time passes, so it is no real device",
        next_step="Choose a real one from `koe devices`.",
    )
