"""Devices by their specs, and those that are made of time alone."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from media.device import _Both, open_microphone, open_speaker
from media.errors import DeviceFailed, RecordingFailed
from media.frame import FRAME_S, FRAME_SAMPLES, RATE_HZ
from tests.media.fakes import ListSpeaker, numbered


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "tone",
        "tone:",
        "tone:1",
        "tone:x",
        "tone:nan",
        "file:",
        "sound:",
        "null:x",
        "default:x",
        "radio:1",
        "File:x",
    ],
)
def test_a_spec_that_means_nothing_is_refused_by_name(spec: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        open_microphone(spec)


def test_nothing_can_be_played_to_a_tone() -> None:
    with pytest.raises(ValueError, match="tone"):
        open_speaker("tone:440")


async def test_a_tone_is_a_pure_sine_without_a_seam(autojump_clock: MockClock) -> None:
    async with open_microphone("tone:1000") as microphone:
        frames = [await microphone.read() for _ in range(50)]
    samples = np.concatenate(frames).astype(float)
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    assert np.argmax(spectrum) == 1_000
    assert spectrum[1_000] > 0.9999 * spectrum.sum()


@pytest.mark.parametrize("spec", ["tone:440", "null"])
async def test_virtual_microphones_keep_real_time_exactly(
    spec: str, autojump_clock: MockClock
) -> None:
    async with open_microphone(spec) as microphone:
        for _ in range(501):
            frame = await microphone.read()
            assert frame.shape == (FRAME_SAMPLES,)
            assert frame.dtype == np.int16
    assert trio.current_time() == pytest.approx(500 * FRAME_S)


async def test_a_slow_reader_does_not_slow_the_tone(autojump_clock: MockClock) -> None:
    async with open_microphone("tone:440") as microphone:
        await microphone.read()
        await trio.sleep(0.3)
        for _ in range(20):
            await microphone.read()
    assert trio.current_time() == pytest.approx(0.4)


async def test_null_is_silent_and_takes_everything(autojump_clock: MockClock) -> None:
    async with open_microphone("null") as microphone, open_speaker("null") as speaker:
        assert not (await microphone.read()).any()
        speaker.write(numbered(1))
        assert not speaker.notices


async def test_a_recorded_speaker_also_writes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    async with open_speaker("null", record=str(path)) as speaker:
        speaker.write(numbered(1))
        assert not speaker.notices
    with wave.open(str(path)) as recording:
        assert recording.getframerate() == RATE_HZ
        assert recording.readframes(FRAME_SAMPLES) == numbered(1).tobytes()


async def test_a_recording_that_fails_does_not_stop_the_sound() -> None:
    speaker = ListSpeaker()
    both = _Both(speaker, ListSpeaker(RecordingFailed("out.wav", "disk full")))
    for number in range(3):
        both.write(numbered(number))
    assert len(speaker.frames) == 3
    assert [notice.code for notice in both.notices] == ["107"]


async def test_when_both_speakers_fail_it_is_an_error() -> None:
    failed = DeviceFailed("unplugged")
    both = _Both(ListSpeaker(failed), ListSpeaker(failed))
    with pytest.raises(DeviceFailed):
        both.write(numbered(0))
