"""Fair comparison: all candidates in turn, round after round, and then medians.

A machine's speed drifts while it measures, so candidates are never measured one after
the other but side by side: each round times every candidate, a ratio is taken within a
round, and its median over the rounds is what counts. Time is CPU time of this process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["ROUNDS", "Rounds", "cpu_seconds", "run_rounds"]

ROUNDS = 41
# Odd, so that the median is one of them; enough for three digits on a quiet machine.


class Rounds(dict[str, list[float]]):
    """The seconds that one operation of each candidate took, in each round."""

    def per_second(self, name: str) -> float:
        """Give the median number of operations a second."""
        return 1 / statistics.median(self[name])

    def speed_of(self, name: str, other: str) -> float:
        """Give how many times as fast `name` is as `other`: the median of pairs."""
        pairs = zip(self[name], self[other], strict=True)
        return statistics.median(theirs / ours for ours, theirs in pairs)


def run_rounds(measure: Callable[[], Mapping[str, float]]) -> Rounds:
    """Repeat a round, which gives the seconds per operation of each candidate.

    The first round warms up and is not counted.
    """
    measure()
    rounds = Rounds()
    for _ in range(ROUNDS):
        for name, seconds in measure().items():
            rounds.setdefault(name, []).append(seconds)
    return rounds


def cpu_seconds(operation: Callable[[], object]) -> float:
    """Give the CPU seconds one call takes."""
    started = time.process_time()
    operation()
    return time.process_time() - started
