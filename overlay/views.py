"""What a node shows of itself and of others to the programs around it: plain values."""

from __future__ import annotations

from dataclasses import dataclass

from nat.address import Address
from nat.paths import Direct, Relayed, Route
from overlay.identity import ShortId
from overlay.records import Presence

__all__ = [
    "Found",
    "HomeInfo",
    "NodeStatus",
    "PathReport",
    "Pinged",
    "Step",
    "SupernodeInfo",
    "route_text",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One question of a look-up: whom we asked, what it said, how long it took."""

    who: Address
    answer: str
    rtt_s: float | None
    at: float


@dataclass(frozen=True, slots=True)
class Found:
    """A peer as the index knows it, and how it was found."""

    public_key: bytes
    name: str | None
    short_id: ShortId
    presence: Presence
    steps: tuple[Step, ...]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class Pinged:
    """The best way to a peer that was found within a moment."""

    rtt_s: float
    direct: bool
    route: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class PathReport:
    """One path of a call: `direct` or `relay(ADDRESS)`; `why` it is used or not."""

    route: str
    rtt_s: float | None
    loss: float
    chosen: bool
    why: str


@dataclass(frozen=True, slots=True)
class HomeInfo:
    """A supernode that this node is registered at; `load` of 1 is full."""

    address: Address
    rtt_s: float | None
    primary: bool
    load: float
    registered: bool


@dataclass(frozen=True, slots=True)
class SupernodeInfo:
    """A supernode: what part of all keys it owns, and what is known of it."""

    address: Address
    short: str
    role: str
    share: float
    state: str
    rtt_s: float | None
    load: float | None
    keys_held: int | None
    version: str


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """How a node is connected, and every count of what it holds and dropped."""

    role: str
    why_role: str
    address: Address
    observed: Address | None
    homes: list[HomeInfo]
    supernodes_known: int
    records_held: int
    leaves_registered: int
    sessions: int
    relay_calls: int
    counters: dict[str, int]


def route_text(route: Route) -> str:
    """Give the short text that people see for a route."""
    match route:
        case Direct():
            return "direct"
        case Relayed(relay):
            return f"relay({relay})"
