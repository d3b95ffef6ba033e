"""Sound cards: what our side of PortAudio does with what drivers do.

Threads open and close streams here while virtual time leaps, so nothing asserts when.
PortAudio itself is played by `FakePortAudio`, in place of the module sounddevice: tests
call back as a driver's thread would. The devices of a machine that has some are tried
by `koe loopback`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from media.device import Speaker, list_devices, open_microphone, open_speaker
from media.errors import DeviceFailed, NoDevice, PortAudioMissing
from tests.media.fakes import numbered

BLOCK_BYTES = 960


class FakeStream:
    """A stream that calls back when the test says so."""

    def __init__(self, refusal: Exception | None, **parameters: Any) -> None:
        self._refusal = refusal
        self.parameters = parameters
        self.closed = False

    def start(self) -> None:
        if self._refusal:
            raise self._refusal

    def close(self, *, ignore_errors: bool) -> None:
        assert ignore_errors
        self.closed = True

    def capture(self, sample: int) -> None:
        """Hand in 10 ms of this sample, as a microphone's driver does until closed."""
        if self.closed:
            return
        data = np.full(480, sample, np.int16).tobytes()
        self.parameters["callback"](memoryview(data), 480, None, None)

    def play(self) -> int:
        """Take 10 ms, as a speaker's driver does, and give its last sample."""
        data = bytearray(BLOCK_BYTES)
        self.parameters["callback"](data, 480, None, None)
        assert len(data) == BLOCK_BYTES
        return int(np.frombuffer(data, np.int16)[-1])


class FakePortAudio(ModuleType):
    """One sound card named `card`, both ways; or none; or one that refuses."""

    class PortAudioError(Exception):
        """What PortAudio raises."""

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.streams: list[FakeStream] = []
        self.absent = False
        self.refuses = False
        self.default = type("Default", (), {"device": (0, 0)})()

    def query_devices(self, name: str | None = None, kind: str | None = None) -> Any:
        card = {
            "name": "card",
            "index": 0,
            "hostapi": 0,
            "max_input_channels": 2,
            "max_output_channels": 2,
        }
        if kind is None:
            return [] if self.absent else [card]
        if self.absent:
            raise self.PortAudioError("Error querying device -1")
        if name not in (None, "card"):
            raise ValueError(f"No {kind} device matching {name!r}")
        return card

    def query_hostapis(self, index: int) -> dict[str, str]:
        return {"name": "ALSA"}

    def _open(self, **parameters: Any) -> FakeStream:
        refusal = self.PortAudioError("Device unavailable") if self.refuses else None
        self.streams.append(FakeStream(refusal, **parameters))
        return self.streams[-1]

    RawInputStream = _open
    RawOutputStream = _open


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(1_000):
        while not condition():  # noqa: ASYNC110  (a thread makes it true)
            await trio.sleep(0.1)


def failure_of(speaker: Speaker) -> str:
    try:
        speaker.write(numbered(0))
    except DeviceFailed as failed:
        return failed.cause
    return ""


async def drive(call_back: Callable[[], object], blocks: int = 1) -> None:
    """Call back so many times each 10 ms, until cancelled."""
    while True:
        for _ in range(blocks):
            call_back()
        await trio.sleep(0.01)


async def test_without_portaudio_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Missing:
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(PortAudioMissing, match="not found") as raised:
        async with open_microphone("default"):
            pass
    assert raised.value.code == "102"
    assert "libportaudio2" in raised.value.next_step
    with pytest.raises(PortAudioMissing):
        list_devices()


@pytest.mark.parametrize("open_device", [open_microphone, open_speaker])
async def test_a_machine_without_cards_has_no_device(
    portaudio: FakePortAudio, open_device: Any
) -> None:
    portaudio.absent = True
    with pytest.raises(NoDevice) as raised:
        async with open_device("default"):
            pass
    assert raised.value.code == "101"


async def test_an_unknown_name_is_no_device_and_is_named(
    portaudio: FakePortAudio,
) -> None:
    with pytest.raises(NoDevice, match="radio"):
        async with open_microphone("sound:radio"):
            pass


async def test_a_card_that_refuses_is_a_failed_device(
    portaudio: FakePortAudio,
) -> None:
    portaudio.refuses = True
    with pytest.raises(DeviceFailed, match="card: Device unavailable") as raised:
        async with open_speaker("sound:card"):
            pass
    assert raised.value.code == "103"


