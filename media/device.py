"""Microphones and speakers, whatever is behind them.

A device is named by a *spec*: `default` or `sound:NAME` (a sound card), `file:PATH`
(played in real time, or recorded to as WAV), `tone:HZ`, `null` (silence, discarding).
Who opens a device closes it, by leaving its context, which also happens on
cancellation: a recording is then a whole WAV file of what came before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from media.errors import DeviceError, Notice
from media.frame import Pcm

__all__ = [
    "VIRTUAL_DEVICES",
    "DeviceInfo",
    "Microphone",
    "Speaker",
    "list_devices",
    "open_microphone",
    "open_speaker",
]


class Microphone(Protocol):
    """Where voice comes from."""

    @property
    def notices(self) -> Sequence[Notice]:
        """What the user should know about it."""
        ...

    async def read(self) -> Pcm:
        """Wait for the next 20 ms and give them; paced in real time.

        Raises `EndOfAudio` after the last frame of a file, again and again, and
        `DeviceError` if the device failed for good. Cancelled, it loses nothing.
        """
        ...


class Speaker(Protocol):
    """Where voice goes to."""

    @property
    def notices(self) -> Sequence[Notice]:
        """What the user should know about it."""
        ...

    def write(self, frame: Pcm) -> None:
        """Play a frame; at once gives back control. Raises `DeviceError`."""
        ...


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A sound device of this machine, or one of ours that is always there."""

    spec: str
    description: str
    inputs: int
    outputs: int
    is_default: bool


VIRTUAL_DEVICES: Final = (
    DeviceInfo("tone:440", "a steady tone of so many Hz", 1, 0, False),
    DeviceInfo("file:PATH", "an audio file to play, or a WAV to record", 1, 1, False),
    DeviceInfo("null", "silence in, nothing out", 1, 1, False),
)
# What needs no hardware and is always there.

Device = TypeVar("Device")


def list_devices() -> tuple[DeviceInfo, ...]:
    """Give all devices, sound cards first. May take 100 ms.

    Raises `PortAudioMissing` if sound cards cannot even be looked for.
    """
    from media.soundcard import list_sound_devices

    return (*list_sound_devices(), *VIRTUAL_DEVICES)


def open_microphone(spec: str) -> AbstractAsyncContextManager[Microphone]:
    """Open a source of voice.

    Raises `ValueError` for a spec that means nothing, `DeviceError` on entering for one
    that cannot be had.
    """
    kind, argument = _parse(spec)
    match kind:
        case "file":
            from media.files import open_playing

            return open_playing(argument)
        case "tone":
            from media.tone import ToneMicrophone

            return _opened(ToneMicrophone(_frequency_hz(argument)))
        case "null":
            from media.tone import NullMicrophone

            return _opened(NullMicrophone())
        case _:
            from media.soundcard import open_sound_microphone

            return open_sound_microphone(argument or None)


def open_speaker(
    spec: str, *, record: str | None = None
) -> AbstractAsyncContextManager[Speaker]:
    """Open a place for voice to go; `record` is a WAV file that gets the same.

    Raises like `open_microphone`, and `ValueError` for a tone.
    """
    if record is not None:
        return _open_recorded(spec, record)
    kind, argument = _parse(spec)
    match kind:
        case "file":
            from media.files import open_recording

            return open_recording(argument)
        case "tone":
            raise ValueError(f"{spec!r}: a tone can be listened to, not played to")
        case "null":
            from media.tone import NullSpeaker

            return _opened(NullSpeaker())
        case _:
            from media.soundcard import open_sound_speaker

            return open_sound_speaker(argument or None)


class _Both:
    """Two speakers that get the same; when one fails, the other goes on."""

    def __init__(self, first: Speaker, second: Speaker) -> None:
        self._speakers = [first, second]
        self._failures: list[Notice] = []

    @property
    def notices(self) -> Sequence[Notice]:
        ours = (n for speaker in self._speakers for n in speaker.notices)
        return (*self._failures, *ours)

    def write(self, frame: Pcm) -> None:
        for speaker in tuple(self._speakers):
            try:
                speaker.write(frame)
            except DeviceError as error:
                if len(self._speakers) == 1:
                    raise
                self._speakers.remove(speaker)
                self._failures.append(error.notice())


@asynccontextmanager
async def _open_recorded(spec: str, path: str) -> AsyncIterator[Speaker]:
    async with AsyncExitStack() as stack:
        recording = await stack.enter_async_context(open_speaker(f"file:{path}"))
        speaker = await stack.enter_async_context(open_speaker(spec))
        yield _Both(speaker, recording)


@asynccontextmanager
async def _opened(device: Device) -> AsyncIterator[Device]:
    """Give a device that needs neither opening nor closing."""
    yield device


def _parse(spec: str) -> tuple[str, str]:
    kind, colon, argument = spec.partition(":")
    known = spec in ("default", "null") or (
        kind in ("sound", "file", "tone") and colon and argument
    )
    if not known:
        raise ValueError(
            f"{spec!r}: expected default, sound:NAME, file:PATH, tone:HZ or null"
        )
    return kind, argument


def _frequency_hz(text: str) -> float:
    try:
        frequency_hz = float(text)
    except ValueError:
        frequency_hz = 0.0
    if not 20 <= frequency_hz <= 20_000:
        raise ValueError(f"tone:{text}: expected 20 to 20,000 Hz")
    return frequency_hz
