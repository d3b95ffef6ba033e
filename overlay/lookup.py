"""One look-up: from the home to the owners of a key, to what they hold.

    leaf            home                owners
      | -- LookUp --> |                   |
      | <-- Referral- |                   |     or Value, if the home owns the key: done
      | -- LookUp ----------------------> | 1
      | -- LookUp ----------------------> | 2         both at once, anonymously
      |                ... 200 ms ...     |
      | -- LookUp ----------------------> | 3         one more each 200 ms, and at once
      | <------------------------ Value - | 2         for each that fails
      |      50 ms for another, fresher one
    Found

Homes are asked one after another, as themselves, until one answers; owners are asked
anonymously, in random order. Whom a Referral or NotFound names is asked too, but nobody
twice and nobody more than 3 referrals away from home. A supernode is its own home: it
answers the first ask itself.

Records count only if their signature is right, they belong under the key, and their
`seq` is not below the highest seen before. That nothing is held takes the word of 5 of
8 owners (of fewer: most, and all homes), because a record is stored at 5; if fewer say
so the outcome is that the index was not reached.

Sans-IO; speaks in asks (`overlay.ask`). Every answer leaves a `Step` to show.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from nat.address import Address
from nat.errors import WireError
from overlay.ask import Ask, Peer
from overlay.draw import draw_some
from overlay.index import Index
from overlay.messages import (
    OWNERS_MAX,
    Answer,
    Busy,
    Contact,
    LookUp,
    NotFound,
    Referral,
    Value,
)
from overlay.records import Claim, Presence, id_key, name_key, read_record
from overlay.ring import Ring

__all__ = [
    "AnswerKind",
    "Lookup",
    "LookupDone",
    "Outcome",
    "Step",
    "answer_look_up",
]

_R = TypeVar("_R", Claim, Presence)

PARALLEL: Final = 2
HEDGE_S: Final = 0.2
# One more owner each 200 ms: p99 within 545 ms when 30 % have just died (simulated).
HOME_PATIENCE_S: Final = 0.5
# Then the next home is asked as well.
FRESHER_S: Final = 0.05
# How long a second value may take to be fresher than the first.
REFERRALS_MAX: Final = 3
# Every supernode knows all: one is the rule, two while rings differ.
ASKED_MAX: Final = 24
# 3 homes, 8 owners, and as many again where views differ; more is somebody's game.
QUORUM: Final = 5
# A record is stored at 5 of 8, so 5 who lack it and 5 who have it cannot be.


class AnswerKind(enum.Enum):
    """What came of asking one node."""

    VALUE = "VALUE"
    REFERRAL = "REFERRAL"
    NOT_FOUND = "NOT_FOUND"
    BUSY = "BUSY"
    INVALID = "INVALID"  # an answer, but nothing in it that may be believed
    TIMEOUT = "TIMEOUT"


@dataclass(frozen=True, slots=True)
class Step:
    """One node's answer: whom we asked, what it said, after how long, and when."""

    address: Address
    static: bytes | None
    answer: AnswerKind
    rtt_s: float
    at: float

    @property
    def node(self) -> str:
        """A short text for the node's session key."""
        return "?" if self.static is None else self.static[:4].hex()


