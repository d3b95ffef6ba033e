"""What a node is made of and what it tells its owner; the machine is `overlay.node`."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from nat.address import Address
from overlay.call import Call
from overlay.call_state import CallEvent
from overlay.home import AtHome, HomeLost, NobodyAnswers
from overlay.identity import Identity
from overlay.incoming import IncomingCall
from overlay.lookup import LookupDone
from overlay.records import Descriptor
from overlay.roster import MemberJoined, MemberLost
from overlay.timing import HomesTiming, MembersTiming

__all__ = [
    "CallArrived",
    "CallHappened",
    "LookupEnded",
    "NodeConfig",
    "NodeEvent",
    "Ready",
    "Role",
    "RoleChanged",
    "SupernodeMode",
    "SurveyEnded",
]


class SupernodeMode(enum.StrEnum):
    """Whether a node may serve others."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Role(enum.StrEnum):
    """What a node is now."""

    LEAF = "leaf"
    SUPERNODE = "supernode"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What makes one node.

    `address` is where others reach us, should we become a supernode; `hosts` are our
    own IP addresses, to be told to contacts in a call. `voices_max` calls with sound
    may go on at once.
    """

    identity: Identity
    name: str | None
    address: Address
    hosts: tuple[str, ...]
    network_name: str
    seeds: tuple[Address, ...]
    supernode: SupernodeMode
    is_contact: Callable[[bytes], bool]
    client_version: str
    random_bytes: Callable[[int], bytes]
    voices_max: int = 1
    homes_timing: HomesTiming | None = None
    members_timing: MembersTiming | None = None


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The node serves others now."""

    role: Role
    why: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The node can be found: so many of the owners of its key hold its presence."""

    stored: int
    owners: int


@dataclass(frozen=True, slots=True)
class LookupEnded:
    """The look-up with this number is over."""

    number: int
    done: LookupDone


@dataclass(frozen=True, slots=True)
class SurveyEnded:
    """The survey with this number found these supernodes."""

    number: int
    found: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class CallArrived:
    """Somebody calls us."""

    call: IncomingCall


@dataclass(frozen=True, slots=True)
class CallHappened:
    """Something happened in a call."""

    call: Call
    event: CallEvent


NodeEvent: TypeAlias = (
    RoleChanged
    | Ready
    | AtHome
    | HomeLost
    | NobodyAnswers
    | MemberJoined
    | MemberLost
    | LookupEnded
    | SurveyEnded
    | CallArrived
    | CallHappened
)
