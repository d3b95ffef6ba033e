"""A call with oneself hears what it says."""

from __future__ import annotations

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from media.frame import RATE_HZ
from media.loopback import open_loopback, run_loopback
from media.tone import NullSpeaker, ToneMicrophone
from tests.media.fakes import ListMicrophone, ListSpeaker
from tests.media.test_voice import hum


async def test_a_file_is_heard_to_its_end_and_measured(
    autojump_clock: MockClock,
) -> None:
    speaker = ListSpeaker()
    statistics = await run_loopback(ListMicrophone(hum(100)), speaker)
    assert (statistics.sent, statistics.played, statistics.lost) == (100, 100, 0)
    heard = np.concatenate(speaker.frames).astype(float)
    loudest_hz = np.argmax(np.abs(np.fft.rfft(heard))) * RATE_HZ / len(heard)
    assert loudest_hz == pytest.approx(150, abs=2)


async def test_an_endless_microphone_is_heard_until_left(
    autojump_clock: MockClock,
) -> None:
    async with open_loopback(ToneMicrophone(440), NullSpeaker()) as voice:
        await trio.sleep(5)
        statistics = voice.statistics()
    assert 240 <= statistics.played <= 251
    assert statistics.concealed == 0