class Outcome(enum.Enum):
    """How a look-up ended."""

    FOUND = "found"
    NOT_FOUND = "not found"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class LookupDone:
    """The end. `records` has each identity's freshest, claims first; () if none."""

    outcome: Outcome
    records: tuple[Claim | Presence, ...]
    steps: tuple[Step, ...]
    started_at: float
    finished_at: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Somebody to ask: a home (depth 0), or so many referrals away from one."""

    peer: Peer
    depth: int


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    candidate: _Candidate
    asked_at: float


def answer_look_up(
    key: bytes, index: Index, ring: Ring, static: bytes, now: float
) -> Value | Referral | NotFound:
    """Answer a `LookUp` as the supernode with this session key.

    Only an owner gives values: what is still held from before a change of the ring may
    be out of date.
    """
    owners = ring.owners(key)
    others = tuple(seat.contact for seat in owners if seat.static != static)
    if len(others) == len(owners):
        return Referral(others)
    records = index.look_up(key, now)
    return Value(records) if records else NotFound(others)


class Lookup:
    """One look-up, from the first ask to its one `LookupDone`.

    `known_seqs` has the highest `seq` ever seen of each public key.
    """

    def __init__(
        self,
        key: bytes,
        homes: Sequence[Peer],
        *,
        random_bytes: Callable[[int], bytes],
        now: float,
        known_seqs: Mapping[bytes, int] | None = None,
    ) -> None:
        self._key = key
        self._random_bytes = random_bytes
        self._known_seqs = known_seqs or {}
        self._homes = [_Candidate(home, 0) for home in homes]
        self._owners: list[_Candidate] = []
        self._asked: set[bytes | Address] = set()
        self._owners_named: set[bytes | Address] = set()
        self._holding_nothing: set[bytes | Address] = set()
        self._waiting: dict[int, _Tag] = {}
        self._claims: dict[bytes, Claim] = {}
        self._presences: dict[bytes, Presence] = {}
        self._steps: list[Step] = []
        self._started_at = now
        self._hedge_at = math.inf
        self._finish_at = math.inf
        self._done: LookupDone | None = None
        self._asks: list[Ask] = []
        self._events: list[LookupDone] = []
        self._go_on(now)

    def answered(self, tag: object, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to an ask of ours."""
        asked = self._take(tag, now)
        if asked is None:
            return
        match answer:
            case Value():
                kind = self._take_value(answer, asked, now)
            case Referral():
                kind = AnswerKind.REFERRAL
                self._name_owners(answer.owners, asked.candidate.depth + 1)
            case NotFound():
                kind = AnswerKind.NOT_FOUND
                self._take_not_found(answer, asked)
            case Busy():
                kind = AnswerKind.BUSY
            case _:
                kind = AnswerKind.INVALID
        self._record(asked, kind, rtt_s, now)
        self._go_on(now)

    def failed(self, tag: object, now: float) -> None:
        """Take it that an ask of ours was not answered in time."""
        asked = self._take(tag, now)
        if asked is not None:
            self._record(asked, AnswerKind.TIMEOUT, now - asked.asked_at, now)
            self._go_on(now)

    def handle_timeout(self, now: float) -> None:
        """Ask one more, or end."""
        if self._done is not None:
            return
        if now >= self._finish_at:
            self._finish(Outcome.FOUND, now)
        elif now >= self._hedge_at:
            self._ask_next(now)
        assert self.next_timeout() > now

    def next_timeout(self) -> float:
        """Give the instant of what is due next."""
        return math.inf if self._done else min(self._hedge_at, self._finish_at)

    def messages_to_send(self) -> list[Ask]:
        """Drain what is to be asked of others."""
        asks, self._asks = self._asks, []
        return asks

    def events(self) -> list[LookupDone]:
        """Drain the one event there is."""
        events, self._events = self._events, []
        return events

    # -- answers -----------------------------------------------------------------------

    def _take(self, tag: object, now: float) -> _Tag | None:
        """Give what this tag asked, unless nobody waits for it any more."""
        assert isinstance(tag, _Tag), tag
        asked = self._waiting.pop(tag.number, None)
        if self._done is not None:
            return None
        if self._finish_at < math.inf:
            self._finish_at = now  # whatever the second one says: we have waited for it
        return asked

    def _take_value(self, value: Value, asked: _Tag, now: float) -> AnswerKind:
        if not self._believe(value.records):
            return AnswerKind.INVALID
        at_home = asked.candidate.depth == 0
        self._finish_at = min(self._finish_at, now if at_home else now + FRESHER_S)
        self._hedge_at = math.inf
        return AnswerKind.VALUE

    def _take_not_found(self, answer: NotFound, asked: _Tag) -> None:
        owner = _identify(asked.candidate.peer)
        self._owners_named.add(owner)
        self._holding_nothing.add(owner)
        self._name_owners(answer.owners, asked.candidate.depth + 1)

    def _name_owners(self, contacts: Iterable[Contact], depth: int) -> None:
        if depth > REFERRALS_MAX:
            return
        named = []
        for contact in contacts:
            try:
                peer = Peer.of(contact)
            except WireError:
                continue
            if contact.static not in self._owners_named:
                self._owners_named.add(contact.static)
                named.append(_Candidate(peer, depth))
        self._owners += draw_some(self._random_bytes, named, OWNERS_MAX)

    def _believe(self, raws: Iterable[bytes]) -> bool:
        """Keep what is genuine, fresh and belongs here; whether anything is."""
        believed = 0
        presences = []
        for raw in raws:
            try:
                record = read_record(raw)
            except WireError:
                continue
            if isinstance(record, Presence):
                presences.append(record)
            elif isinstance(record, Claim) and name_key(record.name) == self._key:
                believed += self._keep(self._claims, record)
        for presence in presences:
            by_id = id_key(presence.public_key) == self._key
            known_seq = self._known_seqs.get(presence.public_key, 0)
            if presence.seq >= known_seq and (
                by_id or presence.public_key in self._claims
            ):
                believed += self._keep(self._presences, presence)
        return believed > 0

    @staticmethod
    def _keep(kept: dict[bytes, _R], record: _R) -> bool:
        held = kept.get(record.public_key)
        if held is None or held.seq < record.seq:
            kept[record.public_key] = record
        return True

    # -- going on ----------------------------------------------------------------------

    def _go_on(self, now: float) -> None:
        """End if it is time to, else see that enough are asked."""
        if self._finish_at < math.inf:
            if now >= self._finish_at or not self._waiting:
                self._finish(Outcome.FOUND, now)
            return
        if len(self._holding_nothing) >= self._quorum():
            home = self._next_of(self._homes) if self._may_be_misled() else None
            if home is None:
                self._finish(Outcome.NOT_FOUND, now)
            else:
                self._ask(home, now)
            return
        while self._owners and self._owners_waiting() < PARALLEL:
            if not self._ask_next(now):
                break
        if not self._waiting and not self._ask_next(now):
            self._finish(Outcome.UNREACHABLE, now)

    def _ask_next(self, now: float) -> bool:
        """Ask one more; False if there is nobody left."""
        candidate = self._next_of(self._owners) or self._next_of(self._homes)
        if candidate is None:
            self._hedge_at = math.inf
            return False
        self._ask(candidate, now)
        return True

    def _ask(self, candidate: _Candidate, now: float) -> None:
        self._asked.add(_identify(candidate.peer))
        tag = _Tag(len(self._asked), candidate, now)
        self._waiting[tag.number] = tag
        is_owner = candidate.depth > 0
        request = LookUp(self._key)
        self._asks.append(Ask(candidate.peer, request, tag, anonymous=is_owner))
        self._hedge_at = now + (HEDGE_S if is_owner else HOME_PATIENCE_S)

    def _next_of(self, queue: list[_Candidate]) -> _Candidate | None:
        while queue and len(self._asked) < ASKED_MAX:
            candidate = queue.pop(0)
            if _identify(candidate.peer) not in self._asked:
                return candidate
        return None

    def _may_be_misled(self) -> bool:
        """Whether one home could have named so few owners as to say no alone."""
        return len(self._owners_named) < OWNERS_MAX

    def _owners_waiting(self) -> int:
        return sum(1 for tag in self._waiting.values() if tag.candidate.depth > 0)

    def _quorum(self) -> int:
        return min(QUORUM, len(self._owners_named) // 2 + 1)

    def _record(self, asked: _Tag, kind: AnswerKind, rtt_s: float, now: float) -> None:
        peer = asked.candidate.peer
        self._steps.append(Step(peer.address, peer.static, kind, rtt_s, now))

    def _finish(self, outcome: Outcome, now: float) -> None:
        self._done = LookupDone(
            outcome,
            (*self._claims.values(), *self._presences.values()),
            tuple(self._steps),
            self._started_at,
            now,
        )
        self._events.append(self._done)


def _identify(peer: Peer) -> bytes | Address:
    return peer.static or peer.address
