"""The beat: one grid for all, no drift, and every beat while not hopelessly late."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from media.ticks import Ticks


async def test_beats_are_20_ms_apart_without_drift(autojump_clock: MockClock) -> None:
    ticks = Ticks()
    beats = [await ticks.wait() for _ in range(1_000)]
    assert beats == [index * 0.02 for index in range(1_000)]
    assert trio.current_time() == pytest.approx(19.98)


async def test_beats_started_at_any_time_fall_together(
    autojump_clock: MockClock,
) -> None:
    await trio.sleep(0.013)
    first = Ticks()
    await trio.sleep(0.004)
    second = Ticks()
    assert await first.wait() == await second.wait() == pytest.approx(0.02)


async def test_a_late_caller_gets_every_beat_it_missed_at_once(
    autojump_clock: MockClock,
) -> None:
    ticks = Ticks()
    await ticks.wait()
    await trio.sleep(0.5)
    beats = [await ticks.wait() for _ in range(25)]
    assert beats == pytest.approx([0.02 * index for index in range(1, 26)])
    assert trio.current_time() == pytest.approx(0.5)
    assert ticks.skipped == 0


async def test_after_more_than_a_second_missed_beats_are_skipped_and_counted(
    autojump_clock: MockClock,
) -> None:
    ticks = Ticks()
    await ticks.wait()
    await trio.sleep(10.01)
    assert await ticks.wait() == pytest.approx(10.0)
    assert await ticks.wait() == pytest.approx(10.02)
    assert ticks.skipped == 499


async def test_a_cancelled_wait_loses_no_beat(autojump_clock: MockClock) -> None:
    ticks = Ticks()
    await ticks.wait()
    with trio.move_on_after(0.01):
        await ticks.wait()
    assert await ticks.wait() == pytest.approx(0.02)
