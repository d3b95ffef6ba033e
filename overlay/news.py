"""What has yet to be told to others, and how often.

Each piece of news is told in so many rounds, the least told first; newer news of the
same subject takes the place of the older. Pure: time comes in.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["News"]

NEWS_MAX: Final = 1_024
# Three minutes' worth at 5 each 500 ms; what is dropped comes with the tables.


class News:
    """The news of one node. `interval_s` lies between two rounds."""

    def __init__(self, rounds: int, interval_s: float) -> None:
        self._rounds = rounds
        self._interval_s = interval_s
        self._pieces: dict[bytes, tuple[bytes, int]] = {}
        self._round_at = math.inf
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def dropped(self) -> int:
        """How many pieces were not taken because there was no room."""
        return self._dropped

    def add(self, subject: bytes, piece: bytes, now: float) -> None:
        """Have this told, from the next round on."""
        if subject not in self._pieces and len(self._pieces) >= NEWS_MAX:
            self._dropped += 1
            return
        self._pieces[subject] = (piece, self._rounds)
        self._round_at = min(self._round_at, now + self._interval_s)

    def next_round(self, count: int, now: float) -> tuple[bytes, ...]:
        """Give at most `count` pieces to tell now, and count them as told once more."""
        least_told = sorted(self._pieces.items(), key=lambda item: -item[1][1])
        told = least_told[:count]
        for subject, (piece, rounds) in told:
            if rounds > 1:
                self._pieces[subject] = (piece, rounds - 1)
            else:
                del self._pieces[subject]
        self._round_at = now + self._interval_s if self._pieces else math.inf
        return tuple(piece for _, (piece, _) in told)

    def clear(self) -> None:
        """Forget all of it: there is nobody to tell."""
        self._pieces.clear()
        self._round_at = math.inf

    def next_timeout(self) -> float:
        """Give the instant of the next round; `math.inf` if there is no news."""
        return self._round_at
