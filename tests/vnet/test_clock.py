"""Virtual time: exact, instantaneous, in order."""

from __future__ import annotations

import time
from functools import partial

import pytest
import trio

from tests.vnet import clock as clock_module
from tests.vnet.clock import VirtualClock


def test_a_day_of_sleep_takes_no_time_and_ends_on_the_second() -> None:
    async def main() -> float:
        await trio.sleep(86_400)
        return trio.current_time()

    started_at = time.monotonic()
    assert trio.run(main, clock=VirtualClock()) == 86_400.0
    assert time.monotonic() - started_at < 1.0


def test_events_and_deadlines_happen_in_order_of_time() -> None:
    clock = VirtualClock()
    happened: list[tuple[str, float]] = []

    def note(what: str) -> None:
        happened.append((what, trio.current_time()))

    async def main() -> None:
        clock.plan(3.0, partial(note, "late event"))
        clock.plan(1.0, partial(note, "early event"))
        await trio.sleep(2)
        note("task")
        await trio.sleep(2)

    trio.run(main, clock=clock)
    assert happened == [("early event", 1.0), ("task", 2.0), ("late event", 3.0)]


def test_events_of_one_instant_happen_as_planned_and_before_its_deadlines() -> None:
    clock = VirtualClock()
    happened: list[object] = []

    async def main() -> None:
        for number in range(5):
            clock.plan(1.0, partial(happened.append, number))
        await trio.sleep(1)
        happened.append("task")

    trio.run(main, clock=clock)
    assert happened == [0, 1, 2, 3, 4, "task"]


def test_an_event_can_plan_another_for_the_same_instant() -> None:
    clock = VirtualClock()
    happened: list[float] = []

    async def main() -> None:
        note = partial(happened.append, 1.0)
        clock.plan(1.0, lambda: clock.plan(1.0, note))
        await trio.sleep(1)
        assert happened == [1.0]

    trio.run(main, clock=clock)


def test_an_event_wakes_a_task_at_once_though_nothing_else_is_ahead() -> None:
    clock = VirtualClock()
    woken = trio.Event()

    async def main() -> None:
        clock.plan(7.0, woken.set)
        await woken.wait()
        assert trio.current_time() == 7.0

    trio.run(main, clock=clock)


def test_time_does_not_move_while_a_task_can_run() -> None:
    clock = VirtualClock()

    async def main() -> None:
        clock.plan(1.0, lambda: None)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert trio.current_time() == 0.0
        assert clock.events_ahead == 1

    trio.run(main, clock=clock)


def test_tasks_that_spin_without_letting_time_pass_are_ended_by_a_leap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clock_module, "TURNS_AT_ONE_INSTANT_MAX", 1_000)
    clock = VirtualClock()

    async def main() -> None:
        with trio.fail_after(60):
            await trio.sleep(5)
            while True:
                await trio.lowlevel.checkpoint()

    with pytest.raises(trio.TooSlowError):
        trio.run(main, clock=clock)
    assert clock.spun_at_s == 5.0
