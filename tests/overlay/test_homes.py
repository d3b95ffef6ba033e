"""A leaf's way home, past supernodes that are full, silent, lying or far away."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nat.address import Address
from overlay.ask import Ask, Peer
from overlay.home import (
    TRANSITIONS,
    AtHome,
    Cause,
    Home,
    HomeLost,
    HomesState,
    NobodyAnswers,
    nearest,
)
from overlay.homes import PAGES_MAX, Homes
from overlay.known import KNOWN_MAX
from overlay.messages import (
    Answer,
    Busy,
    Contact,
    Done,
    GetSupernodes,
    NotFound,
    Ping,
    Pong,
    Refusal,
    Refused,
    Register,
    Registered,
    Supernodes,
)
from tests.overlay.samples import (
    NOW,
    address,
    contact,
    descriptor,
    identity,
    peer,
    randomness,
)

OBSERVED = Address("203.0.113.7", 40_000)
GIVE_UP_S = 5.0


@dataclass
class Supernode:
    """One supernode as a leaf meets it."""

    number: int
    rtt_s: float = 0.05
    up: bool = True
    full: bool = False
    slow_s: float = 0.0
    """What it takes to publish."""
    load: float = 0.1
    knows: list[int] = field(default_factory=list)
    registered: list[Register] = field(default_factory=list)
    pings: int = 0

    def answer(self, ask: Ask) -> tuple[Answer, float]:
        match ask.request:
            case Ping():
                self.pings += 1
                at_home = bool(self.registered)
                return Pong(OBSERVED.pack(), self.load, 0.0, at_home), self.rtt_s
            case GetSupernodes():
                raws = tuple(descriptor(each).raw for each in self.knows)
                return Supernodes(raws, b"", len(raws)), self.rtt_s
            case Register(publish=publish) if not self.full:
                self.registered.append(ask.request)
                stored, owners = (5, 8) if publish else (0, 0)
                answer = Registered(900.0, stored, owners, OBSERVED.pack())
                return answer, self.rtt_s + self.slow_s * publish
            case Register():
                return Busy(30.0, (contact(90),)), self.rtt_s
            case _:
                raise AssertionError(ask)


class Street:
    """A leaf and the supernodes around it, in virtual time."""

    def __init__(self, supernodes: Sequence[Supernode], seeds: Sequence[int]) -> None:
        self.now = NOW
        self.supernodes = {address(each.number): each for each in supernodes}
        self.asked: list[tuple[float, Ask]] = []
        self.events: list[tuple[float, AtHome | HomeLost | NobodyAnswers]] = []
        self.written: list[tuple[Peer, ...]] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.homes = Homes(
            [address(seed) for seed in seeds],
            self._write_presence,
            b"claim",
            randomness(1),
        )
        self.homes.begin(self.now)
        self.drain()

    def _write_presence(self, homes: Sequence[Peer], now: float) -> bytes:
        assert now == self.now
        self.written.append(tuple(homes))
        return b"presence %d" % len(self.written)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [self._due[0][0]] if self._due else []
            at = min([*due, self.homes.next_timeout(), end])
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at)
            while self._due and self._due[0][0] <= self.now:
                heapq.heappop(self._due)[2]()
            self.homes.handle_timeout(self.now)
            assert self.homes.next_timeout() > self.now
            self.drain()

    def drain(self) -> None:
        for ask in self.homes.messages_to_send():
            self.asked.append((self.now, ask))
            self._carry(ask)
        self.events += [(self.now, event) for event in self.homes.events()]

    def _carry(self, ask: Ask) -> None:
        sent_at = self.now
        supernode = self.supernodes.get(ask.peer.address)
        if supernode is None or not supernode.up:
            self._at(sent_at + GIVE_UP_S, lambda: self.homes.failed(ask.tag, self.now))
            return
        answer, after_s = supernode.answer(ask)
        self._at(
            sent_at + after_s,
            lambda: self.homes.answered(ask.tag, answer, self.now - sent_at, self.now),
        )

    def _at(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at, next(self._order), do))

    def at_home(self) -> list[int]:
        """Give the numbers of our homes, the primary first."""
        by_static = {identity(n).dh_public: n for n in range(100)}
        return [by_static[home.static] for home in self.homes.homes]

    def heard(self, kind: type) -> list[float]:
        return [at - NOW for at, event in self.events if isinstance(event, kind)]


def street(count: int = 5, **changes: object) -> Street:
    """Give so many supernodes that know each other, ever farther away."""
    everyone = list(range(count))
    supernodes = [
        Supernode(number, rtt_s=0.02 * (number + 1), knows=everyone)
        for number in everyone
    ]
    return Street(supernodes, seeds=[count - 1])


def test_a_leaf_is_at_home_with_the_nearest_three() -> None:
    here = street(6)
    here.run(2)
    assert here.homes.state is HomesState.AT_HOME
    assert here.at_home() == [0, 1, 2]
    assert here.written == [tuple(peer(n) for n in range(3))]
    assert [s.registered[0].publish for s in list(here.supernodes.values())[:3]] == [
        True,
        False,
        False,
    ]
    assert here.homes.observed == OBSERVED
    ((_, event),) = here.events
    assert isinstance(event, AtHome)
    assert (event.stored, event.owners) == (5, 8)
    assert all(home.registered for home in here.homes.homes[1:])


def test_it_takes_a_page_a_ping_and_a_registration_to_come_home() -> None:
    here = street(3)
    here.run(2)
    page_s, pings_s, primary_s = 0.06, 0.06, 0.02
    assert here.heard(AtHome) == pytest.approx([page_s + pings_s + primary_s])


def test_who_is_much_slower_than_the_first_is_not_waited_for() -> None:
    here = street(3)
    here.supernodes[address(1)].rtt_s = 3.0
    here.run(1)
    assert here.at_home() == [0, 2]
    assert here.heard(AtHome)[0] < 0.06 + 0.02 + 0.25 + 0.03


def test_a_seed_that_is_silent_does_not_keep_others_from_answering() -> None:
    here = Street([Supernode(0, knows=[0]), Supernode(1, up=False)], seeds=[1, 0])
    here.run(1)
    assert here.at_home() == [0]


def test_nobody_answering_is_told_and_tried_again_ever_later() -> None:
    here = Street([], seeds=[1, 2])
    here.run(1_000)
    told = [event for _, event in here.events]
    assert all(isinstance(event, NobodyAnswers) for event in told)
    pauses = [event.retry_s for event in told if isinstance(event, NobodyAnswers)]
    assert len(pauses) > 20
    assert all(0.1 <= pause <= 60.0 for pause in pauses)
    assert max(pauses[:3]) <= 2.0
    assert max(pauses) > 30.0


def test_without_seeds_nobody_answers_at_once() -> None:
    here = Street([], seeds=[])
    assert here.heard(NobodyAnswers) == [0.0]
    assert here.homes.state is HomesState.ALONE


def test_a_network_that_comes_up_later_is_joined() -> None:
    here = street(3)
    for supernode in here.supernodes.values():
        supernode.up = False
    here.run(30)
    assert here.homes.state in (HomesState.ALONE, HomesState.SEEKING)
    for supernode in here.supernodes.values():
        supernode.up = True
    here.run(65)
    assert here.at_home() == [0, 1, 2]


def test_each_home_is_pinged_every_twenty_seconds_or_so() -> None:
    here = street(3)
    here.run(200)
    for supernode in here.supernodes.values():
        assert 8 <= supernode.pings - 1 <= 12


def test_everything_is_registered_anew_every_five_minutes_or_so() -> None:
    here = street(3)
    here.run(3_000)
    for supernode in here.supernodes.values():
        assert 8 <= len(supernode.registered) - 1 <= 12
    assert len(set(here.supernodes[address(0)].registered)) > 8


def test_a_home_that_was_restarted_is_registered_at_anew() -> None:
    here = street(3)
    here.run(2)
    here.supernodes[address(1)].registered.clear()
    here.run(26)
    assert here.supernodes[address(1)].registered
    assert here.supernodes[address(0)].registered[-1].publish
    assert here.heard(HomeLost) == []


def test_a_home_that_falls_silent_is_replaced_and_the_presence_renewed() -> None:
    here = street(5)
    here.run(2)
    here.supernodes[address(0)].up = False
    here.run(35)
    assert here.at_home() == [1, 2, 3]
    assert here.written[-1] == tuple(peer(n) for n in (1, 2, 3))
    assert len(here.heard(HomeLost)) == 1
    assert here.supernodes[address(1)].registered[-1].publish


def test_a_home_that_says_goodbye_is_replaced_at_once() -> None:
    here = street(5)
    here.run(2)
    here.homes.goodbye(identity(2).dh_public, here.now)
    here.drain()
    here.run(1)
    assert here.at_home() == [0, 1, 3]


def test_the_last_home_lost_means_seeking_anew() -> None:
    here = street(2)
    here.run(2)
    for number in (0, 1):
        here.homes.goodbye(identity(number).dh_public, here.now)
    assert here.homes.state is HomesState.SEEKING
    here.drain()
    here.run(1)
    assert here.at_home() == [0, 1]


def test_a_full_home_is_left_and_not_asked_for_as_long_as_it_said() -> None:
    here = street(4)
    here.supernodes[address(0)].full = True
    here.run(2)
    assert here.at_home() == [1, 2, 3]
    assert peer(90) in here.homes.known.peers()
    pinged = here.supernodes[address(0)].pings
    here.homes.goodbye(identity(3).dh_public, here.now)
    here.drain()
    here.run(20)
    assert here.supernodes[address(0)].pings == pinged
    here.run(15)
    here.homes.goodbye(identity(2).dh_public, here.now)
    here.drain()
    here.run(1)
    assert here.supernodes[address(0)].pings > pinged


def test_a_home_under_full_load_is_not_chosen() -> None:
    here = street(4)
    here.supernodes[address(0)].load = 1.0
    here.run(2)
    assert here.at_home() == [1, 2, 3]


def test_the_answer_of_a_home_that_was_not_to_publish_is_no_publication() -> None:
    """The primary is full and says so before the other home has answered."""
    here = Street(
        [Supernode(0, 0.02, full=True, knows=[0, 1]), Supernode(1, 0.04)], seeds=[0]
    )
    here.run(7)  # 90, whom the full one named, is nowhere
    assert here.at_home() == [1]
    assert here.homes.state is HomesState.AT_HOME
    assert [each.publish for each in here.supernodes[address(1)].registered] == [
        False,
        True,
    ]
    assert [
        (event.stored, event.owners)
        for _, event in here.events
        if isinstance(event, AtHome)
    ] == [(5, 8)]


def test_a_leaf_with_few_homes_asks_for_more_ever_less_often() -> None:
    here = Street([Supernode(0, knows=[0])], seeds=[0])
    here.run(600)
    pages = [at for at, ask in here.asked if isinstance(ask.request, GetSupernodes)]
    gaps = [round(b - a) for a, b in itertools.pairwise(pages)]
    assert gaps[0] == 2
    assert gaps == sorted(gaps)
    assert max(gaps) == 300


def test_a_supernode_that_appears_becomes_a_home_of_a_leaf_that_has_few() -> None:
    here = Street([Supernode(0, knows=[0])], seeds=[0])
    here.run(2)
    here.supernodes[address(1)] = Supernode(1)
    here.supernodes[address(0)].knows = [0, 1]
    here.run(60)
    assert sorted(here.at_home()) == [0, 1]


def test_a_table_without_end_is_left_after_so_many_pages() -> None:
    here = street(1)

    class Endless(Supernode):
        def answer(self, ask: Ask) -> tuple[Answer, float]:
            if isinstance(ask.request, GetSupernodes):
                return Supernodes((), b"12345678", 1), 0.001
            return super().answer(ask)

    here = Street([Endless(0), Supernode(1, knows=[1])], seeds=[0, 1])
    here.run(3)
    assert here.at_home() == [1]
    here = Street([Endless(0)], seeds=[0])
    here.run(4)
    pages = [ask for _, ask in here.asked if isinstance(ask.request, GetSupernodes)]
    tries = 1 + len(here.heard(NobodyAnswers))
    assert len(here.heard(NobodyAnswers)) >= 1
    assert len(pages) <= PAGES_MAX * tries


def test_a_large_table_is_paged_until_enough_are_known() -> None:
    class Page(Supernode):
        def answer(self, ask: Ask) -> tuple[Answer, float]:
            if isinstance(ask.request, GetSupernodes):
                first = int.from_bytes(ask.request.start, "big")
                raws = tuple(descriptor(n).raw for n in range(first, first + 5))
                return Supernodes(raws, (first + 5).to_bytes(8, "big"), 1_000), 0.02
            return super().answer(ask)

    here = Street([Page(0)], seeds=[0])
    here.run(0.5)
    assert 24 <= len(here.homes.known) <= 29


def test_records_in_a_page_that_are_none_are_passed_over() -> None:
    class Liar(Supernode):
        def answer(self, ask: Ask) -> tuple[Answer, float]:
            if isinstance(ask.request, GetSupernodes):
                return Supernodes((b"", b"\xff", descriptor(0).raw), b"", 3), 0.02
            return super().answer(ask)

    here = Street([Liar(0)], seeds=[0])
    here.run(1)
    assert here.at_home() == [0]


def test_what_is_known_is_bounded() -> None:
    here = street(1)
    for number in range(KNOWN_MAX + 30):
        here.homes.known.learn(peer(number))
    assert len(here.homes.known) == KNOWN_MAX
    here.homes.known.learn(Peer(address(7)))  # without a key it is of no use
    assert len(here.homes.known) == KNOWN_MAX


def test_homes_on_different_networks_are_preferred() -> None:
    def home(number: int, host: str, rtt_s: float) -> Home:
        static = identity(number).dh_public
        return Home(Peer(Address(host, 7000), static), rtt_s, 0.1)

    same = [home(n, f"192.0.2.{n}", 0.01 * n) for n in (1, 2, 3)]
    far = [home(4, "198.51.100.1", 0.5), home(5, "203.0.113.1", 0.4)]
    chosen = nearest([*same, *far])
    assert [each.peer.address.host for each in chosen.values()] == [
        "192.0.2.1",
        "203.0.113.1",
        "198.51.100.1",
    ]
    assert list(nearest(same).values()) == same


def test_a_round_trip_to_a_home_is_smoothed() -> None:
    here = street(1)
    here.run(2)
    here.supernodes[address(0)].rtt_s = 0.02 + 0.8
    here.run(24)
    assert here.homes.homes[0].rtt_s == pytest.approx(0.02 + 0.1, abs=0.001)


def test_every_state_is_reached_and_every_cause_used() -> None:
    """As the tests above do, by the table itself."""
    seen: set[tuple[Cause, HomesState]] = set()

    class Watched(Homes):
        def _move(self, cause: Cause) -> None:
            seen.add((cause, self.state))
            super()._move(cause)

    def lives(supernodes: list[Supernode], *, then: Callable[[Street], None]) -> None:
        here = Street(supernodes, seeds=[0])
        here.homes.__class__ = Watched
        here.homes.begin(here.now) if here.homes.state is HomesState.ALONE else None
        here.run(40)
        then(here)
        here.drain()
        here.run(400)

    def falls_silent(here: Street) -> None:
        for each in here.supernodes.values():
            each.up = False

    def leaves(here: Street) -> None:
        here.homes.goodbye(identity(0).dh_public, here.now)

    lives([Supernode(0, knows=[0, 1]), Supernode(1, 0.1)], then=falls_silent)
    lives([Supernode(0, knows=[0])], then=leaves)
    lives([Supernode(0, full=True, knows=[0])], then=leaves)
    lives([Supernode(0, full=True, knows=[0, 1]), Supernode(1)], then=leaves)
    assert {cause for cause, _ in seen} == set(Cause)
    assert {TRANSITIONS[cause][state] for cause, state in seen} == set(HomesState)


ANSWERS: list[Answer] = [
    Pong(OBSERVED.pack(), 0.1, 0.0),
    Pong(b"\0" * 7, 1_000.0, 0.0),
    Supernodes(tuple(descriptor(n).raw for n in range(5)), b"", 5),
    Supernodes((descriptor(40).raw,), b"\xff" * 8, 1),
    Supernodes((b"garbage",), b"1", 0),
    Registered(900.0, 5, 8, OBSERVED.pack()),
    Registered(0.0, 0, 0, b"\0" * 9),
    Busy(0.0, (contact(1), Contact(b"\0" * 7, bytes(32)))),
    Busy(86_400.0, ()),
    Refused(Refusal.NOT_A_SUPERNODE),
    Done(),
    NotFound(()),
]


class Abuse(RuleBasedStateMachine):
    """A leaf whose supernodes answer anything, late, twice, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.asks: list[Ask] = []
        self.asked = 0
        self.homes = Homes(
            [address(0), address(1)], lambda *_: b"presence", b"", randomness(3)
        )
        self.homes.begin(self.now)

    @rule(position=st.integers(0, 30), answer=st.sampled_from(ANSWERS))
    def answer(self, position: int, answer: Answer) -> None:
        if self.asks:
            ask = self.asks[position % len(self.asks)]
            self.homes.answered(ask.tag, answer, 0.05, self.now)
            self.drain()

    @rule(position=st.integers(0, 30))
    def answer_as_is_right(self, position: int) -> None:
        if self.asks:
            ask = self.asks.pop(position % len(self.asks))
            answer, _ = Supernode(0, knows=list(range(8))).answer(ask)
            self.homes.answered(ask.tag, answer, 0.05, self.now)
            self.drain()

    @rule(position=st.integers(0, 30))
    def fail(self, position: int) -> None:
        if self.asks:
            self.homes.failed(self.asks.pop(position % len(self.asks)).tag, self.now)
            self.drain()

    @rule(number=st.integers(0, 10))
    def say_goodbye(self, number: int) -> None:
        self.homes.goodbye(identity(number).dh_public, self.now)
        self.drain()

    @rule(number=st.integers(0, 120))
    def learn(self, number: int) -> None:
        self.homes.known.learn(peer(number))

    @rule(seconds=st.sampled_from([0.0, 0.3, 3.0, 30.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.homes.handle_timeout(self.now)
        assert self.homes.next_timeout() > self.now
        self.drain()

    def drain(self) -> None:
        asks = self.homes.messages_to_send()
        assert len(asks) <= 20
        self.asks = [*self.asks, *asks][-40:]
        self.homes.events()

    @invariant()
    def it_never_stands_still(self) -> None:
        waits_for_answers = self.homes.state in (
            HomesState.SEEKING,
            HomesState.MEASURING,
        )
        assert waits_for_answers or self.homes.next_timeout() < math.inf

    @invariant()
    def tables_are_bounded(self) -> None:
        assert len(self.homes.homes) <= 3
        assert len(self.homes.known) <= KNOWN_MAX
        assert len({home.static for home in self.homes.homes}) == len(self.homes.homes)
        if self.homes.state is HomesState.AT_HOME:
            assert self.homes.homes


TestAbuse = Abuse.TestCase
TestAbuse.settings = settings(max_examples=60, stateful_step_count=50)
