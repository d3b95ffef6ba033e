"""How a supernode comes to know the others: whom it asks what, and what it believes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from overlay import roster as roster_module
from overlay.ask import Ask, Peer
from overlay.envelope import ENVELOPE_BYTES_MAX
from overlay.members import DESCRIPTORS_MAX, TABLES_MAX, Members
from overlay.messages import (
    Announce,
    Busy,
    Done,
    GetSupernodes,
    Ping,
    Pong,
    Refusal,
    Refused,
    Request,
    Supernodes,
    encode_body,
)
from overlay.records import Descriptor, read_descriptor
from overlay.roster import MemberJoined, MemberLost, MemberState
from overlay.timing import MembersTiming
from tests.overlay.samples import (
    NOW,
    address,
    descriptor,
    identity,
    peer,
    randomness,
)

US = 0
START = bytes(8)
PONG = Pong(address(US).pack(), 0.5, 0.0)
TIMING = MembersTiming()


class View:
    """The members as one supernode sees them, and the asks it has out."""

    def __init__(self, *seeds: int) -> None:
        self.now = NOW
        self.out: list[Ask] = []
        self.members = Members(
            identity(US),
            address(US),
            caps=1,
            client_version="0.1.0",
            seeds=[Peer(address(seed)) for seed in seeds],
            random_bytes=randomness(1),
            now=NOW,
        )
        self.wait(0)

    def drain(self) -> None:
        self.out += self.members.messages_to_send()

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.members.next_timeout() <= until:
            self.now = self.members.next_timeout()
            self.members.handle_timeout(self.now)
            self.drain()
        self.now = until

    def asked(self, kind: type[Request]) -> list[Ask]:
        """Give the asks of one kind that are out."""
        return [ask for ask in self.out if isinstance(ask.request, kind)]

    def answer(
        self, ask: Ask, answer: Pong | Done | Supernodes | Busy | Refused
    ) -> None:
        self.out.remove(ask)
        self.members.answered(ask.tag, answer, 0.08, self.now)
        self.drain()

    def fail(self, ask: Ask) -> None:
        self.out.remove(ask)
        self.members.failed(ask.tag, self.now)
        self.drain()

    def announce(self, *told: Descriptor, asker: Peer | None = None) -> None:
        request = Announce(tuple(each.raw for each in told))
        assert self.members.answer_announce(request, asker or peer(99), self.now) == (
            Done()
        )
        self.drain()

    def meet(self, *numbers: int) -> None:
        """Let supernodes announce themselves, each from its own session."""
        for number in numbers:
            self.announce(descriptor(number), asker=peer(number))

    def state(self, number: int) -> MemberState:
        public_key = identity(number).public_key
        states = [
            info.state
            for info in self.members.others()
            if info.descriptor.public_key == public_key
        ]
        return states[0]


def page(*numbers: int, next_start: bytes = b"") -> Supernodes:
    raws = tuple(descriptor(number).raw for number in numbers)
    return Supernodes(raws, next_start, len(numbers))


def test_the_first_node_is_a_ring_of_one() -> None:
    view = View()
    assert [seat.static for seat in view.members.ring] == [identity(US).dh_public]
    assert view.members.descriptor == view.members.member(identity(US).dh_public)
    view.wait(100)
    assert view.out == []


def test_the_tables_of_all_seeds_are_asked_for_at_once() -> None:
    view = View(1, 2)
    assert [(ask.peer, ask.request) for ask in view.out] == [
        (Peer(address(1)), GetSupernodes(START)),
        (Peer(address(2)), GetSupernodes(START)),
    ]


def test_our_own_address_is_no_seed() -> None:
    assert [ask.peer.address for ask in View(US, 1).out] == [address(1)]


def test_a_table_is_asked_for_page_by_page() -> None:
    view = View(1)
    view.answer(view.out[0], page(1, 2, next_start=b"\x80" * 8))
    (following,) = view.asked(GetSupernodes)
    assert following.request == GetSupernodes(b"\x80" * 8)
    view.answer(following, page(3))
    assert view.asked(GetSupernodes) == []
    assert len(view.members.others()) == 3


def test_a_table_that_goes_in_circles_is_left() -> None:
    view = View(1)
    view.answer(view.out[0], page(1, next_start=b"\x80" * 8))
    (following,) = view.asked(GetSupernodes)
    view.answer(following, page(2, next_start=b"\x80" * 8))
    assert view.asked(GetSupernodes) == []


def test_not_more_than_some_tables_are_asked_for_at_once() -> None:
    assert len(View(*range(1, TABLES_MAX + 3)).out) == TABLES_MAX


def test_while_we_are_alone_seeds_are_asked_again_ever_more_rarely() -> None:
    view = View(1)
    asked_at = [NOW]
    while len(asked_at) < 12:
        view.fail(view.out[0])
        while not view.out:
            view.wait(0.1)
        asked_at.append(view.now)
    pauses = [later - at for at, later in pairwise(asked_at)]
    assert all(0.5 <= pause <= 61 for pause in pauses)
    assert max(pauses[:2]) < 1.7
    assert max(pauses[6:]) > 10


def test_with_company_seeds_are_asked_again_each_300_s() -> None:
    view = View(1)
    view.meet(2)
    view.fail(view.out[0])
    view.wait(2)
    assert [ask.peer for ask in view.asked(GetSupernodes)] == [Peer(address(1))]
    view.fail(view.asked(GetSupernodes)[0])
    view.wait(290)
    assert Peer(address(1)) not in [ask.peer for ask in view.out]


def test_who_is_only_told_of_is_greeted_and_owns_nothing() -> None:
    view = View()
    view.announce(descriptor(1))
    assert view.state(1) is MemberState.HEARD_OF
    assert len(view.members.ring) == 1
    view.wait(0.1)
    (greeting,) = view.out
    assert greeting.peer == peer(1)
    assert greeting.request == Announce((view.members.descriptor.raw,))


def test_who_answers_a_greeting_joins_the_ring() -> None:
    view = View()
    view.announce(descriptor(1))
    view.wait(0.1)
    view.answer(view.out[0], Done())
    assert view.members.events() == [MemberJoined(descriptor(1))]
    assert identity(1).dh_public in view.members.ring


def test_who_announces_itself_from_its_own_address_joins_at_once() -> None:
    view = View()
    view.meet(1)
    assert view.members.events() == [MemberJoined(descriptor(1))]
    view.wait(0.1)
    assert view.asked(Announce) == []


def test_who_announces_itself_from_elsewhere_is_greeted_first() -> None:
    view = View()
    view.announce(descriptor(1), asker=Peer(address(9), identity(1).dh_public))
    assert view.members.events() == []
    view.wait(0.1)
    assert [ask.peer for ask in view.out] == [peer(1)]


def test_who_does_not_say_who_it_is_may_tell_of_others() -> None:
    view = View()
    view.announce(descriptor(1), asker=Peer(address(9)))
    assert view.state(1) is MemberState.HEARD_OF


def test_greetings_are_spread_by_how_many_members_there_are() -> None:
    view = View()
    for number in range(1, 51):
        view.announce(descriptor(number))
    view.wait(0.03)
    assert 0 < len(view.asked(Announce)) < 25
    view.wait(0.3)
    assert len(view.asked(Announce)) == 50


def test_news_goes_to_three_live_members_in_four_rounds() -> None:
    view = View()
    view.meet(1, 2, 3, 4, 5)
    view.wait(10)
    view.out.clear()
    told_at = view.now
    view.announce(descriptor(6), asker=peer(6))
    for number in range(1, 5):
        view.wait(told_at + number * 0.5 - view.now)
        told = [ask for ask in view.asked(Announce) if ask.peer != peer(6)]
        batches = {ask.request for ask in view.asked(Announce)}
        assert batches == {Announce((descriptor(6).raw,))}
        assert len(view.asked(Announce)) == 3 * number
        assert len(told) >= 2 * number
    view.wait(5)
    assert len(view.asked(Announce)) == 12


def test_what_is_known_already_is_not_told_again() -> None:
    view = View()
    view.meet(1, 2, 3)
    view.wait(10)
    view.out.clear()
    view.announce(descriptor(2), descriptor(3))
    view.wait(0.9)
    assert view.asked(Announce) == []


def test_messages_full_of_descriptors_fit_an_envelope() -> None:
    longest = (bytes(200),) * DESCRIPTORS_MAX
    body = encode_body(Supernodes(longest, START, 10_000))
    assert len(body) + 5 <= ENVELOPE_BYTES_MAX


def test_our_table_is_given_in_pages_of_the_ring() -> None:
    view = View()
    view.meet(*range(1, 12))
    view.announce(descriptor(50))
    told: list[bytes] = []
    start = START
    while True:
        answer = view.members.answer_get(GetSupernodes(start))
        told += answer.descriptors
        assert answer.total == 12
        if not answer.next_start:
            break
        start = answer.next_start
    statics = [read_descriptor(raw).dh_public for raw in told]
    assert statics == [seat.static for seat in view.members.ring]


def test_each_live_member_is_probed_before_one_is_probed_again() -> None:
    view = View()
    view.meet(1, 2, 3, 4)
    for _ in range(3):
        view.out.clear()
        view.wait(4)
        probed = {ask.peer for ask in view.asked(Ping)}
        assert probed == {peer(number) for number in range(1, 5)}


def test_an_answer_to_a_probe_tells_round_trip_and_load() -> None:
    view = View()
    view.meet(1)
    view.wait(1)
    (probe,) = view.asked(Ping)
    view.answer(probe, PONG)
    (info,) = view.members.others()
    assert (info.rtt_s, info.load, info.heard_at) == (0.08, 0.5, NOW + 1)


def test_who_does_not_answer_is_dead_and_off_the_ring() -> None:
    view = View()
    view.meet(1)
    view.members.events()
    view.wait(1)
    view.fail(view.asked(Ping)[0])
    assert view.members.events() == [MemberLost(descriptor(1), "it did not answer")]
    assert view.state(1) is MemberState.DEAD
    assert len(view.members.ring) == 1
    assert view.members.member(identity(1).dh_public) == descriptor(1)
    assert view.members.statistics().unanswered == 1


def test_who_is_busy_is_alive() -> None:
    view = View()
    view.meet(1)
    view.wait(1)
    view.answer(view.asked(Ping)[0], Busy(5.0, ()))
    assert view.state(1) is MemberState.ALIVE


def test_who_is_no_supernode_any_more_has_left() -> None:
    view = View()
    view.meet(1)
    view.wait(1)
    view.answer(view.asked(Ping)[0], Refused(Refusal.NOT_A_SUPERNODE))
    assert view.state(1) is MemberState.LEFT


def test_a_goodbye_takes_effect_at_once() -> None:
    view = View()
    view.meet(1)
    view.members.events()
    view.members.goodbye(identity(1).dh_public, NOW)
    assert view.members.events() == [MemberLost(descriptor(1), "it said goodbye")]


def test_one_dead_member_is_greeted_each_10_s_and_its_table_asked_if_it_lives() -> None:
    view = View()
    view.meet(1)
    view.wait(1)
    view.fail(view.asked(Ping)[0])
    view.out.clear()
    view.wait(9)
    (revival,) = view.out
    assert revival.request == Announce((view.members.descriptor.raw,))
    view.answer(revival, Done())
    assert view.state(1) is MemberState.ALIVE
    assert [ask.peer for ask in view.asked(GetSupernodes)] == [peer(1)]


def test_the_dead_that_others_hear_from_are_greeted_at_once() -> None:
    view = View(5)
    view.meet(1)
    view.wait(1)
    view.fail(view.asked(Ping)[0])
    (table, *_) = view.asked(GetSupernodes)
    view.out = [table]
    view.answer(table, page(1))
    view.wait(0.1)
    assert [ask.peer for ask in view.asked(Announce)] == [peer(1)]


def test_the_table_of_a_random_live_member_is_asked_for_each_30_s() -> None:
    view = View()
    view.meet(1, 2, 3)
    view.wait(29)
    assert view.asked(GetSupernodes) == []
    view.wait(1)
    assert len(view.asked(GetSupernodes)) == 1


def test_our_descriptor_is_renewed_each_300_s_with_a_higher_incarnation() -> None:
    view = View()
    before = view.members.descriptor
    view.wait(361)
    after = view.members.descriptor
    assert after.incarnation > before.incarnation
    assert NOW + 240 <= after.issued <= NOW + 361
    assert after.address == before.address


def test_an_earlier_life_of_ours_that_would_win_is_outdone() -> None:
    view = View()
    view.meet(1)
    earlier = descriptor(US, int(NOW) + 1_000)
    view.announce(earlier)
    view.wait(10)
    assert view.members.descriptor.incarnation == int(NOW) + 1_001
    told = {ask.request for ask in view.asked(Announce)}
    assert Announce((view.members.descriptor.raw,)) in told


def test_an_earlier_life_of_ours_that_is_outdone_already_changes_nothing() -> None:
    view = View()
    before = view.members.descriptor
    view.announce(descriptor(US, int(NOW) - 1), before)
    view.wait(10)
    assert view.members.descriptor == before


def test_two_with_the_same_identity_outdo_each_other_only_now_and_then() -> None:
    view = View()
    renewals = 0
    for _ in range(100):
        theirs = view.members.descriptor.incarnation + 1
        view.announce(descriptor(US, theirs, issued=int(view.now)))
        before = view.members.descriptor
        view.wait(0.5)
        renewals += view.members.descriptor != before
    assert 5 <= renewals <= 11


def test_what_is_no_descriptor_is_refused_and_counted() -> None:
    view = View()
    request = Announce((b"garbage", descriptor(1).raw))
    view.members.answer_announce(request, peer(9), NOW)
    assert view.members.statistics().refused_invalid == 1
    assert view.state(1) is MemberState.HEARD_OF


def test_whoever_came_back_at_another_address_is_greeted_there() -> None:
    view = View()
    view.meet(1)
    view.members.events()
    moved = descriptor(1, int(NOW) + 1, at=address(9))
    view.announce(moved)
    assert isinstance(view.members.events()[0], MemberLost)
    view.wait(0.1)
    assert [ask.peer.address for ask in view.asked(Announce)] == [address(9)]


LIMIT = 6
NUMBERS = st.integers(0, 9)
ANSWERS = st.sampled_from(
    [PONG, Done(), Busy(1.0, ()), Refused(Refusal.NOT_A_SUPERNODE), Refused(99)]
)


class UnderGossip(RuleBasedStateMachine):
    """A view to which anybody tells anything, answers anything, or does not answer."""

    @initialize(seeds=st.lists(st.integers(1, 9), max_size=2, unique=True))
    def begin(self, seeds: list[int]) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(roster_module, "MEMBERS_MAX", LIMIT)
        self.view = View(*seeds)
        self.highest: dict[bytes, int] = {}
        self.ring = {identity(US).dh_public}

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()

    @rule(
        told=st.lists(st.tuples(NUMBERS, st.integers(-2, 3), NUMBERS), max_size=5),
        asker=NUMBERS,
        source=NUMBERS,
        is_known=st.booleans(),
    )
    def announce(
        self,
        told: list[tuple[int, int, int]],
        asker: int,
        source: int,
        is_known: bool,
    ) -> None:
        static = identity(asker).dh_public if is_known else None
        descriptors = [
            descriptor(number, int(NOW) + ahead, at=address(at))
            for number, ahead, at in told
        ]
        self.view.announce(*descriptors, asker=Peer(address(source), static))

    @rule(number=NUMBERS, key_of=NUMBERS)
    def announce_with_the_key_of_another(self, number: int, key_of: int) -> None:
        static = identity(key_of).dh_public
        self.view.announce(descriptor(number, int(NOW) + 9, dh_public=static))

    @rule(garbage=st.binary(max_size=60))
    def announce_garbage(self, garbage: bytes) -> None:
        request = Announce((garbage,))
        self.view.members.answer_announce(request, peer(9), self.view.now)

    @rule(which=st.integers(0, 40), answer=ANSWERS)
    def answer(self, which: int, answer: Pong | Done | Busy | Refused) -> None:
        if self.view.out:
            self.view.answer(self.view.out[which % len(self.view.out)], answer)

    @rule(
        which=st.integers(0, 40),
        numbers=st.lists(NUMBERS, max_size=5),
        next_start=st.sampled_from([b"", START, b"\x80" * 8, b"\xff" * 8]),
    )
    def answer_with_a_page(
        self, which: int, numbers: list[int], next_start: bytes
    ) -> None:
        if self.view.out:
            ask = self.view.out[which % len(self.view.out)]
            self.view.answer(ask, page(*numbers, next_start=next_start))

    @rule(which=st.integers(0, 40))
    def fail(self, which: int) -> None:
        if self.view.out:
            self.view.fail(self.view.out[which % len(self.view.out)])

    @rule(number=NUMBERS, source=NUMBERS)
    def hear(self, number: int, source: int) -> None:
        static = identity(number).dh_public
        self.view.members.heard(static, address(source), self.view.now)

    @rule(number=NUMBERS)
    def goodbye(self, number: int) -> None:
        self.view.members.goodbye(identity(number).dh_public, self.view.now)

    @rule(seconds=st.sampled_from([0.05, 0.5, 3.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.view.wait(seconds)

    @invariant()
    def no_descriptor_goes_back_to_a_lower_incarnation(self) -> None:
        descriptors = [info.descriptor for info in self.view.members.others()]
        for each in (*descriptors, self.view.members.descriptor):
            assert each.incarnation >= self.highest.get(each.public_key, 0)
            self.highest[each.public_key] = each.incarnation

    @invariant()
    def the_limits_hold(self) -> None:
        assert len(self.view.members.others()) < LIMIT
        assert len(self.view.members.ring) <= LIMIT
        assert len(self.view.asked(GetSupernodes)) <= TABLES_MAX

    @invariant()
    def the_ring_is_us_and_the_living(self) -> None:
        alive = {
            info.descriptor.dh_public
            for info in self.view.members.others()
            if info.state is MemberState.ALIVE
        }
        ring = {seat.static: seat.address for seat in self.view.members.ring}
        assert set(ring) == alive | {identity(US).dh_public}
        for info in self.view.members.others():
            if info.state is MemberState.ALIVE:
                assert ring[info.descriptor.dh_public] == info.descriptor.address

    @invariant()
    def events_tell_every_change_of_the_ring(self) -> None:
        for event in self.view.members.events():
            static = event.descriptor.dh_public
            if isinstance(event, MemberJoined):
                assert static not in self.ring
                self.ring.add(static)
            else:
                self.ring.remove(static)
        assert self.ring == {seat.static for seat in self.view.members.ring}


TestUnderGossip = UnderGossip.TestCase
TestUnderGossip.settings = settings(max_examples=80, deadline=None)
