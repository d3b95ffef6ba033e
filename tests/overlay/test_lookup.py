"""One look-up: whom it asks and when, what it believes, and how it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from overlay.ask import Ask, Peer
from overlay.index import Index
from overlay.lookup import (
    ASKED_MAX,
    AnswerKind,
    Lookup,
    LookupDone,
    Outcome,
    Step,
    answer_look_up,
)
from overlay.messages import (
    Answer,
    Busy,
    Contact,
    Done,
    LookUp,
    NotFound,
    Referral,
    Refused,
    Value,
)
from overlay.records import Claim, Presence, id_key, name_key
from overlay.ring import Ring, Seat
from tests.overlay.samples import (
    NOW,
    claim,
    contact,
    descriptor,
    identity,
    peer,
    presence,
    randomness,
)

ALICE = 100
KEY = id_key(identity(ALICE).public_key)
FOUND = Value((presence(ALICE).raw,))
SEQ = presence(ALICE).seq
OWNERS = tuple(contact(number) for number in range(10, 18))
REFERRAL = Referral(OWNERS)


class Search:
    """A look-up and the asks it has out, driven by hand."""

    def __init__(
        self,
        *homes: int,
        key: bytes = KEY,
        known_seqs: Mapping[bytes, int] | None = None,
        seed: int = 1,
    ) -> None:
        self.now = NOW
        self.lookup = Lookup(
            key,
            [peer(number) for number in homes],
            random_bytes=randomness(seed),
            now=NOW,
            known_seqs=known_seqs,
        )
        self.out: list[Ask] = []
        self.asked: list[Ask] = []
        self.done: LookupDone | None = None
        self.drain()

    def drain(self) -> None:
        new = self.lookup.messages_to_send()
        self.out += new
        self.asked += new
        for event in self.lookup.events():
            assert self.done is None
            self.done = event

    def answer(self, answer: Answer, ask: Ask | None = None) -> None:
        """Answer an ask, the oldest that is out unless it is said which."""
        ask = ask or self.out[0]
        self.out.remove(ask)
        self.lookup.answered(ask.tag, answer, 0.04, self.now)
        self.drain()

    def fail(self, ask: Ask | None = None) -> None:
        ask = ask or self.out[0]
        self.out.remove(ask)
        self.lookup.failed(ask.tag, self.now)
        self.drain()

    def wait(self, seconds: float) -> None:
        self.wait_until(self.now + seconds)

    def wait_until(self, until: float) -> None:
        while self.lookup.next_timeout() <= until:
            self.now = self.lookup.next_timeout()
            self.lookup.handle_timeout(self.now)
            self.drain()
        self.now = until

    def out_to(self) -> set[Peer]:
        return {ask.peer for ask in self.out}

    def ended(self) -> LookupDone:
        assert self.done is not None
        assert self.lookup.next_timeout() == math.inf
        return self.done

    def kinds(self) -> list[AnswerKind]:
        return [step.answer for step in self.ended().steps]


def at_owners(known_seqs: Mapping[bytes, int] | None = None) -> Search:
    """Give a look-up that its home has just referred to eight owners."""
    search = Search(1, known_seqs=known_seqs)
    search.answer(REFERRAL)
    return search


def test_the_home_is_asked_first_and_knows_who_asks() -> None:
    search = Search(1, 2)
    assert search.asked == [Ask(peer(1), LookUp(KEY), search.asked[0].tag)]
    assert not search.asked[0].anonymous


def test_a_home_that_owns_the_key_ends_the_look_up_at_once() -> None:
    search = Search(1, 2)
    search.now += 0.04
    search.answer(FOUND)
    assert search.ended() == LookupDone(
        Outcome.FOUND,
        (presence(ALICE),),
        (Step(peer(1).address, peer(1).static, AnswerKind.VALUE, 0.04, NOW + 0.04),),
        NOW,
        NOW + 0.04,
    )


def test_after_a_referral_two_owners_are_asked_at_once_anonymously() -> None:
    search = at_owners()
    assert len(search.out) == 2
    assert all(ask.anonymous for ask in search.out)
    assert search.out_to() <= {Peer.of(owner) for owner in OWNERS}


def test_owners_are_asked_in_random_order() -> None:
    firsts = set()
    for seed in range(30):
        search = Search(1, seed=seed)
        search.answer(REFERRAL)
        firsts.add(search.out[0].peer)
    assert len(firsts) > 4


def test_one_more_owner_is_asked_each_200_ms() -> None:
    search = at_owners()
    for count in range(3, 9):
        due_at = search.lookup.next_timeout()
        assert due_at == pytest.approx(NOW + 0.2 * (count - 2), abs=1e-6)
        search.wait_until(due_at - 0.001)
        assert len(search.out) == count - 1
        search.wait_until(due_at)
        assert len(search.out) == count
    search.wait(10)
    assert len(search.out) == 8


def test_a_failed_owner_is_replaced_at_once() -> None:
    search = at_owners()
    search.fail()
    assert len(search.out) == 2
    assert len(search.asked) == 4


def test_the_fresher_of_two_values_counts() -> None:
    search = at_owners()
    newer = presence(ALICE, SEQ + 1)
    search.answer(FOUND)
    assert search.done is None
    search.now += 0.01
    search.answer(Value((newer.raw,)))
    assert search.ended().records == (newer,)
    assert search.ended().finished_at == NOW + 0.01


def test_an_older_second_value_changes_nothing() -> None:
    search = at_owners()
    newer = presence(ALICE, SEQ + 1)
    search.answer(Value((newer.raw,)))
    search.answer(FOUND)
    assert search.ended().records == (newer,)


def test_a_second_value_is_waited_for_50_ms_only() -> None:
    search = at_owners()
    search.answer(FOUND)
    search.wait(0.049)
    assert search.done is None
    search.wait(0.001)
    assert search.ended().outcome is Outcome.FOUND
    assert len(search.asked) == 3


@pytest.mark.parametrize("second", [NotFound(()), Busy(5.0, ()), REFERRAL, None])
def test_whatever_the_second_says_the_value_in_hand_is_not_kept_waiting(
    second: Answer | None,
) -> None:
    search = at_owners()
    search.answer(FOUND)
    if second is None:
        search.fail()
    else:
        search.answer(second)
    assert search.ended().outcome is Outcome.FOUND


def test_a_value_is_not_waited_for_when_nobody_else_was_asked() -> None:
    search = Search(1)
    search.answer(Referral(OWNERS[:1]))
    search.answer(FOUND)
    assert search.ended().outcome is Outcome.FOUND


def test_with_a_value_in_hand_nobody_else_is_asked() -> None:
    search = at_owners()
    search.wait(0.18)
    search.answer(FOUND)
    search.wait(1)
    assert search.ended().finished_at == pytest.approx(NOW + 0.23, abs=1e-6)
    assert len(search.asked) == 3


def test_answers_after_the_end_are_ignored() -> None:
    search = at_owners()
    search.wait(0.2)
    search.answer(FOUND)
    search.answer(FOUND)
    ended = search.ended()
    search.answer(Value((presence(ALICE, SEQ + 1).raw,)))
    assert search.ended() == ended


def test_a_failed_home_is_followed_by_the_next() -> None:
    search = Search(1, 2)
    search.fail()
    assert search.out_to() == {peer(2)}
    search.answer(FOUND)
    assert search.kinds() == [AnswerKind.TIMEOUT, AnswerKind.VALUE]


@pytest.mark.parametrize("answer", [Busy(5.0, ()), Refused(6), Done(), Value(())])
def test_a_home_that_is_of_no_use_is_followed_by_the_next(answer: Answer) -> None:
    search = Search(1, 2)
    search.answer(answer)
    assert search.out_to() == {peer(2)}


def test_a_silent_home_is_followed_by_the_next_after_half_a_second() -> None:
    search = Search(1, 2)
    search.wait(0.499)
    assert search.out_to() == {peer(1)}
    search.wait(0.001)
    assert search.out_to() == {peer(1), peer(2)}


def test_a_home_that_answers_late_is_heard_all_the_same() -> None:
    search = Search(1, 2)
    search.wait(0.5)
    search.answer(FOUND, search.asked[0])
    assert search.ended().outcome is Outcome.FOUND


def test_without_a_home_the_index_is_unreachable() -> None:
    assert Search().ended().outcome is Outcome.UNREACHABLE


def test_when_all_homes_fail_the_index_is_unreachable() -> None:
    search = Search(1, 2)
    search.fail()
    search.fail()
    assert search.ended().outcome is Outcome.UNREACHABLE
    assert search.ended().records == ()


def test_five_of_eight_owners_say_that_nothing_is_held() -> None:
    search = at_owners()
    for _ in range(4):
        search.answer(NotFound(OWNERS))
        assert search.done is None
    search.answer(NotFound(OWNERS))
    assert search.ended().outcome is Outcome.NOT_FOUND
    assert search.kinds().count(AnswerKind.NOT_FOUND) == 5


def test_four_of_eight_owners_do_not_suffice() -> None:
    search = at_owners()
    for _ in range(4):
        search.answer(NotFound(OWNERS))
    while search.out:
        search.fail()
    assert search.ended().outcome is Outcome.UNREACHABLE


def test_where_views_differ_five_suffice_however_many_are_named() -> None:
    search = at_owners()
    for number in range(5):
        search.answer(NotFound((contact(200 + number),)))
    assert search.ended().outcome is Outcome.NOT_FOUND


@pytest.mark.parametrize(("owners", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 4)])
def test_of_fewer_owners_most_say_that_nothing_is_held(
    owners: int, needed: int
) -> None:
    search = Search(1)
    search.answer(Referral(OWNERS[:owners]))
    for _ in range(needed):
        assert search.done is None
        search.answer(NotFound(OWNERS[:owners]))
    assert search.ended().outcome is Outcome.NOT_FOUND


def test_a_home_that_owns_the_key_and_holds_nothing_counts_as_one() -> None:
    search = Search(1)
    search.answer(NotFound(OWNERS[:2]))
    assert search.done is None
    search.answer(NotFound((contact(1),)))
    assert search.ended().outcome is Outcome.NOT_FOUND


def test_a_network_of_one_says_at_once_that_nothing_is_held() -> None:
    search = Search(1)
    search.answer(NotFound(()))
    assert search.ended().outcome is Outcome.NOT_FOUND


def test_one_owner_that_has_it_outweighs_those_that_have_not() -> None:
    search = at_owners()
    for _ in range(4):
        search.answer(NotFound(OWNERS))
    search.answer(FOUND)
    search.answer(NotFound(OWNERS))
    assert search.ended().outcome is Outcome.FOUND


def test_when_owners_fail_the_next_home_is_asked_for_its_view() -> None:
    search = Search(1, 2)
    search.answer(Referral(OWNERS[:2]))
    search.fail()
    assert search.done is None
    search.fail()
    assert search.out_to() == {peer(2)}
    assert not search.out[0].anonymous
    search.answer(Referral(OWNERS[2:4]))
    assert search.out_to() == {Peer.of(owner) for owner in OWNERS[2:4]}


def test_nobody_is_asked_twice() -> None:
    search = Search(1)
    search.answer(Referral((contact(1), contact(2), contact(2))))
    search.answer(Referral((contact(1), contact(2))))
    assert [ask.peer for ask in search.asked] == [peer(1), peer(2)]
    assert search.ended().outcome is Outcome.UNREACHABLE


def test_referrals_are_followed_three_deep_and_no_deeper() -> None:
    search = Search(1)
    for number in range(2, 6):
        search.answer(Referral((contact(number),)))
    assert [ask.peer for ask in search.asked] == [peer(n) for n in range(1, 5)]
    assert search.ended().outcome is Outcome.UNREACHABLE
    assert search.kinds() == [AnswerKind.REFERRAL] * 4


def test_there_is_an_end_to_what_liars_can_make_us_ask() -> None:
    search = Search(1)
    number = 200
    while search.out:
        search.answer(Referral(tuple(contact(n) for n in range(number, number + 8))))
        number += 8
    assert len(search.asked) == ASKED_MAX
    assert search.ended().outcome is Outcome.UNREACHABLE


def test_an_owner_whose_address_cannot_be_read_is_left_out() -> None:
    search = Search(1)
    search.answer(Referral((Contact(bytes(7), bytes(32)), contact(2))))
    assert search.out_to() == {peer(2)}


def test_a_forged_value_is_shown_as_invalid_and_not_believed() -> None:
    search = at_owners()
    forged = bytearray(presence(ALICE).raw)
    forged[-1] ^= 1
    search.answer(Value((bytes(forged), b"garbage")))
    search.answer(FOUND)
    search.answer(FOUND)
    assert search.ended().records == (presence(ALICE),)
    assert AnswerKind.INVALID in search.kinds()


def test_a_genuine_record_of_somebody_else_is_not_believed() -> None:
    search = Search(1)
    search.answer(Value((presence(99).raw, descriptor(2).raw, claim(99, "bob").raw)))
    assert search.kinds() == [AnswerKind.INVALID]
    assert search.ended().outcome is Outcome.UNREACHABLE


def test_a_presence_older_than_one_seen_before_is_not_believed() -> None:
    seen = {identity(ALICE).public_key: SEQ + 1}
    search = at_owners(known_seqs=seen)
    search.answer(FOUND)
    newer = presence(ALICE, SEQ + 1)
    search.answer(Value((newer.raw,)))
    search.answer(FOUND)
    assert search.kinds()[1] is AnswerKind.INVALID
    assert search.ended().records == (newer,)


def test_a_name_is_found_with_its_claim_and_the_claimants_presence() -> None:
    search = Search(1, key=name_key("alice"))
    search.answer(Value((presence(ALICE).raw, claim(ALICE, "alice").raw)))
    assert search.ended().records == (claim(ALICE, "alice"), presence(ALICE))


def test_a_presence_without_a_claim_to_the_name_is_not_believed() -> None:
    search = Search(1, key=name_key("alice"))
    search.answer(Value((presence(99).raw, claim(ALICE, "alice").raw)))
    assert search.ended().records == (claim(ALICE, "alice"),)


def test_claims_that_only_one_owner_knows_are_found_too() -> None:
    search = Search(1, key=name_key("alice"))
    search.answer(REFERRAL)
    search.answer(Value((claim(1, "alice").raw, presence(1).raw)))
    search.answer(Value((claim(2, "alice").raw, claim(1, "alice", SEQ + 1).raw)))
    assert set(search.ended().records) == {
        claim(1, "alice", SEQ + 1),
        claim(2, "alice"),
        presence(1),
    }


def test_a_step_shows_a_short_text_for_the_node() -> None:
    static = peer(1).static
    assert static is not None
    step = Step(peer(1).address, static, AnswerKind.VALUE, 0.1, NOW)
    assert step.node == static[:4].hex()
    assert Step(peer(1).address, None, AnswerKind.VALUE, 0.1, NOW).node == "?"


def ring_of(*numbers: int) -> Ring:
    ring = Ring()
    for number in numbers:
        ring.add(Seat.of(descriptor(number)))
    return ring


def test_an_owner_answers_with_what_it_holds() -> None:
    index = Index()
    index.store(presence(ALICE).raw, NOW)
    static = identity(1).dh_public
    assert answer_look_up(KEY, index, ring_of(1, 2), static, NOW) == FOUND


def test_an_owner_that_holds_nothing_names_the_others() -> None:
    static = identity(1).dh_public
    answer = answer_look_up(KEY, Index(), ring_of(1, 2, 3), static, NOW)
    assert isinstance(answer, NotFound)
    assert set(answer.owners) == {contact(2), contact(3)}


def test_a_supernode_that_is_no_owner_refers_to_the_eight_even_if_it_holds_some() -> (
    None
):
    ring = ring_of(*range(1, 13))
    index = Index()
    index.store(presence(ALICE).raw, NOW)
    owners = {seat.static for seat in ring.owners(KEY)}
    for number in range(1, 13):
        static = identity(number).dh_public
        answer = answer_look_up(KEY, index, ring, static, NOW)
        if static in owners:
            assert answer == FOUND
        else:
            assert isinstance(answer, Referral)
            assert {owner.static for owner in answer.owners} == owners


ANSWERS = st.one_of(
    st.just(FOUND),
    st.just(Value((presence(ALICE, SEQ - 5).raw,))),
    st.just(Value((presence(99).raw,))),
    st.just(Value((b"garbage",))),
    st.just(Busy(1.0, ())),
    st.just(Refused(3)),
    st.just(Done()),
    st.builds(
        Referral, st.lists(st.integers(0, 40).map(contact), max_size=8).map(tuple)
    ),
    st.builds(
        NotFound, st.lists(st.integers(0, 40).map(contact), max_size=8).map(tuple)
    ),
)


class AmongLiars(RuleBasedStateMachine):
    """A look-up to which anybody answers anything, in any order, early or late."""

    @initialize(homes=st.lists(st.integers(0, 3), max_size=3, unique=True))
    def begin(self, homes: list[int]) -> None:
        known = {identity(ALICE).public_key: SEQ - 2}
        self.search = Search(*homes, known_seqs=known)
        self.said_not_found: set[Peer] = set()

    @rule(which=st.integers(0, 30), answer=ANSWERS)
    def answer(self, which: int, answer: Answer) -> None:
        if self.search.out:
            ask = self.search.out[which % len(self.search.out)]
            if isinstance(answer, NotFound):
                self.said_not_found.add(ask.peer)
            self.search.answer(answer, ask)

    @rule(which=st.integers(0, 30))
    def fail(self, which: int) -> None:
        if self.search.out:
            self.search.fail(self.search.out[which % len(self.search.out)])

    @rule(ms=st.sampled_from([1, 49, 50, 200, 1_000]))
    def wait(self, ms: int) -> None:
        self.search.wait(ms / 1_000)

    @invariant()
    def nobody_is_asked_twice_and_not_too_many(self) -> None:
        asked = [ask.peer for ask in self.search.asked]
        assert len(asked) == len(set(asked)) <= ASKED_MAX

    @invariant()
    def it_waits_for_somebody_or_has_ended(self) -> None:
        assert self.search.out or self.search.done

    @invariant()
    def what_it_gives_is_true(self) -> None:
        done = self.search.done
        if done is None:
            return
        believed: set[Claim | Presence] = {presence(ALICE)}
        assert set(done.records) <= believed
        assert (done.outcome is Outcome.FOUND) == bool(done.records)
        if done.outcome is Outcome.NOT_FOUND:
            assert self.said_not_found


TestAmongLiars = AmongLiars.TestCase
TestAmongLiars.settings = settings(max_examples=100, deadline=None)
