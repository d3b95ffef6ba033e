"""The states of a call, what it tells, and what it has to know of its node.

The machine is `overlay.call`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from nat.candidate import Candidate
from nat.paths import PathAdded, PathChosen, ProbingBegan
from overlay.ask import Peer
from overlay.dial import Local
from overlay.messages import Contact

__all__ = [
    "TRANSITIONS",
    "CallChanged",
    "CallEvent",
    "CallRoute",
    "CallState",
    "Cause",
    "Self",
    "Signalled",
    "Timeline",
]


class CallState(enum.StrEnum):
    """Where a call is in its life."""

    OFFERING = "offering"
    RINGING = "ringing"
    CONNECTED = "connected"
    ENDED = "ended"


class Cause(enum.Enum):
    """What moves a call."""

    REPLIED = "the callee's node has answered"
    ACCEPTED = "the callee has accepted"
    ENDED = "either side, or fate, has ended it"


TRANSITIONS: Final[Mapping[CallState, Mapping[Cause, CallState]]] = {
    CallState.OFFERING: {
        Cause.REPLIED: CallState.RINGING,
        Cause.ENDED: CallState.ENDED,
    },
    CallState.RINGING: {
        Cause.ACCEPTED: CallState.CONNECTED,
        Cause.ENDED: CallState.ENDED,
    },
    CallState.CONNECTED: {Cause.ENDED: CallState.ENDED},
    CallState.ENDED: {},
}


@dataclass(frozen=True, slots=True)
class Self:
    """What a call has to know of the node it belongs to."""

    local: Local
    presence: bytes
    relays: tuple[Contact, ...]
    candidates: Callable[[], Sequence[Candidate]]


@dataclass(frozen=True, slots=True)
class CallChanged:
    """The call is in another state now."""

    state: CallState


@dataclass(frozen=True, slots=True)
class CallRoute:
    """Sound is sent by another route now."""

    chosen: PathChosen


@dataclass(frozen=True, slots=True)
class Signalled:
    """A datagram for the other end, to go through the introduction at this home."""

    home: Peer
    introduction: bytes
    payload: bytes


CallEvent: TypeAlias = CallChanged | CallRoute | ProbingBegan | PathAdded


@dataclass(slots=True)
class Timeline:
    """Instants of a call, by what happened first at them."""

    at: dict[str, float] = field(default_factory=dict)

    def mark(self, what: str, now: float) -> None:
        """Note that something happened, if it is the first time."""
        self.at.setdefault(what, now)
