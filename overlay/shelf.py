"""A bounded table whose entries expire.

Each entry has its own instant of expiry, which may be put off. Full means that new keys
are refused; who calls counts that. Pure: time comes in.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from overlay.deadlines import Deadlines

__all__ = ["Shelf"]

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Shelf(Generic[_K, _V]):
    """At most `entries_max` entries; what is over is gone even before it is dropped."""

    def __init__(self, entries_max: int) -> None:
        self._max = entries_max
        self._entries: dict[_K, tuple[_V, float]] = {}
        self._expiries: Deadlines[_K] = Deadlines()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[_K]:
        return iter(tuple(self._entries))

    def get(self, key: _K, now: float) -> _V | None:
        """Give what is held under this key now."""
        value, expires_at = self._entries.get(key, (None, -math.inf))
        return value if now < expires_at else None

    def put(self, key: _K, value: _V, expires_at: float) -> bool:
        """Hold or replace; False if there is no room for another key."""
        if key not in self._entries and len(self._entries) >= self._max:
            return False
        self._entries[key] = (value, expires_at)
        self._expiries.set(key, expires_at)
        return True

    def expire(self, now: float) -> list[tuple[_K, _V]]:
        """Drop and give back what is over."""
        due = self._expiries.pop_due(now)
        return [(key, self._entries.pop(key)[0]) for key in due]

    def next_expiry(self) -> float:
        """Give the instant at which the next entry is over."""
        return self._expiries.next_at()
