"""The other supernodes that one supernode knows, the state of each, and the ring.

    HEARD_OF   somebody told us: not on the ring
    ALIVE      an authenticated packet came from the address it names: on the ring
    DEAD       it did not answer us: off the ring, but remembered for a day
    LEFT       it said goodbye: as DEAD, and no late packet of it brings it back

                 HEARD       SILENT      LEFT        RETURNED    MOVED
    HEARD_OF     ALIVE       DEAD        LEFT        HEARD_OF    HEARD_OF
    ALIVE        ALIVE       DEAD        LEFT        ALIVE       HEARD_OF
    DEAD         ALIVE       DEAD        LEFT        HEARD_OF    HEARD_OF
    LEFT         LEFT        LEFT        LEFT        HEARD_OF    HEARD_OF

*Returned* and *moved* mean that it signed a higher incarnation, in the latter case with
another address or session key.

A descriptor is believed for its signature alone and only ever replaced by one of a
higher incarnation. Two identities cannot share a session key: the first to name it has
it, until the other one speaks from a session of that key. Pure: time comes in. A state
for suspicion finds its place between ALIVE and DEAD.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from nat.address import Address
from overlay.ask import Peer
from overlay.records import Descriptor
from overlay.ring import MEMBERS_MAX, Ring, Seat

__all__ = [
    "Member",
    "MemberEvent",
    "MemberJoined",
    "MemberLost",
    "MemberState",
    "Roster",
    "RosterStatistics",
]

GRAVEYARD_S: Final = 86_400.0
# The dead are asked again for a day; descriptors older than that are not news.
CLOCK_SKEW_S_MAX: Final = 86_400.0
# As for presences: clocks are wrong by hours.
RTT_GAIN: Final = 1 / 8
# RFC 6298.


class MemberState(enum.Enum):
    """How things stand with a member; see the table above."""

    HEARD_OF = "heard of"
    ALIVE = "alive"
    DEAD = "dead"
    LEFT = "left"


class _Cause(enum.Enum):
    HEARD = enum.auto()
    SILENT = enum.auto()
    LEFT = enum.auto()
    RETURNED = enum.auto()
    MOVED = enum.auto()


_S: Final = MemberState
_NEXT: Final[Mapping[_Cause, Mapping[MemberState, MemberState]]] = {
    _Cause.HEARD: {
        _S.HEARD_OF: _S.ALIVE,
        _S.ALIVE: _S.ALIVE,
        _S.DEAD: _S.ALIVE,
        _S.LEFT: _S.LEFT,
    },
    _Cause.SILENT: {
        _S.HEARD_OF: _S.DEAD,
        _S.ALIVE: _S.DEAD,
        _S.DEAD: _S.DEAD,
        _S.LEFT: _S.LEFT,
    },
    _Cause.LEFT: dict.fromkeys(_S, _S.LEFT),
    _Cause.RETURNED: {
        _S.HEARD_OF: _S.HEARD_OF,
        _S.ALIVE: _S.ALIVE,
        _S.DEAD: _S.HEARD_OF,
        _S.LEFT: _S.HEARD_OF,
    },
    _Cause.MOVED: dict.fromkeys(_S, _S.HEARD_OF),
}
_REASONS: Final[Mapping[_Cause, str]] = {
    _Cause.SILENT: "it did not answer",
    _Cause.LEFT: "it said goodbye",
    _Cause.MOVED: "it moved to another address or key",
}


@dataclass(frozen=True, slots=True)
class MemberJoined:
    """A supernode counts from now on: the ring has changed."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class MemberLost:
    """A supernode counts no longer: the ring has changed."""

    descriptor: Descriptor
    reason: str


MemberEvent: TypeAlias = MemberJoined | MemberLost


@dataclass(slots=True)
class Member:
    """One other supernode, from when it is first heard of until it is long dead.

    `load` is as a home, 1 = full.
    """

    descriptor: Descriptor
    state: MemberState = MemberState.HEARD_OF
    rtt_s: float | None = None
    load: float | None = None
    heard_at: float | None = None
    changed_at: float = 0.0

    @property
    def static(self) -> bytes:
        """Its session key, by which members are known here."""
        return self.descriptor.dh_public

    @property
    def peer(self) -> Peer:
        """How to ask it."""
        return Peer(self.descriptor.address, self.static)


@dataclass(frozen=True, slots=True)
class RosterStatistics:
    """How many there are, and which descriptors were refused and why."""

    heard_of: int
    alive: int
    dead: int
    left: int
    refused_by_clock: int
    refused_full: int
    refused_key_taken: int


