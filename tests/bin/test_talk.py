"""A talk: voice from connected to ended, and every way to that end."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest
import trio
import trio.testing

from bin.errors import ProgramError
from bin.requests import Audio
from bin.sound import open_devices
from bin.talk import Talk
from media.errors import DeviceError
from overlay.call_messages import EndReason
from overlay.call_state import CallState
from tests.bin.fake_node import FakeLine, FakeNode

SILENT = Audio("null", "null")


@pytest.fixture
def line() -> FakeLine:
    return FakeNode().call_comes("bob")


async def test_it_speaks_from_when_the_call_is_connected(line: FakeLine) -> None:
    talk = Talk(line, "bob")
    with trio.fail_after(5):
        async with open_devices(SILENT) as devices, trio.open_nursery() as nursery:
            nursery.start_soon(talk.converse, devices)
            await trio.testing.wait_all_tasks_blocked()
            assert not line.channel.sent
            line.answer()
            await line.channel.has_sent.wait()
            assert talk.report() is not None
            line.end(EndReason.HUNG_UP, "them")
    heard = talk.report()
    assert heard is not None
    assert heard.packets_sent >= 1
    assert talk.problem is None


async def test_it_hangs_up_after_the_time_it_was_given(line: FakeLine) -> None:
    line.answer()
    with trio.fail_after(5):
        async with open_devices(SILENT) as devices:
            await Talk(line, "bob").converse(devices, hang_up_after_s=0.05)
    assert (line.ended_reason, line.ended_by) == (EndReason.HUNG_UP, "us")


async def test_a_call_that_was_never_answered_has_no_voice(line: FakeLine) -> None:
    line.end(EndReason.NO_ANSWER, "them")
    talk = Talk(line, "bob")
    async with open_devices(SILENT) as devices:
        await talk.converse(devices)
    assert talk.report() is None


async def test_cancelled_it_hangs_up(line: FakeLine) -> None:
    line.answer()
    async with open_devices(SILENT) as devices:
        with trio.move_on_after(0.05):
            await Talk(line, "bob").converse(devices)
    assert line.state is CallState.ENDED


async def test_muted_before_it_is_connected_it_stays_muted(line: FakeLine) -> None:
    talk = Talk(line, "bob")
    talk.mute(True)
    line.answer()
    async with open_devices(Audio("tone:440", "null")) as devices:
        await talk.converse(devices, hang_up_after_s=0.1)
    heard = talk.report()
    assert heard is not None
    assert heard.muted


async def test_a_recording_is_complete_when_its_devices_are_closed(
    line: FakeLine, tmp_path: Path
) -> None:
    line.answer()
    file = tmp_path / "heard.wav"
    async with open_devices(Audio("null", "null", str(file))) as devices:
        await Talk(line, "bob").converse(devices, hang_up_after_s=0.1)
    with wave.open(str(file)) as heard:
        assert heard.getframerate() == 48_000
        assert heard.getnframes() >= 2 * 960


@pytest.mark.parametrize(
    "audio",
    [Audio("radio", "null"), Audio("tone:1", "null"), Audio("null", "tone:440")],
)
async def test_a_spec_that_means_nothing_is_refused(audio: Audio) -> None:
    with pytest.raises(ProgramError) as caught:
        async with open_devices(audio):
            raise AssertionError("opened")
    assert caught.value.problem.code == "805"


async def test_a_sound_card_that_was_named_is_not_replaced_by_silence() -> None:
    with pytest.raises(DeviceError):
        async with open_devices(Audio("sound:no such card", "null")):
            raise AssertionError("opened")
