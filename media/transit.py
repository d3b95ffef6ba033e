"""How long packets are under way, relative to the fastest: what a delay must cover.

The *transit* of a packet is its arrival minus its media time; clocks differ, so only
differences mean something. The minimum over the last 2 s is the base, which follows
drifting clocks and changed paths. Delays above the base are kept in a histogram that
slowly forgets, and the target is the delay by which nearly all of them had come. A
machine: time comes in.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np

from media.frame import FRAME_S

__all__ = ["Transit"]

WINDOW_S: Final = 2.0
WINDOW_PARTS: Final = 4
# The base is the least of so many partial minima; one more is being filled.
BUCKET_S: Final = 0.005
BUCKETS: Final = 100
FORGET: Final = 0.998
# Per packet: a memory of 10 s.
COVERED: Final = 0.98
# Chosen by trial: what comes later than this share is cheaper to conceal than to wait
# for.
START_S: Final = 0.06
TARGET_S_MIN: Final = 0.02
TARGET_S_MAX: Final = 0.4


class Transit:
    """What the packets of one sender have shown of the way so far."""

    def __init__(self) -> None:
        self._minima: deque[tuple[int, float]] = deque(maxlen=WINDOW_PARTS + 1)
        self._base_s = math.inf
        self._late = np.zeros(BUCKETS)
        self._late[_bucket(START_S)] = 1.0
        self.target_s = START_S

    def observe(self, slot: int, now: float) -> None:
        """Learn from a packet of media time `slot` that came `now`."""
        transit_s = now - slot * FRAME_S
        self._rebase(transit_s, now)
        self._late *= FORGET
        self._late[_bucket(transit_s - self._base_s)] += 1 - FORGET
        covered = np.searchsorted(np.cumsum(self._late), COVERED * self._late.sum())
        target_s = (int(covered) + 1) * BUCKET_S
        self.target_s = min(max(target_s, TARGET_S_MIN), TARGET_S_MAX)

    def delay_s(self, slot: int, now: float) -> float:
        """How long after its earliest possible arrival `slot` would be played now."""
        return now - slot * FRAME_S - self._base_s

    def _rebase(self, transit_s: float, now: float) -> None:
        part = math.floor(now * WINDOW_PARTS / WINDOW_S)
        while self._minima and self._minima[0][0] <= part - WINDOW_PARTS - 1:
            self._minima.popleft()
        if self._minima and self._minima[-1][0] >= part:
            newest, least_s = self._minima[-1]
            self._minima[-1] = (newest, min(least_s, transit_s))
        else:
            self._minima.append((part, transit_s))
        base_s = min(least_s for _, least_s in self._minima)
        if math.isfinite(self._base_s):
            self._shift(base_s - self._base_s)
        self._base_s = base_s

    def _shift(self, rise_s: float) -> None:
        """After a change to a slower path, measure what is known from the new base.

        Else the old distances would count on top of the new base, and the target would
        be twice too deep until they are forgotten. A fall needs nothing: it is either
        the first packets, or a faster path of which the old distances say nothing.
        """
        buckets = min(int(rise_s / BUCKET_S), BUCKETS - 1)
        if buckets > 0:
            below = self._late[: buckets + 1].sum()
            self._late[:-buckets] = self._late[buckets:]
            self._late[-buckets:] = 0.0
            self._late[0] = below


def _bucket(late_s: float) -> int:
    return min(max(int(late_s / BUCKET_S), 0), BUCKETS - 1)
