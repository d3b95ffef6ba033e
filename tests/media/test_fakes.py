"""The stand-ins do what the tests that use them take for granted."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from media.errors import EndOfAudio, WireError
from tests.media.fakes import (
    ListMicrophone,
    ListSpeaker,
    PlainCodec,
    lossy_pair,
    numbered,
)


def test_the_plain_codec_gives_back_the_frame_and_the_one_before() -> None:
    codec = PlainCodec()
    packet = codec.encode(numbered(7))
    assert (codec.decode(packet) == numbered(7)).all()
    assert codec.has_lbrr(packet)
    assert (codec.decode_fec(packet) == numbered(6)).all()
    assert not codec.has_lbrr(codec.encode(numbered(0)))
    with pytest.raises(WireError):
        codec.decode(b"?")


async def test_the_list_microphone_gives_its_frames_and_ends(
    autojump_clock: MockClock,
) -> None:
    microphone = ListMicrophone([numbered(1)])
    assert (await microphone.read() == numbered(1)).all()
    for _ in range(2):
        with pytest.raises(EndOfAudio):
            await microphone.read()


def test_the_list_speaker_keeps_its_frames() -> None:
    speaker = ListSpeaker()
    speaker.write(numbered(3))
    assert (speaker.frames[0] == numbered(3)).all()


async def test_a_good_network_delays_only(autojump_clock: MockClock) -> None:
    here, there = lossy_pair(delay_s=0.5)
    await here.send(b"x")
    assert await there.receive() == b"x"
    assert trio.current_time() == pytest.approx(0.5)


async def test_a_bad_network_loses_and_repeats_by_its_seed(
    autojump_clock: MockClock,
) -> None:
    here, there = lossy_pair(seed=1, loss=0.3, duplication=0.3)
    for number in range(200):
        await here.send(bytes([number]))
    await here.aclose()
    came = [datagram async for datagram in there]
    assert 120 <= len(set(came)) <= 160
    assert 20 <= len(came) - len(set(came)) <= 60
