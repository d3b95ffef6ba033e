"""How a supernode comes to know all others, and notices when one is gone.

Five things go on at once:

- *news*, a new or changed descriptor, goes to 3 random live members each 500 ms, in 4
  such rounds (simulated: all but 0.004 % of 10,000 hear of it, within 5 s);
- the *table* of one random live member is paged through each 30 s, and that of every
  seed at the start: it has what the news missed;
- one live member is *probed* each second, all in turn and in random order, and one dead
  one each 10 s: only that joins a network again that fell into two halves;
- who was only told of is *greeted* with our own descriptor, so that each knows, and has
  heard, the other; spread over time, for a newcomer is greeted by everybody;
- our own descriptor is *renewed* each 300 s, and when an old one of ours comes back to
  us that would win over it.

An ask that fails means DEAD (`overlay.roster` has the states). That is our own verdict
and told to nobody. Suspicion with probes through others, rumours of death and digests
instead of whole tables find their place here. Sans-IO; speaks in asks (`overlay.ask`).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from nat.address import Address
from nat.errors import WireError
from overlay.ask import Ask, Peer
from overlay.deadlines import Deadlines
from overlay.draw import draw_fraction, draw_some
from overlay.identity import Identity
from overlay.messages import (
    Announce,
    Answer,
    Done,
    GetSupernodes,
    Ping,
    Pong,
    Refusal,
    Refused,
    Request,
    Supernodes,
)
from overlay.news import News
from overlay.own_descriptor import OwnDescriptor
from overlay.records import Descriptor, read_descriptor
from overlay.ring import Ring
from overlay.roster import (
    Member,
    MemberEvent,
    MemberState,
    Roster,
    RosterStatistics,
)
from overlay.timing import MembersTiming

__all__ = ["Members", "MembersStatistics"]

DESCRIPTORS_MAX: Final = 5
# In one message: five of the longest (200 bytes) fit in a body, six would not.
PAGES_MAX: Final = 4_096
# Of one table: twice what the largest needs. A hostile one could go on for ever.
TABLES_MAX: Final = 8
# Paged through at once: a newcomer asks all its seeds, one of which may lie.
RING_START: Final = bytes(8)
_GREETED: Final = (MemberState.HEARD_OF, MemberState.DEAD)


@dataclass(frozen=True, slots=True)
class MembersStatistics:
    """Counts; those of the table are in `roster`."""

    roster: RosterStatistics
    refused_invalid: int
    news_dropped: int
    asked: int
    unanswered: int


class _Purpose(enum.Enum):
    NEWS = enum.auto()
    TABLE = enum.auto()
    PROBE = enum.auto()
    GREETING = enum.auto()
    REVIVAL = enum.auto()


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    purpose: _Purpose
    peer: Peer
    start: bytes = RING_START
    pages: int = 0


class Members:
    """The view of one supernode; lives as long as it is one.

    `address` is where others reach us. `seeds` are supernodes to begin with; with none
    of them alive we are a network of one.
    """

    def __init__(
        self,
        identity: Identity,
        address: Address,
        *,
        caps: int,
        client_version: str,
        seeds: Sequence[Peer],
        random_bytes: Callable[[int], bytes],
        now: float,
        timing: MembersTiming | None = None,
    ) -> None:
        self._seeds = tuple(seed for seed in seeds if seed.address != address)
        self._random_bytes = random_bytes
        self._timing = timing or MembersTiming()

        self._own = OwnDescriptor(
            identity,
            address,
            caps=caps,
            client_version=client_version,
            random_bytes=random_bytes,
            period_s=self._timing.renewal_s,
            period_s_min=self._timing.renewal_s_min,
            now=now,
        )
        self._roster = Roster(self._own.current)
        self._news = News(self._timing.news_rounds, self._timing.news_s)
        self._greetings: Deadlines[bytes] = Deadlines()
        self._to_probe: list[Member] = []
        self._paging: set[Peer] = set()

        self._table_at = now + self._timing.table_s
        self._probe_at = now + self._timing.probe_s
        self._dead_probe_at = now + self._timing.dead_probe_s
        self._seeds_at = now if self._seeds else math.inf
        self._seed_tries = 0

        self._asks: list[Ask] = []
        self._asked = 0
        self._unanswered = 0
        self._refused_invalid = 0

    # -- what others want to know ------------------------------------------------------

    @property
    def ring(self) -> Ring:
        """The supernodes that count, ourselves included. Changes with our events."""
        return self._roster.ring

    @property
    def descriptor(self) -> Descriptor:
        """Our own descriptor as it is now."""
        return self._own.current

    def member(self, static: bytes) -> Descriptor | None:
        """Give the descriptor of a supernode we know, dead ones included."""
        if static == self._own.current.dh_public:
            return self._own.current
        found = self._roster.find(static)
        return None if found is None else found.descriptor

    def others(self) -> tuple[Member, ...]:
        """Give what is known of all others."""
        return self._roster.members()

    def statistics(self) -> MembersStatistics:
        """Give the counts."""
        return MembersStatistics(
            roster=self._roster.statistics(),
            refused_invalid=self._refused_invalid,
            news_dropped=self._news.dropped,
            asked=self._asked,
            unanswered=self._unanswered,
        )

    # -- what arrives ------------------------------------------------------------------

    def heard(self, static: bytes, source: Address, now: float) -> None:
        """Take it that an authenticated packet of this session came from `source`."""
        self._roster.heard(static, source, now)

    def goodbye(self, static: bytes, now: float) -> None:
        """Take it that this one leaves."""
        self._roster.left(static, now)

    def answer_get(self, request: GetSupernodes) -> Supernodes:
        """Answer with a page of the ring."""
        seats, next_start = self.ring.page(request.start, DESCRIPTORS_MAX)
        found = (self.member(seat.static) for seat in seats)
        raws = tuple(descriptor.raw for descriptor in found if descriptor is not None)
        return Supernodes(raws, next_start, len(self.ring))

    def answer_announce(self, request: Announce, asker: Peer, now: float) -> Done:
        """Take news from `asker` (its static key is None if it did not say who)."""
        self._learn(request.descriptors, asker.static, now)
        if asker.static is not None:
            self.heard(asker.static, asker.address, now)
        return Done()

    def answered(self, tag: object, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to an ask of ours."""
        assert isinstance(tag, _Tag), tag
        self._stop_paging(tag)
        if answer == Refused(Refusal.NOT_A_SUPERNODE):
            if tag.peer.static is not None:
                self._roster.left(tag.peer.static, now)
            return
        if tag.peer.static is not None:
            self.heard(tag.peer.static, tag.peer.address, now)
            if isinstance(answer, Pong):
                self._roster.measured(tag.peer.static, rtt_s, answer.load)
        if tag.purpose is _Purpose.TABLE and isinstance(answer, Supernodes):
            self._take_page(tag, answer, now)
        if tag.purpose is _Purpose.REVIVAL:
            self._ask_table(tag.peer)

    def failed(self, tag: object, now: float) -> None:
        """Take it that an ask of ours was not answered in time."""
        assert isinstance(tag, _Tag), tag
        self._stop_paging(tag)
        self._unanswered += 1
        self._roster.silent(tag.peer, now)

    # -- time and output ---------------------------------------------------------------

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        timing = self._timing
        if now >= self._own.renew_at:
            self._tell(self._own.renew(now), now)
        if now >= self._seeds_at:
            self._ask_seeds(now)
        if now >= self._probe_at:
            self._probe_at = now + timing.probe_s
            self._probe()
        if now >= self._dead_probe_at:
            self._dead_probe_at = now + timing.dead_probe_s
            for member in self._draw(self._roster.in_state(MemberState.DEAD), 1):
                self._ask(_Purpose.REVIVAL, member.peer, self._greeting())
        if now >= self._table_at:
            self._table_at = now + timing.table_s
            self._roster.forget_long_dead(now)
            for member in self._draw(self._roster.in_state(MemberState.ALIVE), 1):
                self._ask_table(member.peer)
        self._greet(now)
        if now >= self._news.next_timeout():
            self._spread_news(now)
        assert self.next_timeout() > now

    def next_timeout(self) -> float:
        """Give the instant of what is due next."""
        return min(
            self._news.next_timeout(),
            self._table_at,
            self._probe_at,
            self._dead_probe_at,
            self._own.renew_at,
            self._seeds_at,
            self._greetings.next_at(),
        )

    def messages_to_send(self) -> list[Ask]:
        """Drain what is to be asked of others."""
        asks, self._asks = self._asks, []
        return asks

    def events(self) -> list[MemberEvent]:
        """Drain what happened to the ring."""
        return self._roster.events()

    # -- learning ----------------------------------------------------------------------

    def _learn(self, raws: Iterable[bytes], teller: bytes | None, now: float) -> None:
        for raw in raws:
            if self._roster.holder(raw) is not None:
                continue
            try:
                descriptor = read_descriptor(raw)
            except WireError:
                self._refused_invalid += 1
                continue
            if descriptor.public_key == self._own.current.public_key:
                self._own.compare(descriptor, now)
                continue
            member = self._roster.learn(descriptor, teller, now)
            if member is None:
                continue
            self._tell(descriptor, now)
            if member.state is MemberState.HEARD_OF:
                self._greet_later(member, now)

    def _take_page(self, tag: _Tag, page: Supernodes, now: float) -> None:
        self._learn(page.descriptors, tag.peer.static, now)
        for member in map(self._roster.holder, page.descriptors):
            if member is not None and member.state is MemberState.DEAD:
                self._greet_later(member, now)  # others hear from it
        if tag.start < page.next_start and tag.pages < PAGES_MAX:
            self._ask_table(tag.peer, page.next_start, tag.pages + 1)

    # -- telling -----------------------------------------------------------------------

    def _tell(self, descriptor: Descriptor, now: float) -> None:
        self._news.add(descriptor.public_key, descriptor.raw, now)

    def _spread_news(self, now: float) -> None:
        alive = self._roster.in_state(MemberState.ALIVE)
        if not alive:
            self._news.clear()  # whoever joins us will be told everything
            return
        announce = Announce(self._news.next_round(DESCRIPTORS_MAX, now))
        for member in self._draw(alive, self._timing.news_fan_out):
            self._ask(_Purpose.NEWS, member.peer, announce)

    def _greet_later(self, member: Member, now: float) -> None:
        spread_s = self._timing.greeting_spread_s * len(self._roster)
        greet_at = now + draw_fraction(self._random_bytes) * spread_s
        self._greetings.set(member.static, greet_at)

    def _greet(self, now: float) -> None:
        for static in self._greetings.pop_due(now):
            member = self._roster.find(static)
            if member is not None and member.state in _GREETED:
                self._ask(_Purpose.GREETING, member.peer, self._greeting())

    def _greeting(self) -> Announce:
        return Announce((self._own.current.raw,))

    # -- asking ------------------------------------------------------------------------

    def _ask_seeds(self, now: float) -> None:
        for seed in self._seeds:
            self._ask_table(seed)
        timing = self._timing
        if len(self.ring) > 1:
            self._seed_tries = 0
            self._seeds_at = now + timing.seeds_s
            return
        doubled_s = timing.seeds_retry_s * 2 ** min(self._seed_tries, 16)
        self._seed_tries += 1
        spread_s = min(doubled_s, timing.seeds_retry_s_max)
        jitter = draw_fraction(self._random_bytes)
        self._seeds_at = now + timing.seeds_retry_s + jitter * spread_s

    def _probe(self) -> None:
        """Ping the next live member; each has its turn before one has it again."""
        if not self._to_probe:
            alive = self._roster.in_state(MemberState.ALIVE)
            self._to_probe = self._draw(alive, len(alive))
        while self._to_probe:
            member = self._to_probe.pop()
            if member.state is MemberState.ALIVE:
                self._ask(_Purpose.PROBE, member.peer, Ping())
                break

    def _ask_table(self, peer: Peer, start: bytes = RING_START, pages: int = 0) -> None:
        if peer not in self._paging and len(self._paging) < TABLES_MAX:
            self._paging.add(peer)
            self._ask(_Purpose.TABLE, peer, GetSupernodes(start), start, pages)

    def _stop_paging(self, tag: _Tag) -> None:
        if tag.purpose is _Purpose.TABLE:
            self._paging.discard(tag.peer)

    def _ask(
        self,
        purpose: _Purpose,
        peer: Peer,
        request: Request,
        start: bytes = RING_START,
        pages: int = 0,
    ) -> None:
        self._asked += 1
        tag = _Tag(self._asked, purpose, peer, start, pages)
        self._asks.append(Ask(peer, request, tag))

    def _draw(self, members: Sequence[Member], count: int) -> list[Member]:
        return draw_some(self._random_bytes, members, count)
