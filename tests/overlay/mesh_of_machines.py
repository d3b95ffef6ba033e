"""Supernodes made of machines only, wired together in virtual time.

No sessions, sockets or tasks: an ask reaches its peer's machines half a round trip
later, or fails five seconds later if the peer is down or cut off. The same seed gives
the same run.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from nat.address import Address
from overlay.ask import Ask, Asker, Peer
from overlay.index import Index
from overlay.lookup import Lookup, LookupDone, answer_look_up
from overlay.members import Members
from overlay.messages import (
    Announce,
    Answer,
    Busy,
    Deliver,
    GetSupernodes,
    Introduce,
    JoinRelay,
    LookUp,
    Ping,
    Pong,
    Refusal,
    Refused,
    Register,
    Request,
    Store,
    Stored,
)
from overlay.publication import Publication, Published
from overlay.records import Claim, Presence
from overlay.roster import MemberEvent
from overlay.timing import MembersTiming
from tests.overlay.samples import NOW, address, identity, randomness

__all__ = ["Mesh", "Supernode"]

RTT_S = 0.08
GIVE_UP_S = 5.0


class _Machine(Protocol):
    def handle_timeout(self, now: float) -> None: ...
    def next_timeout(self) -> float: ...


class _AskingMachine(_Machine, Asker, Protocol):
    def messages_to_send(self) -> list[Ask]: ...


@dataclass(eq=False)
class Supernode:
    """One supernode's machines, as its node would hold them."""

    number: int
    members: Members
    index: Index
    publication: Publication
    peer: Peer
    is_up: bool = True
    is_busy: bool = False
    lookups: list[Lookup] = field(default_factory=list)
    ring_events: list[MemberEvent] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    lookups_done: list[LookupDone] = field(default_factory=list)

    @property
    def static(self) -> bytes:
        assert self.peer.static is not None
        return self.peer.static

    def askers(self) -> list[_AskingMachine]:
        return [self.members, self.publication, *self.lookups]

    def machines(self) -> list[_Machine]:
        return [self.index, *self.askers()]

    def answer(self, request: Request, asker: Peer, now: float) -> Answer:
        if asker.static is not None:
            self.members.heard(asker.static, asker.address, now)
        if self.is_busy:
            return Busy(5.0, ())
        match request:
            case Ping():
                return Pong(asker.address.pack(), 0.1, 0.0)
            case GetSupernodes():
                return self.members.answer_get(request)
            case Announce():
                return self.members.answer_announce(request, asker, now)
            case Store(records):
                return Stored(sum(self.index.store(record, now) for record in records))
            case LookUp(key):
                ring = self.members.ring
                return answer_look_up(key, self.index, ring, self.static, now)
            case Register() | Introduce() | Deliver() | JoinRelay():
                return Refused(Refusal.NOT_UNDERSTOOD)
            case _:
                assert_never(request)

    def collect(self, now: float) -> None:
        """Take the events of the machines, as a node would."""
        changes = self.members.events()
        if changes:
            self.ring_events += changes
            self.publication.ring_changed(now)
        self.published += self.publication.events()
        for lookup in self.lookups:
            self.lookups_done += lookup.events()


