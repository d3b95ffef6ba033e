"""The introductions that a home carries: who is being introduced to whom.

    caller ---- Introduce(id, callee) ---> home ---- Deliver(id) ---> callee
           <--------- Signal(id) --------       <------ Signal(id) ---

An introduction is known by 16 random bytes of the caller's. While it lives, what one
side signals is handed to the other and to nobody else; the home reads none of it. It
ends `IDLE_S` after the last word. Sans-IO; bounded in all and for each caller.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

__all__ = ["IDLE_S", "Introductions"]

IDLE_S: Final = 120.0
# Longer than a call may ring (60 s), so that a refusal still finds its way.
INTRODUCTIONS_MAX: Final = 1_024
# More than a home has leaves (750).
PER_CALLER_MAX: Final = 8
# A person calls one peer; a mesh test calls some.


@dataclass(slots=True)
class _Introduction:
    caller: bytes
    callee: bytes
    ends_at: float


class Introductions:
    """The table of one home. Sides are static keys of sessions."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Introduction] = {}
        self._of_caller: Counter[bytes] = Counter()
        self._refused = 0

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._open

    @property
    def refused(self) -> int:
        """How many were refused, because of a limit or because the id was taken."""
        return self._refused

    def open(self, identifier: bytes, caller: bytes, callee: bytes, now: float) -> bool:
        """Begin an introduction, or repeat it; False if it may not be."""
        known = self._open.get(identifier)
        if known is not None:
            same = (known.caller, known.callee) == (caller, callee)
            self._refused += not same
            return same
        if self._of_caller[caller] >= PER_CALLER_MAX:
            self._end_oldest_of(caller)
        if len(self._open) >= INTRODUCTIONS_MAX:
            self._refused += 1
            return False
        self._open[identifier] = _Introduction(caller, callee, now + IDLE_S)
        self._of_caller[caller] += 1
        return True

    def _end_oldest_of(self, caller: bytes) -> None:
        """End what a caller began first: it is most likely over."""
        oldest = next(key for key, held in self._open.items() if held.caller == caller)
        del self._open[oldest]
        self._of_caller -= Counter((caller,))

    def other_side(self, identifier: bytes, side: bytes, now: float) -> bytes | None:
        """Give whom a signal of `side` is for; None if this is not theirs."""
        held = self._open.get(identifier)
        if held is None or side not in (held.caller, held.callee):
            return None
        held.ends_at = now + IDLE_S
        self._open[identifier] = self._open.pop(identifier)
        return held.callee if side == held.caller else held.caller

    def handle_timeout(self, now: float) -> None:
        """End what has been silent for too long."""
        while now >= self.next_timeout():
            over = self._open.pop(next(iter(self._open)))
            self._of_caller -= Counter((over.caller,))

    def next_timeout(self) -> float:
        """Give the instant at which the next one may end."""
        # All live equally long and the last used is at the end: the first is next.
        for held in self._open.values():
            return held.ends_at
        return math.inf
