"""A home as its leaf knows it; the states of the way home, and what it tells.

The machine is `overlay.homes`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from overlay.ask import Peer
from overlay.records import HOMES_MAX

__all__ = [
    "TRANSITIONS",
    "AtHome",
    "Cause",
    "Home",
    "HomeLost",
    "HomesEvent",
    "HomesState",
    "NobodyAnswers",
    "nearest",
]


class HomesState(enum.Enum):
    """Where a leaf is on its way home."""

    ALONE = "alone"
    SEEKING = "seeking"
    MEASURING = "measuring"
    REGISTERING = "registering"
    AT_HOME = "at home"


class Cause(enum.Enum):
    """What moves a leaf on its way."""

    SOUGHT = "supernodes are asked for"
    KNOWN = "supernodes to measure are known"
    CHOSEN = "homes were chosen"
    STORED = "the primary has published us"
    UNCHANGED = "what was measured changes nothing"
    NOBODY = "nobody answers"


_S: Final = HomesState
TRANSITIONS: Final[Mapping[Cause, Mapping[HomesState, HomesState]]] = {
    Cause.SOUGHT: {
        _S.ALONE: _S.SEEKING,
        _S.REGISTERING: _S.SEEKING,
        _S.AT_HOME: _S.SEEKING,
    },
    Cause.KNOWN: {
        _S.SEEKING: _S.MEASURING,
        _S.REGISTERING: _S.MEASURING,
        _S.AT_HOME: _S.MEASURING,
    },
    Cause.CHOSEN: {_S.MEASURING: _S.REGISTERING},
    Cause.STORED: {_S.REGISTERING: _S.AT_HOME},
    Cause.UNCHANGED: {_S.MEASURING: _S.AT_HOME},
    Cause.NOBODY: {_S.SEEKING: _S.ALONE, _S.MEASURING: _S.ALONE},
}


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
        return self.peer.known_static


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
