"""Virtual time: a trio clock that never waits, and the heap of what is to come.

trio asks its clock how long to sleep only when no task can run. This clock answers
"not at all", and first moves time on to the next thing that happens: the earliest
event of its own heap (a datagram arrives somewhere) or trio's next deadline, whichever
comes first. So the network costs no task and no timer: its events run here, between two
turns of trio, and wake the tasks that wait for them. What happens at one instant:
events in the order they were planned, then deadlines.

Tasks that keep running and never let time pass would run for ever. They make the clock
leap far ahead instead, so that every deadline ends, also the one of the whole run.

Virtual seconds start at 0. `trio.testing.wait_all_tasks_blocked` never returns under
this clock (there is always something ahead): sleep for a millisecond instead.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final

import trio

__all__ = ["VirtualClock"]

TURNS_AT_ONE_INSTANT_MAX: Final = 1_000_000
# About 20 s of CPU: whoever needs more is spinning.
LEAP_S: Final = 1e9
# Beyond the limit of any run.


class VirtualClock(trio.abc.Clock):
    """The time of one simulated run."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._turns = 0
        self._spun_at_s: float | None = None
        self._planned = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    @property
    def now_s(self) -> float:
        """The virtual seconds since the start of the run, at no cost."""
        return self._now_s

    @property
    def spun_at_s(self) -> float | None:
        """The instant at which tasks were found spinning; None: never."""
        return self._spun_at_s

    @property
    def events_ahead(self) -> int:
        """How many events are planned and have not happened."""
        return len(self._heap)

    def plan(self, at_s: float, event: Callable[[], None]) -> None:
        """Have `event` called at the virtual instant `at_s`; it must not block."""
        assert at_s >= self._now_s
        self._planned += 1
        heapq.heappush(self._heap, (at_s, self._planned, event))

    def start_clock(self) -> None:
        """Nothing to start: virtual time moves when trio is idle."""

    def current_time(self) -> float:
        """Give the virtual seconds since the start of the run."""
        self._turns += 1
        if self._turns > TURNS_AT_ONE_INSTANT_MAX:
            self._spun_at_s = self._now_s
            self._advance(self._now_s + LEAP_S)
        return self._now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Move on to the next thing that happens: there is no need to sleep."""
        at_s = min(deadline, self._heap[0][0]) if self._heap else deadline
        if at_s == math.inf:
            return math.inf  # only trio itself is at work, closing down
        if at_s > self._now_s:
            self._advance(at_s)
        while self._heap and self._heap[0][0] <= self._now_s:
            heapq.heappop(self._heap)[2]()
        return 0.0

    def _advance(self, at_s: float) -> None:
        self._now_s = at_s
        self._turns = 0
