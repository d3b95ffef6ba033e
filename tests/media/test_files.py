"""Files as microphones and as recordings, and what is said when they cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from media.device import open_microphone, open_speaker
from media.errors import (
    DeviceError,
    EndOfAudio,
    FileUnreadable,
    RecordingFailed,
    UnsupportedRate,
)
from media.files import FileMicrophone, WavRecording, open_recording
from media.frame import FRAME_SAMPLES, RATE_HZ, Pcm
from tests.media.fakes import numbered


def write_wav(
    path: Path, samples: Pcm, rate_hz: int = RATE_HZ, channels: int = 1
) -> str:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return str(path)


def tone(seconds: float, rate_hz: int, frequency_hz: float = 440) -> Pcm:
    times_s = np.arange(int(seconds * rate_hz)) / rate_hz
    samples: Pcm = (8_000 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.int16)
    return samples


def read_all(path: str) -> Pcm:
    """Read a file frame by frame, with a clock that leaps from beat to beat."""
    from media.files import _open_container

    async def read() -> Pcm:
        frames = []
        with _open_container(path) as container:
            microphone = FileMicrophone(container, path)
            try:
                while True:
                    frames.append(await microphone.read())
            except EndOfAudio:
                return np.concatenate([np.empty(0, np.int16), *frames])

    clock = MockClock(autojump_threshold=0)
    return trio.run(read, clock=clock)


def test_a_file_of_our_rate_is_given_sample_for_sample(tmp_path: Path) -> None:
    samples = np.arange(10 * FRAME_SAMPLES, dtype=np.int16)
    assert (read_all(write_wav(tmp_path / "a.wav", samples)) == samples).all()


def test_the_last_frame_is_filled_up_with_silence(tmp_path: Path) -> None:
    given = read_all(write_wav(tmp_path / "a.wav", numbered(0)[:100]))
    assert len(given) == FRAME_SAMPLES
    assert (given[:100] == numbered(0)[:100]).all()
    assert not given[100:].any()


def test_an_empty_file_ends_at_once(tmp_path: Path) -> None:
    assert len(read_all(write_wav(tmp_path / "a.wav", np.empty(0, np.int16)))) == 0


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100, 96_000, 192_000])
def test_other_rates_are_resampled(tmp_path: Path, rate_hz: int) -> None:
    given = read_all(write_wav(tmp_path / "a.wav", tone(1.0, rate_hz), rate_hz))
    assert len(given) == pytest.approx(RATE_HZ, abs=FRAME_SAMPLES)
    assert np.argmax(np.abs(np.fft.rfft(given[:RATE_HZ].astype(float)))) == (
        pytest.approx(440, abs=1)
    )


def test_stereo_becomes_mono(tmp_path: Path) -> None:
    both = np.repeat(tone(0.2, RATE_HZ), 2)
    given = read_all(write_wav(tmp_path / "a.wav", both, channels=2))
    assert np.abs(given - tone(0.2, RATE_HZ)).max() <= 2


def write_compressed(path: Path, codec: str) -> str:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=44_100, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(
            tone(0.5, 44_100)[None, :], format="s16", layout="mono"
        )
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


@pytest.mark.parametrize(("suffix", "codec"), [("flac", "flac"), ("mp3", "libmp3lame")])
def test_compressed_files_are_read(tmp_path: Path, suffix: str, codec: str) -> None:
    given = read_all(write_compressed(tmp_path / f"a.{suffix}", codec))
    assert len(given) == pytest.approx(RATE_HZ / 2, abs=4 * FRAME_SAMPLES)
    assert np.abs(given).max() == pytest.approx(8_000, rel=0.1)


async def test_a_file_of_another_rate_comes_with_notice_105(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(0.1, 16_000), 16_000)
    async with open_microphone(f"file:{path}") as microphone:
        (notice,) = microphone.notices
    assert notice.code == "105"
    assert "16,000" in notice.cause


async def test_a_file_of_our_rate_comes_without_notice(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(0.1, RATE_HZ))
    async with open_microphone(f"file:{path}") as microphone:
        assert not microphone.notices


@pytest.mark.parametrize("rate_hz", [4_000, 7_999, 192_001, 384_000])
async def test_rates_that_are_no_voice_are_refused(
    tmp_path: Path, rate_hz: int
) -> None:
    path = write_wav(tmp_path / "a.wav", numbered(0), rate_hz)
    with pytest.raises(UnsupportedRate, match=f"{rate_hz:,} Hz") as raised:
        async with open_microphone(f"file:{path}"):
            pass
    assert raised.value.code == "106"


def directory(tmp_path: Path) -> Path:
    return tmp_path


def text(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("no sound\n" * 100)
    return tmp_path / "a.txt"


def nothing(tmp_path: Path) -> Path:
    (tmp_path / "empty.wav").touch()
    return tmp_path / "empty.wav"


def missing(tmp_path: Path) -> Path:
    return tmp_path / "missing.wav"


@pytest.mark.parametrize("make", [directory, text, nothing, missing])
async def test_what_cannot_be_read_is_named(tmp_path: Path, make: type[Path]) -> None:
    path = make(tmp_path)
    with pytest.raises(FileUnreadable) as raised:
        async with open_microphone(f"file:{path}"):
            pass
    assert raised.value.code == "104"
    assert str(path) in raised.value.cause
    assert raised.value.next_step


async def test_a_recording_is_the_frames_written(tmp_path: Path) -> None:
    path = str(tmp_path / "out.wav")
    async with open_speaker(f"file:{path}") as speaker:
        for number in range(120):
            speaker.write(numbered(number))
    assert (read_wav(path) == np.concatenate([*map(numbered, range(120))])).all()


def read_wav(path: str) -> Pcm:
    with wave.open(path) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert file.getframerate() == RATE_HZ
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


async def test_a_cancelled_recording_is_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "out.wav")
    with trio.CancelScope() as scope:
        async with open_recording(path) as recording:
            recording.write(numbered(1))
            scope.cancel()
            await trio.sleep_forever()
    assert (read_wav(path) == numbered(1)).all()


@pytest.mark.real
def test_a_killed_recorder_leaves_all_but_the_last_second(tmp_path: Path) -> None:
    path = str(tmp_path / "out.wav")
    code = (
        "import os, sys; from media.files import WavRecording\n"
        "from tests.media.fakes import numbered\n"
        "recording = WavRecording(sys.argv[1])\n"
        "for number in range(120): recording.write(numbered(number))\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, path], check=False)
    assert len(read_wav(path)) == 100 * FRAME_SAMPLES


async def test_what_was_recorded_before_stays_until_there_is_sound(
    tmp_path: Path,
) -> None:
    path = tmp_path / "old.wav"
    path.write_bytes(b"something dear")
    async with open_recording(str(path)):
        pass
    assert path.read_bytes() == b"something dear"
    async with open_recording(str(path)) as recording:
        recording.write(numbered(1))
    with wave.open(str(path)) as written:
        assert written.getnframes() == 960


async def test_a_recording_without_sound_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "new.wav"
    async with open_recording(str(path)):
        pass
    assert not path.exists()


async def test_a_recording_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "such.wav", tmp_path):
        with pytest.raises(RecordingFailed, match=str(path)) as raised:
            async with open_speaker(f"file:{path}"):
                pass
        assert raised.value.code == "107"


@pytest.mark.real
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_fails_the_recording() -> None:
    recording = WavRecording("/dev/full")

    def write_a_second() -> None:
        for number in range(50):
            recording.write(numbered(number))

    with pytest.raises(RecordingFailed, match="No space left"):
        write_a_second()
    recording.close()


@pytest.mark.real
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_disk_that_is_full_in_the_end_fails_the_closing() -> None:
    recording = WavRecording("/dev/full")
    recording.write(numbered(0))
    with pytest.raises(RecordingFailed, match="No space left"):
        recording.close()


def test_a_file_broken_in_the_middle_fails_there(tmp_path: Path) -> None:
    path = write_compressed(tmp_path / "a.mp3", "libmp3lame")
    whole = bytearray(Path(path).read_bytes())
    whole[len(whole) // 2 :] = bytes(len(whole) - len(whole) // 2)
    Path(path).write_bytes(whole)
    with pytest.raises(FileUnreadable, match="Invalid data"):
        read_all(path)


def test_every_error_has_a_code_of_its_own_and_says_what_to_do() -> None:
    from media import errors

    concrete = [
        found
        for name in errors.__all__
        if isinstance(found := getattr(errors, name), type)
        and issubclass(found, errors.MediaError)
        and hasattr(found, "code")
    ]
    codes = [error.code for error in concrete]
    assert len(codes) == len(set(codes))
    assert all(error.title and error.next_step for error in concrete)
    assert issubclass(FileUnreadable, DeviceError)
