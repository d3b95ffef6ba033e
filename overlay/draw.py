"""Drawing lots, from random bytes that are handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["draw_fraction", "draw_some"]

_T = TypeVar("_T")


def draw_fraction(random_bytes: Callable[[int], bytes]) -> float:
    """Draw a number, 0 <= n < 1."""
    return int.from_bytes(random_bytes(6), "big") / 2**48


def draw_some(
    random_bytes: Callable[[int], bytes], items: Sequence[_T], count: int
) -> list[_T]:
    """Draw `count` different items, or all if there are fewer, in random order."""
    left = list(items)
    drawn: list[_T] = []
    while left and len(drawn) < count:
        index = int(draw_fraction(random_bytes) * len(left))
        left[index], left[-1] = left[-1], left[index]
        drawn.append(left.pop())
    return drawn
