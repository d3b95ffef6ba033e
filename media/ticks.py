"""The 20 ms beat of everything that plays or captures.

All beats of a process fall on one grid of trio's clock, so that calls and devices wake
it together, 50 times a second, and not each on its own: cold wake-ups cost more than
the codec does. Deadlines are absolute: being late once does not add up. A service.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from media.frame import FRAME_S

__all__ = ["Ticks"]

CATCH_UP_S_MAX: Final = 1.0
# A busy machine is late by less. After a longer stop (a laptop that slept) the missed
# beats are no use to anybody.


class Ticks:
    """A beat from now on; one for each task that keeps time."""

    def __init__(self, period_s: float = FRAME_S) -> None:
        self._period_s = period_s
        self._next = math.ceil(trio.current_time() / period_s)
        self.skipped = 0

    async def wait(self) -> float:
        """Wait for the next beat and give its instant, which may be in the past.

        A late caller gets the beats it missed at once, one by one, unless it is more
        than 1 s late. Cancelled, it loses no beat.
        """
        await trio.sleep_until(self._next * self._period_s)
        due = self._next * self._period_s
        if trio.current_time() - due > CATCH_UP_S_MAX:
            now = math.floor(trio.current_time() / self._period_s)
            self.skipped += now - self._next
            self._next, due = now, now * self._period_s
        self._next += 1
        return due
