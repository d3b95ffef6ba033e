"""A home as its leaf knows it, and what the way home tells.

The machine is `overlay.homes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from overlay.ask import Peer
from overlay.records import HOMES_MAX

__all__ = [
    "AtHome",
    "Home",
    "HomeLost",
    "HomesEvent",
    "HomesTiming",
    "NobodyAnswers",
    "nearest",
]


@dataclass(frozen=True, slots=True)
class HomesTiming:
    """How often what is done; the world's values."""

    keepalive_s: float = 20.0
    refresh_s: float = 300.0
    spread: float = 0.2
    more_homes_s: float = 2.0
    backoff_s_min: float = 0.5
    backoff_s_max: float = 60.0


@dataclass(frozen=True, slots=True)
class Home:
    """One home and how it is from here; `load` of 1 is full."""

    peer: Peer
    rtt_s: float
    load: float
    registered: bool = False

    @property
    def static(self) -> bytes:
        """The home's static key."""
        assert self.peer.static is not None
        return self.peer.static


@dataclass(frozen=True, slots=True)
class AtHome:
    """We can be found: `stored` of `owners` supernodes hold our presence."""

    homes: tuple[Home, ...]
    stored: int
    owners: int


@dataclass(frozen=True, slots=True)
class HomeLost:
    """This home does not answer, or sent us away."""

    home: Home
    reason: str


@dataclass(frozen=True, slots=True)
class NobodyAnswers:
    """No supernode could be reached; we try again after `retry_s`."""

    asked: int
    retry_s: float


HomesEvent: TypeAlias = AtHome | HomeLost | NobodyAnswers


def nearest(candidates: Iterable[Home]) -> dict[bytes, Home]:
    """Give the best three by round trip, on different /16 while there are enough."""
    by_distance = sorted(candidates, key=lambda home: home.rtt_s)
    prefixes: set[bytes] = set()
    diverse: list[Home] = []
    same: list[Home] = []
    for home in by_distance:
        prefix = home.peer.address.prefix(16, 32)
        (same if prefix in prefixes else diverse).append(home)
        prefixes.add(prefix)
    chosen = sorted((diverse + same)[:HOMES_MAX], key=lambda home: home.rtt_s)
    return {home.static: home for home in chosen}
