"""The index: what is kept, what is refused and counted, what is found, what expires."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from overlay import index as index_module
from overlay.envelope import ENVELOPE_BYTES_MAX
from overlay.index import CLAIM_TTL_S, CLOCK_SKEW_S_MAX, Index
from overlay.messages import Value, encode_body
from overlay.records import Claim, Presence, id_key, name_key
from tests.overlay.samples import NOW, claim, contact, descriptor, identity, presence

SEQ = int(NOW) * 1_000
HOMES = (contact(7), contact(8), contact(9))


def id_of(number: int) -> bytes:
    return id_key(identity(number).public_key)


def test_a_presence_is_found_under_its_identity() -> None:
    index = Index()
    assert index.store(presence(1).raw, NOW)
    assert index.look_up(id_of(1), NOW) == (presence(1).raw,)
    assert index.look_up(id_of(2), NOW) == ()


def test_the_presence_of_the_one_claimant_is_found_with_the_claim() -> None:
    index = Index()
    index.store(claim(1, "alice").raw, NOW)
    assert index.look_up(name_key("alice"), NOW) == (claim(1, "alice").raw,)
    index.store(presence(1).raw, NOW)
    assert index.look_up(name_key("alice"), NOW) == (
        claim(1, "alice").raw,
        presence(1).raw,
    )


def test_a_contested_name_gives_its_claims_in_the_order_they_came() -> None:
    index = Index()
    for number in (3, 1, 2):
        index.store(claim(number, "alice").raw, NOW)
        index.store(presence(number).raw, NOW)
    index.store(claim(3, "alice", SEQ + 1).raw, NOW)
    assert index.look_up(name_key("alice"), NOW) == (
        claim(3, "alice", SEQ + 1).raw,
        claim(1, "alice").raw,
        claim(2, "alice").raw,
    )


def test_the_higher_seq_wins_in_whatever_order_they_come() -> None:
    for seqs in ((SEQ, SEQ + 1), (SEQ + 1, SEQ)):
        index = Index()
        for seq in seqs:
            assert index.store(presence(1, seq).raw, NOW)
        assert index.look_up(id_of(1), NOW) == (presence(1, SEQ + 1).raw,)


def test_storing_the_same_presence_again_does_not_prolong_it() -> None:
    index = Index()
    index.store(presence(1).raw, NOW)
    assert index.store(presence(1).raw, NOW + 800)
    assert index.look_up(id_of(1), NOW + 899)
    assert index.look_up(id_of(1), NOW + 900) == ()


def test_storing_the_same_claim_again_prolongs_it() -> None:
    index = Index()
    index.store(claim(1, "alice").raw, NOW)
    index.store(claim(1, "alice").raw, NOW + 10)
    assert index.look_up(name_key("alice"), NOW + CLAIM_TTL_S)
    assert index.look_up(name_key("alice"), NOW + CLAIM_TTL_S + 10) == ()


@pytest.mark.parametrize(("asked_s", "given_s"), [(60, 60), (900, 900), (3_600, 900)])
def test_a_presence_lives_as_long_as_it_asks_but_900_s_at_most(
    asked_s: int, given_s: int
) -> None:
    index = Index()
    index.store(presence(1, ttl_s=asked_s).raw, NOW)
    assert index.next_timeout() == NOW + given_s
    assert index.look_up(id_of(1), NOW + given_s - 0.1)
    assert index.look_up(id_of(1), NOW + given_s) == ()


def test_what_is_over_is_dropped_and_counted() -> None:
    index = Index()
    index.store(presence(1).raw, NOW)
    index.store(claim(1, "alice").raw, NOW)
    index.handle_timeout(NOW + 900)
    assert index.keys() == (name_key("alice"),)
    index.handle_timeout(NOW + CLAIM_TTL_S)
    assert index.keys() == ()
    assert index.next_timeout() == math.inf
    assert index.statistics().expired == 2


def test_an_expired_presence_makes_way_for_an_older_one() -> None:
    index = Index()
    index.store(presence(1, SEQ + 5, ttl_s=60).raw, NOW)
    assert index.store(presence(1, SEQ).raw, NOW + 60)
    assert index.look_up(id_of(1), NOW + 60) == (presence(1, SEQ).raw,)
    assert index.keys() == (id_of(1),)


def test_a_record_from_too_far_ahead_is_refused() -> None:
    ahead_s = int(CLOCK_SKEW_S_MAX) + 1
    index = Index()
    for record in (
        presence(1, SEQ + ahead_s * 1_000),
        presence(1, issued=int(NOW) + ahead_s),
        claim(1, "alice", SEQ + ahead_s * 1_000),
        claim(1, "alice", created=int(NOW) + ahead_s),
    ):
        assert not index.store(record.raw, NOW)
    assert index.statistics().refused_by_clock == 4
    assert index.keys() == ()


def test_a_replayed_presence_of_yesterday_is_refused() -> None:
    index = Index()
    ends_at = NOW + 900 + CLOCK_SKEW_S_MAX
    assert index.store(presence(1).raw, ends_at)
    assert not index.store(presence(2).raw, ends_at + 1)
    assert index.statistics().refused_by_clock == 1


def test_a_claim_may_be_years_old() -> None:
    assert Index().store(claim(1, "alice", 1, created=1).raw, NOW)


def test_what_is_not_signed_is_refused_and_counted() -> None:
    index = Index()
    forged = bytearray(presence(1).raw)
    forged[-1] ^= 1
    assert not index.store(bytes(forged), NOW)
    assert not index.store(b"garbage", NOW)
    assert index.statistics().refused_invalid == 2


def test_descriptors_have_no_place_in_the_index() -> None:
    index = Index()
    assert not index.store(descriptor(1).raw, NOW)
    assert index.statistics().refused_invalid == 1


def test_a_ninth_claim_to_a_name_is_refused() -> None:
    index = Index()
    for number in range(8):
        assert index.store(claim(number, "alice").raw, NOW)
    assert not index.store(claim(8, "alice").raw, NOW)
    assert index.store(claim(0, "alice", SEQ + 1).raw, NOW)
    assert index.statistics().refused_full == 1


def test_whatever_is_held_its_answer_fits_a_datagram() -> None:
    index = Index()
    for number in range(8):
        index.store(claim(number, "a" * 32).raw, NOW)
    found = index.look_up(name_key("a" * 32), NOW)
    assert 4 <= len(found) <= 6
    assert len(encode_body(Value(found))) < ENVELOPE_BYTES_MAX - 5


def test_claim_and_presence_with_three_homes_fit_one_answer() -> None:
    index = Index()
    index.store(claim(1, "a" * 32).raw, NOW)
    index.store(presence(1, homes=HOMES).raw, NOW)
    assert len(index.look_up(name_key("a" * 32), NOW)) == 2


def test_a_full_index_refuses_new_identities_and_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index_module, "PRESENCES_MAX", 2)
    monkeypatch.setattr(index_module, "CLAIMS_MAX", 1)
    index = Index()
    assert index.store(presence(1).raw, NOW)
    assert index.store(presence(2).raw, NOW)
    assert index.store(claim(1, "alice").raw, NOW)
    assert not index.store(presence(3).raw, NOW)
    assert not index.store(claim(1, "bob").raw, NOW)
    assert index.store(presence(1, SEQ + 1).raw, NOW)
    assert index.statistics().refused_full == 2
    assert set(index.keys()) == {id_of(1), id_of(2), name_key("alice")}
    assert index.store(presence(3).raw, NOW + 900)


@dataclass
class Naive:
    """The same index as lists that are searched from one end to the other."""

    presences: list[tuple[Presence, float]] = field(default_factory=list)
    claims: list[tuple[Claim, float]] = field(default_factory=list)

    def forget(self, now: float) -> None:
        self.presences = [held for held in self.presences if now < held[1]]
        self.claims = [held for held in self.claims if now < held[1]]

    def store_presence(self, record: Presence, now: float) -> None:
        for held, _ in self.presences:
            if held.public_key == record.public_key and held.seq >= record.seq:
                return
        self.presences = [
            held for held in self.presences if held[0].public_key != record.public_key
        ]
        self.presences.append((record, now + min(900, record.ttl_s)))

    def store_claim(self, record: Claim, now: float) -> None:
        for place, (held, _) in enumerate(self.claims):
            if (held.public_key, held.name) == (record.public_key, record.name):
                if held.seq <= record.seq:
                    self.claims[place] = (record, now + CLAIM_TTL_S)
                return
        if sum(held.name == record.name for held, _ in self.claims) < 8:
            self.claims.append((record, now + CLAIM_TTL_S))

    def by_id(self, public_key: bytes) -> tuple[bytes, ...]:
        return tuple(
            held.raw for held, _ in self.presences if held.public_key == public_key
        )

    def by_name(self, name: str) -> tuple[bytes, ...]:
        claims = [held for held, _ in self.claims if held.name == name]
        presence_too = self.by_id(claims[0].public_key) if len(claims) == 1 else ()
        raws = (*(held.raw for held in claims), *presence_too)
        return raws[:6]


PEOPLE = range(10)
NAMES = ("alice", "bob")


class AgainstTheNaive(RuleBasedStateMachine):
    """An index beside the naive one, through any sequence of records and time."""

    @initialize()
    def begin(self) -> None:
        self.index = Index()
        self.naive = Naive()
        self.now = NOW

    @rule(
        number=st.sampled_from(PEOPLE), ahead=st.integers(0, 3), ttl_s=st.integers(1, 9)
    )
    def store_presence(self, number: int, ahead: int, ttl_s: int) -> None:
        issued = int(self.now)
        record = presence(number, SEQ + ahead, issued=issued, ttl_s=ttl_s * 200)
        assert self.index.store(record.raw, self.now)
        self.naive.store_presence(record, self.now)

    @rule(
        number=st.sampled_from(PEOPLE),
        name=st.sampled_from(NAMES),
        ahead=st.integers(0, 2),
    )
    def store_claim(self, number: int, name: str, ahead: int) -> None:
        record = claim(number, name, SEQ + ahead)
        self.index.store(record.raw, self.now)
        self.naive.store_claim(record, self.now)

    @rule(garbage=st.binary(max_size=100))
    def store_garbage(self, garbage: bytes) -> None:
        assert not self.index.store(garbage, self.now)

    @rule(number=st.sampled_from(PEOPLE))
    def store_from_the_future(self, number: int) -> None:
        assert not self.index.store(presence(number, 2**62).raw, self.now)

    @rule(by_s=st.sampled_from([1, 150, 400, CLAIM_TTL_S - 500]))
    def go_on(self, by_s: float) -> None:
        self.now += by_s
        self.naive.forget(self.now)

    @rule()
    def clear(self) -> None:
        self.index.handle_timeout(self.now)
        assert self.index.next_timeout() > self.now

    @invariant()
    def they_agree(self) -> None:
        for number in PEOPLE:
            expected = self.naive.by_id(identity(number).public_key)
            assert self.index.look_up(id_of(number), self.now) == expected
        for name in NAMES:
            expected = self.naive.by_name(name)
            assert self.index.look_up(name_key(name), self.now) == expected


TestAgainstTheNaive = AgainstTheNaive.TestCase
TestAgainstTheNaive.settings = settings(max_examples=40, deadline=None)
