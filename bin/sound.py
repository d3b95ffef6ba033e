"""A microphone and a speaker, opened as a user chose them, and what came of them.

Where the machine has no sound card, the default devices are silence, with a notice;
a device that was named and cannot be had is an error.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from bin.errors import ProgramError, problem_of
from bin.reports import AudioReport, HeardReport, NoticeReport
from bin.requests import Audio

if TYPE_CHECKING:
    # Loaded with the first call: numpy, FFmpeg and Opus take 200 ms.
    from media.device import Microphone, Speaker
    from media.voice import VoiceStatistics

__all__ = ["Devices", "describe_audio", "load_voice", "notices_of", "open_devices"]

Device = TypeVar("Device")


@dataclass(frozen=True, slots=True)
class Devices:
    """A microphone and a speaker, open; and what had to be put in their place."""

    audio: Audio
    microphone: Microphone
    speaker: Speaker
    notices: tuple[NoticeReport, ...]


async def load_voice() -> None:
    """Load what voice needs, in a thread: it takes 200 ms the first time."""
    if "media.voice" not in sys.modules:
        await trio.to_thread.run_sync(importlib.import_module, "media.voice")
        await trio.to_thread.run_sync(importlib.import_module, "media.files")


@asynccontextmanager
async def open_devices(
    audio: Audio, *, silence_will_do: bool = True
) -> AsyncIterator[Devices]:
    """Open microphone and speaker.

    Without a sound card the defaults are silence, unless that will not do: then a
    missing microphone is an error, and a missing speaker where nothing is recorded.
    Raises `ProgramError` 805 for a spec that means nothing, and the errors of `media`
    for what cannot be had.
    """
    await load_voice()
    from media.device import open_microphone, open_speaker

    notices: list[NoticeReport] = []

    def opened_speaker(spec: str) -> AbstractAsyncContextManager[Speaker]:
        return open_speaker(spec, record=audio.record)

    async with AsyncExitStack() as stack:
        microphone = await _open(
            stack,
            open_microphone,
            audio.microphone,
            notices if silence_will_do else None,
        )
        speaker_may_miss = silence_will_do or audio.record is not None
        speaker = await _open(
            stack, opened_speaker, audio.speaker, notices if speaker_may_miss else None
        )
        yield Devices(audio, microphone, speaker, tuple(notices))


async def _open(
    stack: AsyncExitStack,
    open_device: Callable[[str], AbstractAsyncContextManager[Device]],
    spec: str,
    notices: list[NoticeReport] | None,
) -> Device:
    from media.errors import DeviceFailed, NoDevice, PortAudioMissing

    try:
        return await stack.enter_async_context(open_device(spec))
    except ValueError as error:
        raise ProgramError.of("805", str(error)) from None
    except (DeviceFailed, NoDevice, PortAudioMissing) as error:
        if spec != "default" or notices is None:
            raise
        problem = problem_of(error)
        cause = f"{problem.cause}; silence takes its place"
        notices.append(
            NoticeReport(problem.code, problem.title, cause, problem.next_step)
        )
        return await stack.enter_async_context(open_device("null"))


def notices_of(devices: Devices) -> list[NoticeReport]:
    """Give what the user should know about these devices, each thing once."""
    told = (*devices.microphone.notices, *devices.speaker.notices)
    notices = [NoticeReport(n.code, n.title, n.cause, n.next_step) for n in told]
    return list(dict.fromkeys((*devices.notices, *notices)))


def describe_audio(devices: Devices, voice: VoiceStatistics) -> AudioReport:
    """Tell a voice's statistics."""
    theirs = voice.theirs
    return AudioReport(
        microphone=devices.audio.microphone,
        speaker=devices.audio.speaker,
        record=devices.audio.record,
        muted=voice.muted,
        peer_muted=voice.peer_muted,
        packets_sent=voice.sent,
        packets_received=voice.received,
        packets_lost=voice.lost,
        packets_late=voice.late,
        packets_duplicate=voice.duplicates,
        packets_refused=voice.garbage,
        frames_concealed=voice.concealed,
        frames_repaired=voice.fec_recovered,
        loss=voice.loss,
        jitter_s=voice.jitter_ms / 1e3,
        buffer_s=voice.buffer_ms / 1e3,
        rtt_s=None if voice.rtt_ms is None else voice.rtt_ms / 1e3,
        mos=voice.mos,
        first_sent_at=voice.first_sent_at,
        first_heard_at=voice.first_played_at,
        heard_by_peer=None
        if theirs is None
        else HeardReport(
            packets_expected=theirs.expected,
            packets_received=theirs.received,
            frames_concealed=theirs.concealed,
            jitter_s=theirs.jitter_us / 1e6,
            delay_s=theirs.delay_ms / 1e3,
            mos=theirs.mos_hundredths / 100 or None,
        ),
    )
