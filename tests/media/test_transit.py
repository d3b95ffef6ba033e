"""What the way has shown: the base it measures from, and the target it asks for."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from media.frame import FRAME_S
from media.transit import START_S, TARGET_S_MAX, TARGET_S_MIN, Transit


def after(lates_s: list[float], *, first_slot: int = 0) -> Transit:
    transit = Transit()
    for slot, late_s in enumerate(lates_s, first_slot):
        transit.observe(slot, slot * FRAME_S + late_s)
    return transit


def test_it_starts_careful() -> None:
    assert Transit().target_s == START_S
    assert after([0.3]).target_s == pytest.approx(START_S, abs=0.006)


def test_a_steady_way_asks_for_the_least_in_the_end() -> None:
    assert after([0.3] * 3_000).target_s == TARGET_S_MIN


def test_the_target_covers_nearly_all_delays() -> None:
    chance = random.Random(1)
    target_s = after([chance.uniform(0, 0.2) for _ in range(3_000)]).target_s
    assert target_s == pytest.approx(0.2, abs=0.015)


def test_a_rare_spike_is_not_worth_waiting_for() -> None:
    lates_s = [0.3 if slot % 200 == 0 else 0.0 for slot in range(3_000)]
    assert after(lates_s).target_s < 0.03


def test_delays_count_from_the_fastest_of_the_last_two_seconds() -> None:
    transit = after([0.2] * 50 + [0.25] * 50)
    assert transit.delay_s(99, 99 * FRAME_S + 0.25) == pytest.approx(0.05)
    transit = after([0.2] * 50 + [0.25] * 150)
    assert transit.delay_s(199, 199 * FRAME_S + 0.25) == pytest.approx(0.0)


def test_a_change_to_a_slower_way_is_forgotten_as_a_delay() -> None:
    settled = after([0.0] * 3_000 + [0.1] * 60)
    assert settled.target_s > 0.1
    settled = after([0.0] * 3_000 + [0.1] * 160)
    assert settled.target_s < 0.03


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1e6)), min_size=1))
def test_whatever_comes_the_target_stays_in_its_bounds(
    arrivals: list[tuple[int, float]],
) -> None:
    transit, now = Transit(), 0.0
    for slot, elapsed_s in arrivals:
        now += elapsed_s
        transit.observe(slot, now)
        assert TARGET_S_MIN <= transit.target_s <= TARGET_S_MAX
