"""The table of supernodes: its states, what it believes, its limits, and the ring."""

from __future__ import annotations

import pytest

from nat.address import Address
from overlay import roster as roster_module
from overlay.ask import Peer
from overlay.roster import (
    GRAVEYARD_S,
    Member,
    MemberJoined,
    MemberLost,
    MemberState,
    Roster,
)
from tests.overlay.samples import NOW, address, descriptor, identity, peer

SEQ = int(NOW)
ELSEWHERE = Address("203.0.113.9", 7000)
STATIC = identity(1).dh_public

HEARD_OF, ALIVE, DEAD, LEFT = MemberState


def roster_with(state: MemberState) -> tuple[Roster, Member]:
    """Give a roster that has member 1 in this state, its events drained."""
    roster = Roster(descriptor(0))
    member = roster.learn(descriptor(1), None, NOW)
    assert member is not None
    if state is ALIVE:
        roster.heard(STATIC, address(1), NOW)
    elif state is DEAD:
        roster.silent(peer(1), NOW)
    elif state is LEFT:
        roster.left(STATIC, NOW)
    assert member.state is state
    roster.events()
    return roster, member


def cause(roster: Roster, name: str) -> None:
    """Let one thing happen to member 1."""
    match name:
        case "heard":
            roster.heard(STATIC, address(1), NOW + 1)
        case "silent":
            roster.silent(peer(1), NOW + 1)
        case "left":
            roster.left(STATIC, NOW + 1)
        case "returned":
            assert roster.learn(descriptor(1, SEQ + 1), None, NOW + 1)
        case "moved":
            assert roster.learn(descriptor(1, SEQ + 1, at=ELSEWHERE), None, NOW + 1)


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("heard", (ALIVE, ALIVE, ALIVE, LEFT)),
        ("silent", (DEAD, DEAD, DEAD, LEFT)),
        ("left", (LEFT, LEFT, LEFT, LEFT)),
        ("returned", (HEARD_OF, ALIVE, HEARD_OF, HEARD_OF)),
        ("moved", (HEARD_OF, HEARD_OF, HEARD_OF, HEARD_OF)),
    ],
)
def test_every_state_moves_on_every_cause_as_the_table_says(
    name: str, after: tuple[MemberState, ...]
) -> None:
    for before, expected in zip(MemberState, after, strict=True):
        roster, member = roster_with(before)
        cause(roster, name)
        assert member.state is expected
        assert (member.static in roster.ring) == (expected is ALIVE)


@pytest.mark.parametrize("before", [HEARD_OF, DEAD])
def test_whoever_comes_alive_joins_the_ring(before: MemberState) -> None:
    roster, member = roster_with(before)
    cause(roster, "heard")
    assert roster.events() == [MemberJoined(member.descriptor)]
    assert roster.events() == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("silent", "it did not answer"),
        ("left", "it said goodbye"),
        ("moved", "it moved to another address or key"),
    ],
)
def test_whoever_is_lost_leaves_the_ring_with_the_reason(
    name: str, reason: str
) -> None:
    roster, _ = roster_with(ALIVE)
    cause(roster, name)
    assert roster.events() == [MemberLost(descriptor(1), reason)]


def test_we_are_on_our_own_ring() -> None:
    assert [seat.static for seat in Roster(descriptor(0)).ring] == [
        identity(0).dh_public
    ]


def test_a_packet_from_another_address_proves_nothing() -> None:
    roster, member = roster_with(HEARD_OF)
    roster.heard(STATIC, ELSEWHERE, NOW)
    assert member.state is HEARD_OF
    assert member.heard_at is None


def test_a_packet_from_a_stranger_is_nothing_to_us() -> None:
    roster = Roster(descriptor(0))
    roster.heard(STATIC, address(1), NOW)
    roster.silent(peer(1), NOW)
    roster.silent(Peer(address(1)), NOW)
    roster.left(STATIC, NOW)
    roster.measured(STATIC, 0.1, 0.5)
    assert len(roster) == 0


def test_silence_at_an_address_it_has_left_is_not_held_against_it() -> None:
    roster, member = roster_with(ALIVE)
    cause(roster, "moved")
    roster.silent(peer(1), NOW + 2)
    assert member.state is HEARD_OF


@pytest.mark.parametrize("incarnation", [SEQ - 1, SEQ])
def test_a_descriptor_of_no_higher_incarnation_is_no_news(incarnation: int) -> None:
    roster, member = roster_with(ALIVE)
    other = descriptor(1, incarnation, at=ELSEWHERE)
    assert roster.learn(other, None, NOW) is None
    assert member.descriptor == descriptor(1)


