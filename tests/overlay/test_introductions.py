"""Introductions: two sides each, for as long as they speak."""

from __future__ import annotations

import math

import pytest

from overlay.introductions import (
    IDLE_S,
    INTRODUCTIONS_MAX,
    PER_CALLER_MAX,
    Introductions,
)

NOW = 1_700_000_000.0
CALLER, CALLEE, OTHER = (bytes((n,)) * 32 for n in (1, 2, 3))


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def introductions() -> Introductions:
    return Introductions()


def test_each_side_is_led_to_the_other(introductions: Introductions) -> None:
    assert introductions.open(name(1), CALLER, CALLEE, NOW)
    assert introductions.other_side(name(1), CALLER, NOW) == CALLEE
    assert introductions.other_side(name(1), CALLEE, NOW) == CALLER
    assert name(1) in introductions


def test_nobody_else_is_led_anywhere(introductions: Introductions) -> None:
    introductions.open(name(1), CALLER, CALLEE, NOW)
    assert introductions.other_side(name(1), OTHER, NOW) is None
    assert introductions.other_side(name(2), CALLER, NOW) is None


def test_opening_again_changes_nothing_and_others_may_not(
    introductions: Introductions,
) -> None:
    assert introductions.open(name(1), CALLER, CALLEE, NOW)
    assert introductions.open(name(1), CALLER, CALLEE, NOW)
    assert not introductions.open(name(1), OTHER, CALLEE, NOW)
    assert not introductions.open(name(1), CALLER, OTHER, NOW)
    assert (len(introductions), introductions.refused) == (1, 2)


def test_a_caller_may_have_so_many_and_all_together_so_many(
    introductions: Introductions,
) -> None:
    for number in range(PER_CALLER_MAX):
        assert introductions.open(name(number), CALLER, CALLEE, NOW)
    assert introductions.open(name(99), CALLER, CALLEE, NOW)
    assert name(0) not in introductions  # their first made room
    assert len(introductions) == PER_CALLER_MAX
    for number in range(INTRODUCTIONS_MAX + 10):
        caller = number.to_bytes(32, "big")
        introductions.open(name(1_000 + number), caller, CALLEE, NOW)
    assert len(introductions) == INTRODUCTIONS_MAX
    assert introductions.refused == PER_CALLER_MAX + 10


def test_one_ends_two_minutes_after_its_last_word(introductions: Introductions) -> None:
    introductions.open(name(1), CALLER, CALLEE, NOW)
    introductions.open(name(2), CALLER, CALLEE, NOW + 1)
    introductions.other_side(name(1), CALLEE, NOW + 60)
    assert introductions.next_timeout() == NOW + 1 + IDLE_S
    introductions.handle_timeout(NOW + 1 + IDLE_S)
    assert name(2) not in introductions
    assert introductions.next_timeout() == NOW + 60 + IDLE_S
    introductions.handle_timeout(NOW + 60 + IDLE_S)
    assert introductions.next_timeout() == math.inf