class Mesh:
    """Some supernodes and the time they live in."""

    def __init__(self, seed: int = 1, timing: MembersTiming | None = None) -> None:
        self.now = NOW
        self.asked = 0
        self._timing = timing
        self._seed = seed
        self._supernodes: dict[Address, Supernode] = {}
        self._all: list[Supernode] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._islands: dict[Supernode, int] = {}

    def start(
        self,
        number: int,
        seeds: Sequence[int | Address] = (),
        *,
        at: Address | None = None,
    ) -> Supernode:
        """Start a supernode; an earlier one with its address is no more."""
        where = at or address(number)
        members = Members(
            identity(number),
            where,
            caps=1,
            client_version="0.1.0",
            seeds=[Peer(address(s) if isinstance(s, int) else s) for s in seeds],
            random_bytes=randomness(self._seed * 1_000 + number + len(self._all)),
            now=self.now,
            timing=self._timing,
        )
        supernode = Supernode(
            number,
            members,
            Index(),
            Publication(members.ring),
            Peer(where, identity(number).dh_public),
        )
        earlier = self._supernodes.get(where)
        if earlier is not None:
            earlier.is_up = False
        self._supernodes[where] = supernode
        self._all.append(supernode)
        return supernode

    def up(self) -> list[Supernode]:
        """Give the supernodes that run."""
        return [supernode for supernode in self._supernodes.values() if supernode.is_up]

    def kill(self, supernode: Supernode) -> None:
        """Let a supernode fall silent."""
        supernode.is_up = False

    def part(self, *islands: Iterable[Supernode]) -> None:
        """Let nothing pass between these islands; none given: heal."""
        self._islands = {
            supernode: number
            for number, island in enumerate(islands)
            for supernode in island
        }

    def publish(
        self, home: Supernode, presence: Presence, claim: Claim | None = None
    ) -> None:
        """Let a home publish a leaf's records."""
        assert home.publication.publish(presence, claim, self.now)

    def look_up(
        self, key: bytes, *, home: Supernode, within_s: float = 20.0
    ) -> LookupDone:
        """Let a supernode look a key up, and wait for the end of it."""
        lookup = Lookup(
            key, [home.peer], random_bytes=randomness(self._seed), now=self.now
        )
        home.lookups.append(lookup)
        before = len(home.lookups_done)
        until = self.now + within_s
        while len(home.lookups_done) == before and self.now < until:
            self.run(0.01)
        home.lookups.remove(lookup)
        return home.lookups_done[before]

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while True:
            self._drain()
            at = min(
                [
                    *(due[0] for due in self._due[:1]),
                    *(m.next_timeout() for s in self.up() for m in s.machines()),
                ]
            )
            if at > until:
                break
            self.now = max(self.now, at)
            self._step()
        self.now = until

    def agree(self) -> bool:
        """Whether all that run have the same ring, of all that run and nobody else."""
        statics = {supernode.static for supernode in self.up()}
        return all(
            {seat.static for seat in supernode.members.ring} == statics
            for supernode in self.up()
        )

    def _step(self) -> None:
        while self._due and self._due[0][0] <= self.now:
            heapq.heappop(self._due)[2]()
        for supernode in self.up():
            for machine in supernode.machines():
                if machine.next_timeout() <= self.now:
                    machine.handle_timeout(self.now)

    def _drain(self) -> None:
        for supernode in self.up():
            for machine in supernode.askers():
                for ask in machine.messages_to_send():
                    self._send(supernode, machine, ask)
            supernode.collect(self.now)

    def _send(self, asker: Supernode, machine: Asker, ask: Ask) -> None:
        self.asked += 1
        sent_at = self.now
        own = ask.peer.static == asker.static
        who = Peer(asker.peer.address, None if ask.anonymous else asker.static)

        def arrive() -> None:
            target = self._supernodes.get(ask.peer.address)
            knows = target and ask.peer.static in (None, target.static)
            if target is None or not knows or not self._reach(asker, target):
                self._at(sent_at + GIVE_UP_S, lose)
                return
            answer = target.answer(ask.request, who, self.now)
            self._at(self.now if own else self.now + RTT_S / 2, lambda: take(answer))

        def take(answer: Answer) -> None:
            if asker.is_up:
                machine.answered(ask.tag, answer, self.now - sent_at, self.now)

        def lose() -> None:
            if asker.is_up:
                machine.failed(ask.tag, self.now)

        self._at(self.now if own else self.now + RTT_S / 2, arrive)

    def _reach(self, asker: Supernode, target: Supernode) -> bool:
        same_island = self._islands.get(asker) == self._islands.get(target)
        return asker.is_up and target.is_up and same_island

    def _at(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at, next(self._order), do))
