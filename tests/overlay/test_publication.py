"""How a home writes its leaves' records: to whom, when it is enough, and again when."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from overlay import publication as publication_module
from overlay.ask import Ask, Peer
from overlay.messages import Answer, Busy, Done, Store, Stored
from overlay.publication import PATIENCE_S, RING_SETTLES_S, Publication, Published
from overlay.records import Claim, Presence, id_key, name_key
from overlay.ring import Ring, Seat
from tests.overlay.samples import NOW, claim, descriptor, identity, peer, presence

ALICE = 100
KEY = identity(ALICE).public_key
SEQ = presence(ALICE).seq


class Home:
    """A publication, the ring it writes to, and the asks it has out."""

    def __init__(self, *numbers: int) -> None:
        self.now = NOW
        self.ring = Ring()
        for number in numbers:
            self.ring.add(Seat.of(descriptor(number)))
        self.publication = Publication(self.ring)
        self.out: list[Ask] = []
        self.published: list[Published] = []

    def drain(self) -> None:
        self.out += self.publication.messages_to_send()
        self.published += self.publication.events()

    def publish(
        self, record: Presence | None = None, of_name: Claim | None = None
    ) -> bool:
        taken = self.publication.publish(record or presence(ALICE), of_name, self.now)
        self.drain()
        return taken

    def answer(self, answer: Answer | None = None, ask: Ask | None = None) -> None:
        """Answer an ask, the oldest unless it is said which, with all kept if None."""
        ask = ask or self.out[0]
        self.out.remove(ask)
        assert isinstance(ask.request, Store)
        kept = Stored(len(ask.request.records))
        self.publication.answered(ask.tag, answer or kept, 0.08, self.now)
        self.drain()

    def fail(self, ask: Ask | None = None) -> None:
        ask = ask or self.out[0]
        self.out.remove(ask)
        self.publication.failed(ask.tag, self.now)
        self.drain()

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.publication.next_timeout() <= until:
            self.now = self.publication.next_timeout()
            self.publication.handle_timeout(self.now)
            self.drain()
        self.now = until

    def change_ring(self, *, add: int | None = None, remove: int | None = None) -> None:
        if add is not None:
            self.ring.add(Seat.of(descriptor(add)))
        if remove is not None:
            self.ring.remove(identity(remove).dh_public)
        self.publication.ring_changed(self.now)

    def owners(self, key: bytes) -> set[Peer]:
        return {seat.peer for seat in self.ring.owners(key)}


def test_a_presence_is_written_to_the_eight_owners_of_its_identity() -> None:
    home = Home(*range(12))
    home.publish()
    assert {ask.peer for ask in home.out} == home.owners(id_key(KEY))
    assert len(home.out) == 8
    assert {ask.request for ask in home.out} == {Store((presence(ALICE).raw,))}


def test_owners_of_the_name_get_the_claim_before_the_presence() -> None:
    home = Home(*range(12))
    home.publish(of_name=claim(ALICE, "alice"))
    of_name = home.owners(name_key("alice"))
    assert {ask.peer for ask in home.out} == of_name | home.owners(id_key(KEY))
    both = Store((claim(ALICE, "alice").raw, presence(ALICE).raw))
    for ask in home.out:
        expected = both if ask.peer in of_name else Store((presence(ALICE).raw,))
        assert ask.request == expected


def test_it_is_published_once_five_of_eight_have_stored_it() -> None:
    home = Home(*range(12))
    home.publish()
    for _ in range(4):
        home.answer()
    assert home.published == []
    home.answer()
    assert home.published == [Published(KEY, SEQ, 5, 8)]
    while home.out:
        home.answer()
    assert len(home.published) == 1


@pytest.mark.parametrize("owners", [1, 2, 4])
def test_of_fewer_than_five_all_must_have_stored_it(owners: int) -> None:
    home = Home(*range(owners))
    home.publish()
    for _ in range(owners):
        assert home.published == []
        home.answer()
    assert home.published == [Published(KEY, SEQ, owners, owners)]


def test_a_name_is_published_once_the_owners_of_both_keys_have_it() -> None:
    home = Home(*range(40))
    home.publish(of_name=claim(ALICE, "alice"))
    of_id = [ask for ask in home.out if ask.peer in home.owners(id_key(KEY))]
    of_name = [ask for ask in home.out if ask not in of_id]
    for ask in of_id:
        home.answer(ask=ask)
    for ask in of_name[:4]:
        home.answer(ask=ask)
    assert home.published == []
    home.answer(ask=of_name[4])
    (published,) = home.published
    assert published.stored >= 5


def test_an_owner_that_fails_is_asked_once_more() -> None:
    home = Home(1, 2)
    home.publish()
    failing = home.out[0].peer
    home.fail()
    assert [ask.peer for ask in home.out].count(failing) == 1
    home.answer(ask=home.out[0])
    assert home.published == []
    home.fail()
    assert home.out == []
    assert home.published == [Published(KEY, SEQ, 1, 2)]
    assert home.publication.statistics().unanswered == 2


@pytest.mark.parametrize("answer", [Stored(0), Busy(5.0, ()), Done()])
def test_an_owner_that_does_not_keep_it_does_not_count(answer: Answer) -> None:
    home = Home(1, 2)
    home.publish()
    home.answer(answer)
    home.answer()
    assert home.published == [Published(KEY, SEQ, 1, 2)]
    assert home.publication.statistics().not_stored == 1


def test_an_owner_that_keeps_only_one_of_two_records_does_not_count() -> None:
    home = Home(1)
    home.publish(of_name=claim(ALICE, "alice"))
    home.answer(Stored(1))
    assert home.published == [Published(KEY, SEQ, 0, 1)]


def test_after_some_time_what_there_is_is_reported_and_the_rest_goes_on() -> None:
    home = Home(*range(8))
    home.publish()
    home.answer()
    home.wait(PATIENCE_S)
    assert home.published == [Published(KEY, SEQ, 1, 8)]
    while home.out:
        home.answer()
    assert len(home.published) == 1


def test_publishing_what_is_written_already_asks_nobody() -> None:
    home = Home(*range(3))
    home.publish()
    while home.out:
        home.answer()
    home.publish()
    assert home.out == []
    assert home.published == [Published(KEY, SEQ, 3, 3)] * 2


def test_a_newer_presence_is_written_to_all_again() -> None:
    home = Home(*range(3))
    home.publish()
    while home.out:
        home.answer()
    newer = presence(ALICE, SEQ + 1)
    home.publish(newer)
    assert {ask.request for ask in home.out} == {Store((newer.raw,))}
    assert len(home.out) == 3


def test_answers_to_an_older_presence_do_not_count_for_the_newer() -> None:
    home = Home(1)
    home.publish()
    (old,) = home.out
    home.publish(presence(ALICE, SEQ + 1))
    home.answer(ask=old)
    assert home.published == []
    home.answer()
    assert home.published == [Published(KEY, SEQ + 1, 1, 1)]


def test_an_older_presence_does_not_take_the_place_of_a_newer() -> None:
    home = Home(1)
    home.publish(presence(ALICE, SEQ + 1))
    home.answer()
    home.publish()
    assert home.out == []
    assert home.published[-1] == Published(KEY, SEQ + 1, 1, 1)


def test_a_name_added_later_is_written_too() -> None:
    home = Home(1)
    home.publish()
    home.answer()
    home.publish(of_name=claim(ALICE, "alice"))
    assert [ask.request for ask in home.out] == [
        Store((claim(ALICE, "alice").raw, presence(ALICE).raw))
    ]


def test_after_a_change_of_the_ring_only_new_owners_are_asked() -> None:
    home = Home(*range(8))
    home.publish()
    while home.out:
        home.answer()
    home.change_ring(remove=3, add=20)
    home.wait(RING_SETTLES_S - 0.01)
    assert home.out == []
    home.wait(0.02)
    assert [ask.peer for ask in home.out] == [peer(20)]
    assert len(home.published) == 1


def test_an_owner_that_was_gone_and_came_back_is_asked_again() -> None:
    home = Home(*range(8))
    home.publish()
    while home.out:
        home.answer()
    home.change_ring(remove=3)
    home.wait(1)
    home.change_ring(add=3)
    home.wait(1)
    assert [ask.peer for ask in home.out] == [peer(3)]


def test_who_is_being_asked_is_not_asked_twice() -> None:
    home = Home(*range(8))
    home.publish()
    home.change_ring()
    home.wait(1)
    assert len(home.out) == 8


def test_leaves_are_looked_at_one_after_another() -> None:
    home = Home(1)
    for number in range(100, 120):
        home.publish(presence(number))
    while home.out:
        home.answer()
    home.change_ring(add=2)
    home.wait(RING_SETTLES_S + 0.055)
    assert 5 <= len(home.out) <= 7
    home.wait(0.2)
    assert len(home.out) == 20


def test_changes_in_between_do_not_keep_the_last_leaves_waiting() -> None:
    home = Home(1)
    for number in range(100, 250):
        home.publish(presence(number))
    while home.out:
        home.answer()
    for number in range(2, 7):
        home.change_ring(add=number)
        home.wait(0.6)
    written = {ask.request for ask in home.out}
    assert len(written) == 150


def test_a_leaf_is_forgotten_when_its_presence_is_over() -> None:
    home = Home(1)
    home.publish(presence(ALICE, ttl_s=60))
    home.answer()
    home.wait(60)
    home.change_ring(add=2)
    home.wait(1)
    assert home.out == []
    assert home.publication.statistics().leaves == 0


def test_answers_for_a_leaf_that_is_forgotten_are_ignored() -> None:
    home = Home(1)
    home.publish(presence(ALICE, ttl_s=60))
    home.wait(60)
    reported = list(home.published)
    home.answer()
    assert home.published == reported


def test_no_more_leaves_are_taken_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publication_module, "LEAVES_MAX", 2)
    home = Home(1)
    assert home.publish(presence(1))
    assert home.publish(presence(2))
    assert not home.publish(presence(3))
    assert home.publish(presence(1, SEQ + 1))
    assert home.publication.statistics().refused_full == 1


class OverAChangingRing(RuleBasedStateMachine):
    """A home over a ring that changes, with owners that do what they like."""

    @initialize()
    def begin(self) -> None:
        self.home = Home(0)
        self.newest: dict[int, int] = {}
        self.publications = 0

    @rule(number=st.integers(100, 103), ahead=st.integers(0, 3), named=st.booleans())
    def publish(self, number: int, ahead: int, named: bool) -> None:
        of_name = claim(number, f"leaf-{number}") if named else None
        assert self.home.publish(presence(number, SEQ + ahead), of_name)
        self.newest[number] = max(self.newest.get(number, 0), SEQ + ahead)
        self.publications += 1

    @rule(which=st.integers(0, 60), kept=st.booleans())
    def answer(self, which: int, kept: bool) -> None:
        if self.home.out:
            ask = self.home.out[which % len(self.home.out)]
            self.home.answer(None if kept else Stored(0), ask)

    @rule(which=st.integers(0, 60))
    def fail(self, which: int) -> None:
        if self.home.out:
            self.home.fail(self.home.out[which % len(self.home.out)])

    @rule(number=st.integers(1, 12), joins=st.booleans())
    def change_ring(self, number: int, joins: bool) -> None:
        if joins:
            self.home.change_ring(add=number)
        else:
            self.home.change_ring(remove=number)

    @rule(seconds=st.sampled_from([0.02, 0.6, 3.0]))
    def wait(self, seconds: float) -> None:
        self.home.wait(seconds)

    @invariant()
    def no_report_counts_more_than_the_owners(self) -> None:
        for published in self.home.published:
            assert 0 <= published.stored <= published.owners <= 8
        assert len(self.home.published) <= self.publications

    def teardown(self) -> None:
        """In the end, with owners that answer, all owners have the newest of all."""
        if not hasattr(self, "home"):
            return
        self.home.wait(3.0)
        self.home.change_ring()
        stored: set[tuple[Peer, bytes]] = set()
        self.home.published.clear()
        for number, seq in self.newest.items():
            newer = presence(number, seq + 1)
            self.home.publish(newer)
            while self.home.out:
                request = self.home.out[0].request
                assert isinstance(request, Store)
                stored |= {(self.home.out[0].peer, raw) for raw in request.records}
                self.home.answer()
            for owner in self.home.owners(id_key(newer.public_key)):
                assert (owner, newer.raw) in stored
        assert len(self.home.published) == len(self.newest)


TestOverAChangingRing = OverAChangingRing.TestCase
TestOverAChangingRing.settings = settings(max_examples=60, deadline=None)