def test_a_changed_session_key_is_a_new_place_for_the_same_identity() -> None:
    roster, member = roster_with(ALIVE)
    changed = descriptor(1, SEQ + 1, dh_public=bytes(range(32)))
    assert roster.learn(changed, None, NOW) is member
    assert roster.find(STATIC) is None
    assert roster.find(bytes(range(32))) is member
    assert member.state is HEARD_OF


def test_the_session_key_of_another_cannot_be_claimed() -> None:
    roster, member = roster_with(ALIVE)
    thief = descriptor(2, dh_public=STATIC)
    assert roster.learn(thief, None, NOW) is None
    assert roster.learn(thief, identity(2).dh_public, NOW) is None
    assert roster.find(STATIC) is member
    assert roster.statistics().refused_key_taken == 2


def test_whoever_speaks_from_a_session_of_the_key_has_it() -> None:
    roster = Roster(descriptor(0))
    assert roster.learn(descriptor(2, dh_public=STATIC), None, NOW)
    assert roster.learn(descriptor(1), STATIC, NOW)
    found = roster.find(STATIC)
    assert found is not None
    assert found.descriptor == descriptor(1)
    assert len(roster) == 1


def test_nobody_claims_our_own_session_key() -> None:
    roster = Roster(descriptor(0))
    thief = descriptor(2, dh_public=identity(0).dh_public)
    assert roster.learn(thief, identity(0).dh_public, NOW) is None
    assert roster.statistics().refused_key_taken == 1


@pytest.mark.parametrize("issued", [SEQ - int(GRAVEYARD_S), SEQ + 86_400])
def test_a_descriptor_of_long_ago_or_of_the_far_future_is_refused(issued: int) -> None:
    roster = Roster(descriptor(0))
    assert roster.learn(descriptor(1, issued=issued), None, NOW) is None
    assert roster.statistics().refused_by_clock == 1


def test_a_full_table_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster_module, "MEMBERS_MAX", 3)
    roster = Roster(descriptor(0))
    assert roster.learn(descriptor(1), None, NOW)
    assert roster.learn(descriptor(2), None, NOW)
    assert roster.learn(descriptor(3), None, NOW) is None
    assert roster.learn(descriptor(2, SEQ + 1), None, NOW)
    assert roster.statistics().refused_full == 1


@pytest.mark.parametrize("state", [DEAD, LEFT])
def test_the_dead_are_remembered_for_a_day(state: MemberState) -> None:
    roster, _ = roster_with(state)
    roster.forget_long_dead(NOW + GRAVEYARD_S - 1)
    assert roster.find(STATIC) is not None
    roster.forget_long_dead(NOW + GRAVEYARD_S)
    assert roster.find(STATIC) is None
    assert roster.holder(descriptor(1).raw) is None


@pytest.mark.parametrize("state", [HEARD_OF, ALIVE])
def test_the_living_are_not_forgotten(state: MemberState) -> None:
    roster, _ = roster_with(state)
    roster.forget_long_dead(NOW + 10 * GRAVEYARD_S)
    assert roster.find(STATIC) is not None


def test_a_record_is_known_by_its_bytes_until_it_is_replaced() -> None:
    roster, member = roster_with(ALIVE)
    assert roster.holder(descriptor(1).raw) is member
    roster.learn(descriptor(1, SEQ + 1), None, NOW)
    assert roster.holder(descriptor(1).raw) is None
    assert roster.holder(descriptor(1, SEQ + 1).raw) is member


def test_round_trips_are_smoothed() -> None:
    roster, member = roster_with(ALIVE)
    roster.measured(STATIC, 0.08, 0.5)
    assert (member.rtt_s, member.load) == (0.08, 0.5)
    roster.measured(STATIC, 0.16, 0.6)
    assert member.rtt_s == pytest.approx(0.09)
    assert member.load == 0.6


def test_the_states_are_counted() -> None:
    roster = Roster(descriptor(0))
    for number in range(1, 5):
        roster.learn(descriptor(number), None, NOW)
    roster.heard(identity(1).dh_public, address(1), NOW)
    roster.silent(peer(2), NOW)
    roster.left(identity(3).dh_public, NOW)
    counts = roster.statistics()
    assert (counts.heard_of, counts.alive, counts.dead, counts.left) == (1, 1, 1, 1)
    assert len(roster.in_state(ALIVE)) == 1
    assert len(roster.members()) == 4