class Roster:
    """The table of one supernode and the ring of those who count, itself included."""

    def __init__(self, us: Descriptor) -> None:
        self.ring: Final = Ring()
        self._our_static = us.dh_public
        self._members: dict[bytes, Member] = {}
        self._static_of: dict[bytes, bytes] = {}
        self._by_raw: dict[bytes, Member] = {}
        self._events: list[MemberEvent] = []
        self._refused_by_clock = 0
        self._refused_full = 0
        self._refused_key_taken = 0
        self.ring.add(Seat.of(us))

    def __len__(self) -> int:
        return len(self._members)

    def find(self, static: bytes) -> Member | None:
        """Give the member with this session key."""
        return self._members.get(static)

    def holder(self, raw: bytes) -> Member | None:
        """Give the member of which this very record is held: of most that is told."""
        return self._by_raw.get(raw)

    def members(self) -> tuple[Member, ...]:
        """Give all of them."""
        return tuple(self._members.values())

    def in_state(self, state: MemberState) -> list[Member]:
        """Give those in a state."""
        return [member for member in self._members.values() if member.state is state]

    def learn(
        self, descriptor: Descriptor, spoken_by: bytes | None, now: float
    ) -> Member | None:
        """Take a verified descriptor; gives its member if that was news.

        `spoken_by` is the session key of who said it, None if that is not known.
        """
        known = self._members.get(self._static_of.get(descriptor.public_key, b""))
        if known and descriptor.incarnation <= known.descriptor.incarnation:
            return None
        if not now - GRAVEYARD_S < descriptor.issued < now + CLOCK_SKEW_S_MAX:
            self._refused_by_clock += 1
            return None
        if not self._may_have_key(descriptor, spoken_by, now):
            self._refused_key_taken += 1
            return None
        if known is not None:
            return self._renew(known, descriptor, now)
        if len(self._members) >= MEMBERS_MAX - 1:  # and ourselves
            self._refused_full += 1
            return None
        member = Member(descriptor, changed_at=now)
        self._enter(member)
        return member

    def heard(self, static: bytes, source: Address, now: float) -> None:
        """Take it that an authenticated packet of this session came from `source`.

        That somebody with the right key exists somewhere proves nothing about the
        address on which its place on the ring depends.
        """
        member = self._members.get(static)
        if member is not None and source == member.descriptor.address:
            member.heard_at = now
            self._move(member, _Cause.HEARD, now)

    def measured(self, static: bytes, rtt_s: float, load: float) -> None:
        """Take a round trip and what the member said about its load."""
        member = self._members.get(static)
        if member is not None:
            old = rtt_s if member.rtt_s is None else member.rtt_s
            member.rtt_s = old + RTT_GAIN * (rtt_s - old)
            member.load = load

    def silent(self, peer: Peer, now: float) -> None:
        """Take it that `peer` did not answer us; nothing if it has moved since."""
        member = self._members.get(peer.static or b"")
        if member is not None and member.peer == peer:
            self._move(member, _Cause.SILENT, now)

    def left(self, static: bytes, now: float) -> None:
        """Take it that the member said goodbye, or is no supernode any more."""
        member = self._members.get(static)
        if member is not None:
            self._move(member, _Cause.LEFT, now)

    def forget_long_dead(self, now: float) -> None:
        """Drop who has been dead for a day."""
        for member in self.members():
            gone = member.state in (MemberState.DEAD, MemberState.LEFT)
            if gone and now >= member.changed_at + GRAVEYARD_S:
                self._remove(member)

    def events(self) -> list[MemberEvent]:
        """Drain what happened to the ring."""
        events, self._events = self._events, []
        return events

    def statistics(self) -> RosterStatistics:
        """Give the counts."""
        return RosterStatistics(
            heard_of=len(self.in_state(MemberState.HEARD_OF)),
            alive=len(self.in_state(MemberState.ALIVE)),
            dead=len(self.in_state(MemberState.DEAD)),
            left=len(self.in_state(MemberState.LEFT)),
            refused_by_clock=self._refused_by_clock,
            refused_full=self._refused_full,
            refused_key_taken=self._refused_key_taken,
        )

    def _may_have_key(
        self, descriptor: Descriptor, spoken_by: bytes | None, now: float
    ) -> bool:
        """Whether the session key is free for this identity, or proven to be its."""
        static = descriptor.dh_public
        if static == self._our_static:
            return False
        holder = self._members.get(static)
        if holder is None or holder.descriptor.public_key == descriptor.public_key:
            return True
        if spoken_by != static:
            return False
        self._move(holder, _Cause.MOVED, now)
        self._remove(holder)
        return True

    def _renew(self, member: Member, descriptor: Descriptor, now: float) -> Member:
        old = member.descriptor
        same_place = (old.packed_address, old.dh_public) == (
            descriptor.packed_address,
            descriptor.dh_public,
        )
        self._move(member, _Cause.RETURNED if same_place else _Cause.MOVED, now)
        self._remove(member)
        member.descriptor = descriptor
        self._enter(member)
        return member

    def _enter(self, member: Member) -> None:
        self._members[member.static] = member
        self._static_of[member.descriptor.public_key] = member.static
        self._by_raw[member.descriptor.raw] = member

    def _remove(self, member: Member) -> None:
        del self._members[member.static]
        del self._static_of[member.descriptor.public_key]
        del self._by_raw[member.descriptor.raw]

    def _move(self, member: Member, cause: _Cause, now: float) -> None:
        before, member.state = member.state, _NEXT[cause][member.state]
        if before is member.state:
            return
        member.changed_at = now
        if member.state is MemberState.ALIVE:
            self.ring.add(Seat.of(member.descriptor))
            self._events.append(MemberJoined(member.descriptor))
        elif before is MemberState.ALIVE:
            self.ring.remove(member.static)
            self._events.append(MemberLost(member.descriptor, _REASONS[cause]))
