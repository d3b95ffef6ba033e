"""What a running node tells the programs around it, as it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nat.address import Address
from overlay.handles import CallHandle
from overlay.node_events import Ready, RoleChanged

__all__ = [
    "CallChanged",
    "CallIncoming",
    "HomeFound",
    "HomeLost",
    "NodeEvent",
    "PathChanged",
]


@dataclass(frozen=True, slots=True)
class HomeFound:
    """The node is at home at this supernode now."""

    address: Address


@dataclass(frozen=True, slots=True)
class HomeLost:
    """This supernode is no home any more."""

    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class CallIncoming:
    """Somebody calls."""

    line: CallHandle


@dataclass(frozen=True, slots=True)
class CallChanged:
    """The call is in another state now."""

    line: CallHandle


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Sound goes by another route now."""

    line: CallHandle
    route: str
    reason: str


NodeEvent: TypeAlias = (
    RoleChanged
    | Ready
    | HomeFound
    | HomeLost
    | CallIncoming
    | CallChanged
    | PathChanged
)
