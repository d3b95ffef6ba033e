"""What can go wrong with sound, in words for a person.

Every `MediaError` has a stable `code` (1xx is audio), a `title` that never varies, the
`cause` of this one time, and the `next_step` to take. Programs print these four; they
never have to look inside.

    101 no audio device          105 audio file resampled (a notice)
    102 PortAudio missing        106 unsupported audio file rate
    103 audio device failed      107 cannot write recording
    104 audio file unreadable    108 Opus library not found
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "DeviceError",
    "DeviceFailed",
    "EndOfAudio",
    "FileUnreadable",
    "MediaError",
    "NoDevice",
    "Notice",
    "OpusMissing",
    "PortAudioMissing",
    "RecordingFailed",
    "UnsupportedRate",
    "WireError",
]


class WireError(ValueError):
    """Bytes that are no packet of ours: drop them and count.

    The only exception that leaves a decoder.
    """


class EndOfAudio(Exception):
    """The microphone is a file, and all of it has been read."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth a line to the user that stopped nothing."""

    code: str
    title: str
    cause: str
    next_step: str


class MediaError(Exception):
    """Sound could not be captured, played, read, written or encoded."""

    code: ClassVar[str]
    title: ClassVar[str]
    next_step: ClassVar[str]

    def __init__(self, cause: str) -> None:
        super().__init__(f"{self.title}: {cause}")
        self.cause = cause

    def notice(self) -> Notice:
        """Give the same as a notice, where it stopped nothing."""
        return Notice(self.code, self.title, self.cause, self.next_step)


class DeviceError(MediaError):
    """A microphone or speaker, real or a file, cannot be used."""


class NoDevice(DeviceError):
    """This machine has no such microphone or speaker."""

    code = "101"
    title = "No audio device"
    next_step = (
        "See `koe devices` for what there is, plug one in, or work without: "
        "--play FILE and --record FILE need no sound card."
    )


class PortAudioMissing(DeviceError):
    """Live audio needs the PortAudio library, and it is not installed."""

    code = "102"
    title = "PortAudio is not installed"
    next_step = (
        "Install it: `sudo apt install libportaudio2` (Debian, Ubuntu), "
        "`sudo dnf install portaudio` (Fedora), `brew install portaudio` (macOS); "
        "or work without: --play FILE and --record FILE need no sound card."
    )


class DeviceFailed(DeviceError):
    """The microphone or speaker is there, but refused or stopped working."""

    code = "103"
    title = "Audio device failed"
    next_step = (
        "Close other programs that may hold the device, or choose another one "
        "from `koe devices`."
    )


class FileUnreadable(DeviceError):
    """The file to play is missing, may not be read, or holds no audio."""

    code = "104"
    title = "Audio file unreadable"
    next_step = (
        "Check the path and that a player can play it; WAV, FLAC, MP3, Ogg and "
        "most others will do."
    )

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path


class UnsupportedRate(DeviceError):
    """The file to play has a sample rate outside of what makes sense for voice."""

    code = "106"
    title = "Unsupported audio file rate"
    next_step = "Convert it: `ffmpeg -i IN -ar 48000 OUT.wav`."

    def __init__(self, path: str, rate_hz: int) -> None:
        super().__init__(f"{path}: {rate_hz:,} Hz, expected 8,000 to 192,000 Hz")
        self.path = path
        self.rate_hz = rate_hz


class RecordingFailed(DeviceError):
    """The recording cannot be written: no such directory, no permission, disk full."""

    code = "107"
    title = "Cannot write recording"
    next_step = "Choose a place you may write to, with room: 6 MB a minute."

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path


class OpusMissing(MediaError):
    """No usable libopus was found, so nothing can be encoded or decoded."""

    code = "108"
    title = "Opus library not found"
    next_step = (
        "Install it: `sudo apt install libopus0` (Debian, Ubuntu), `sudo dnf install "
        "opus` (Fedora), `brew install opus` (macOS); or set KOE_LIBOPUS to its path."
    )
