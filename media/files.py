"""Audio files as devices: any file played in real time, WAV recorded.

PyAV reads what FFmpeg reads and turns it into 48 kHz mono as it goes; nothing but the
20 ms at hand (and one packet of the file) is held in memory.
"""

from __future__ import annotations

import os
import wave
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import numpy as np
import trio

from media.errors import (
    EndOfAudio,
    FileUnreadable,
    Notice,
    RecordingFailed,
    UnsupportedRate,
)
from media.frame import FRAME_SAMPLES, RATE_HZ, Pcm
from media.ticks import Ticks

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["FileMicrophone", "WavRecording", "open_playing", "open_recording"]

RATE_HZ_MIN: Final = 8_000
RATE_HZ_MAX: Final = 192_000
HEADER_EVERY_FRAMES: Final = 50
# A recording whose writer is killed is short of at most 1 s.


@asynccontextmanager
async def open_playing(path: str) -> AsyncIterator[FileMicrophone]:
    """Open an audio file as a microphone.

    Raises `FileUnreadable` or `UnsupportedRate`. A thread opens it, because loading
    FFmpeg takes 100 ms that other calls of the process would hear.
    """
    container = await trio.to_thread.run_sync(_open_container, path)
    with container:
        yield FileMicrophone(container, path)


@asynccontextmanager
async def open_recording(path: str) -> AsyncIterator[WavRecording]:
    """Open a new WAV file as a speaker, in place of whatever is there.

    Raises `RecordingFailed`.
    """
    recording = WavRecording(path)
    try:
        yield recording
    finally:
        recording.close()


class FileMicrophone:
    """A file being played, from the first `read` on."""

    def __init__(self, container: InputContainer, path: str) -> None:
        self._path = path
        self._chunks = _decode(container, path)
        self._pending = np.empty(0, np.int16)
        self._ticks: Ticks | None = None
        rate_hz = container.streams.audio[0].rate
        self.notices: Sequence[Notice] = (
            () if rate_hz == RATE_HZ else (_resampled(path, rate_hz),)
        )

    async def read(self) -> Pcm:
        """Wait for the next beat and give 20 ms, the last of them filled up."""
        self._ticks = self._ticks or Ticks()
        await self._ticks.wait()
        while len(self._pending) < FRAME_SAMPLES:
            chunk = next(self._chunks, None)
            if chunk is None:
                return self._read_last()
            self._pending = np.concatenate([self._pending, chunk])
        frame = self._pending[:FRAME_SAMPLES]
        self._pending = self._pending[FRAME_SAMPLES:]
        return frame

    def _read_last(self) -> Pcm:
        if not len(self._pending):
            raise EndOfAudio(self._path)
        frame = np.zeros(FRAME_SAMPLES, np.int16)
        frame[: len(self._pending)] = self._pending
        self._pending = self._pending[:0]
        return frame


class WavRecording:
    """A WAV file being written: 48 kHz, mono, 16 bits.

    What was there before is kept until the first frame; without one there is no file.
    """

    notices: Sequence[Notice] = ()

    def __init__(self, path: str) -> None:
        self._path = path
        self._frames = 0
        self._wave: wave.Wave_write | None = None
        self._is_new = not os.path.exists(path)
        try:
            mode = "xb" if self._is_new else "r+b"
            self._file = open(path, mode)  # noqa: SIM115  (closed by `close`)
        except OSError as error:
            raise RecordingFailed(path, _reason(error)) from None

    def write(self, frame: Pcm) -> None:
        """Append a frame.

        Raises `RecordingFailed` (the disk is full) and closes the file then. This goes
        to the system's cache (10 us), so it needs no thread.
        """
        samples = frame.astype("<i2", copy=False).tobytes()
        self._frames += 1
        try:
            self._wave = self._wave or self._begin()
            if self._frames % HEADER_EVERY_FRAMES:
                self._wave.writeframesraw(samples)
            else:
                self._wave.writeframes(samples)
                self._file.flush()
        except OSError as error:
            with suppress(OSError):
                self._close()
            raise RecordingFailed(self._path, _reason(error)) from None

    def close(self) -> None:
        """Complete the header and close. Raises `RecordingFailed`."""
        try:
            self._close()
        except OSError as error:
            raise RecordingFailed(self._path, _reason(error)) from None

    def _begin(self) -> wave.Wave_write:
        if os.path.isfile(self._path):
            self._file.truncate(0)
        writing = wave.open(self._file, "wb")  # noqa: SIM115  (closed by `close`)
        writing.setnchannels(1)
        writing.setsampwidth(2)
        writing.setframerate(RATE_HZ)
        return writing

    def _close(self) -> None:
        if self._file.closed:
            return
        with self._file:
            if self._wave is not None:
                self._wave.close()
        if self._wave is None and self._is_new:
            os.unlink(self._path)


def _open_container(path: str) -> InputContainer:
    import av

    try:
        container = av.open(path, "r")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise FileUnreadable(path, _reason(error)) from None
    if not container.streams.audio:
        container.close()
        raise FileUnreadable(path, "there is no audio in it")
    rate_hz = container.streams.audio[0].rate
    if not RATE_HZ_MIN <= rate_hz <= RATE_HZ_MAX:
        container.close()
        raise UnsupportedRate(path, rate_hz)
    return container


def _decode(container: InputContainer, path: str) -> Iterator[Pcm]:
    """Give the file's samples at 48 kHz mono, in pieces of any length."""
    import av

    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    try:
        for frame in container.decode(container.streams.audio[0]):
            for resampled in resampler.resample(frame):
                yield resampled.to_ndarray()[0]
        for resampled in resampler.resample(None):
            yield resampled.to_ndarray()[0]
    except (av.FFmpegError, OSError, ValueError) as error:
        raise FileUnreadable(path, _reason(error)) from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _resampled(path: str, rate_hz: int) -> Notice:
    return Notice(
        code="105",
        title="Audio file resampled",
        cause=f"{path}: {rate_hz:,} Hz, voice travels at {RATE_HZ:,} Hz",
        next_step="Nothing to do; a file of 48,000 Hz is played as it is.",
    )
