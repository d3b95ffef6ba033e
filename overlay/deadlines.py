"""The next thing to do among many: deadlines by key, with cheap changes.

A heap with lazy removal: an entry whose key has another deadline by now is skipped.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """At most one deadline for each key."""

    def __init__(self) -> None:
        self._at: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()

    def set(self, key: K, at: float) -> None:
        """Give a key its deadline; `math.inf` takes it away."""
        if at == math.inf:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, next(self._order), key))
        if len(self._heap) > 2 * len(self._at) + 16:
            self._forget_stale()

    def next_at(self) -> float:
        """Give the earliest deadline, `math.inf` if there is none."""
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def pop_due(self, now: float) -> list[K]:
        """Take away and give the keys whose deadline has come, earliest first."""
        due = []
        while now >= self.next_at():
            key = heapq.heappop(self._heap)[2]
            del self._at[key]
            due.append(key)
        return due

    def _is_current(self, entry: tuple[float, int, K]) -> bool:
        return self._at.get(entry[2]) == entry[0]

    def _forget_stale(self) -> None:
        self._heap = [entry for entry in self._heap if self._is_current(entry)]
        heapq.heapify(self._heap)