def test_cards_are_listed_before_what_is_always_there(
    portaudio: FakePortAudio,
) -> None:
    first, *others = list_devices()
    assert (first.spec, first.description) == ("sound:card", "ALSA")
    assert (first.inputs, first.outputs, first.is_default) == (2, 2, True)
    assert [device.spec for device in others] == ["tone:440", "file:PATH", "null"]


async def test_microphone_and_speaker_are_raw_mono_streams_of_10_ms_apart(
    portaudio: FakePortAudio,
) -> None:
    async with open_microphone("default"), open_speaker("sound:card"):
        for stream, device in zip(portaudio.streams, (None, "card"), strict=True):
            parameters = dict(stream.parameters)
            del parameters["callback"]
            assert parameters == {
                "samplerate": 48_000,
                "blocksize": 480,
                "device": device,
                "channels": 1,
                "dtype": "int16",
            }
    assert all(stream.closed for stream in portaudio.streams)


async def test_what_the_card_hears_is_read_in_order(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_microphone("default") as microphone:
        for sample in range(1, 9):
            portaudio.streams[0].capture(sample)
        frames = [await microphone.read() for _ in range(4)]
    assert [int(f[0]) for f in frames] == [1, 3, 5, 7]
    assert [int(f[-1]) for f in frames] == [2, 4, 6, 8]


async def test_a_card_that_is_behind_gives_silence_on_the_beat(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_microphone("default") as microphone:
        began_at = trio.current_time()
        for _ in range(50):
            assert not (await microphone.read()).any()
        assert trio.current_time() - began_at == pytest.approx(0.98, abs=0.021)


async def test_a_reader_that_is_behind_loses_the_oldest(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_microphone("default") as microphone:
        for sample in range(1, 31):
            portaudio.streams[0].capture(sample)
        assert int((await microphone.read())[0]) == 11


async def test_a_card_whose_clock_runs_fast_does_not_add_delay(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_microphone("default") as microphone:
        (stream,) = portaudio.streams
        behind = []
        captured = 0
        for beat in range(3_000):
            for _ in range(2 if beat % 50 else 3):
                captured = (captured + 1) % 30_000
                stream.capture(captured)
            behind.append(captured - int((await microphone.read())[-1]))
    assert max(behind[10:]) <= 8


async def test_what_is_written_is_played_after_40_ms_are_there(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_speaker("default") as speaker:
        (stream,) = portaudio.streams
        speaker.write(numbered(1))
        assert stream.play() == 0
        speaker.write(numbered(2))
        assert [stream.play() for _ in range(5)] == [1001, 1001, 1002, 1002, 0]


async def test_a_stream_silent_for_2_s_is_restarted(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_microphone("default") as microphone:
        portaudio.streams[0].capture(1)
        await until(lambda: len(portaudio.streams) == 2)
        assert portaudio.streams[0].closed
        for _ in range(4):
            portaudio.streams[1].capture(7)
        while not (frame := await microphone.read()).any():
            pass
        assert frame[-1] == 7


async def test_a_card_that_stays_silent_fails_after_three_restarts(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_speaker("default") as speaker:
        await until(lambda: "silent after 3 restarts" in failure_of(speaker))
    assert len(portaudio.streams) == 4
    assert all(stream.closed for stream in portaudio.streams)


async def test_a_card_that_is_unplugged_fails_at_its_restart(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_speaker("default") as speaker:
        portaudio.absent = True
        await until(lambda: failure_of(speaker) == "this machine has none")


async def test_a_card_faster_than_time_is_replaced_by_silence(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_microphone("default") as microphone, trio.open_nursery() as nursery:
        (stream,) = portaudio.streams
        nursery.start_soon(drive, lambda: stream.capture(9), 10)
        await until(lambda: bool(microphone.notices))
        assert stream.closed
        nursery.cancel_scope.cancel()
        (notice,) = microphone.notices
        assert notice.code == "103"
        with trio.CancelScope(shield=True):
            for _ in range(10):
                frame = await microphone.read()
            assert not frame.any()


async def test_a_card_on_time_is_kept_even_if_it_starts_with_a_burst(
    portaudio: FakePortAudio, autojump_clock: MockClock
) -> None:
    async with open_speaker("default") as speaker, trio.open_nursery() as nursery:
        (stream,) = portaudio.streams
        for _ in range(20):
            stream.play()
        nursery.start_soon(drive, stream.play)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
        assert not speaker.notices
        assert len(portaudio.streams) == 1
