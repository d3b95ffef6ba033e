"""The ring: positions, owners, pages and shares."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nat.address import Address
from overlay import ring as ring_module
from overlay.messages import OWNERS_MAX
from overlay.ring import Ring, Seat, position
from tests.overlay.samples import address, descriptor, identity, randomness

START = bytes(8)


def seat(number: int, at: Address | None = None) -> Seat:
    """Give a seat whose keys are made up: rings do not look at signatures."""
    key = hashlib.blake2b(number.to_bytes(4, "big"), digest_size=32).digest()
    where = at or address(number)
    return Seat(position(where, key), key, where)


def ring_of(*seats: Seat) -> Ring:
    ring = Ring()
    for each in seats:
        assert ring.add(each)
    return ring


def some_keys(count: int, seed: int = 1) -> list[bytes]:
    draw = randomness(seed)
    return [draw(8) for _ in range(count)]


def test_the_position_of_a_supernode_is_frozen() -> None:
    ipv4 = position(Address("192.0.2.1", 7000), identity(1).public_key)
    ipv6 = position(Address("2001:db8::1", 7000), identity(1).public_key)
    assert (ipv4.hex(), ipv6.hex()) == ("a38fae7dd4e05ca9", "798e0d33dde05ca9")


def test_a_position_depends_on_the_prefix_and_not_on_host_or_port() -> None:
    key = identity(1).public_key
    here = position(Address("192.0.2.1", 7000), key)
    assert position(Address("192.0.2.200", 9), key) == here
    assert position(Address("192.0.3.1", 7000), key) != here


def test_whoever_makes_keys_gets_only_eight_places_in_one_prefix() -> None:
    at = Address("192.0.2.1", 7000)
    places = {seat(number, at).position[:6] for number in range(200)}
    assert len(places) == 8


def test_members_of_one_place_have_positions_of_their_own() -> None:
    at = Address("192.0.2.1", 7000)
    assert len({seat(number, at).position for number in range(50)}) == 50


def test_the_seat_of_a_descriptor_is_where_its_address_says() -> None:
    of_one = Seat.of(descriptor(1))
    assert of_one.position == position(address(1), identity(1).public_key)
    assert of_one.peer.address == of_one.contact.address == address(1)
    assert of_one.peer.static == of_one.contact.static == identity(1).dh_public


@pytest.mark.parametrize("members", range(1, OWNERS_MAX + 1))
def test_eight_or_fewer_own_everything(members: int) -> None:
    seats = [seat(number) for number in range(members)]
    ring = ring_of(*seats)
    for key in some_keys(20):
        assert set(ring.owners(key)) == set(seats)
    assert ring.share(seats[0].static) == 1.0


def test_an_empty_ring_has_no_owners() -> None:
    assert Ring().owners(START) == ()
    assert Ring().page(START, 5) == ((), b"")


def test_owners_are_the_first_at_or_after_the_key_going_round() -> None:
    ring = ring_of(*(seat(number) for number in range(20)))
    in_order = list(ring)
    assert [each.position for each in in_order] == sorted(
        each.position for each in in_order
    )
    for index, each in enumerate(in_order):
        following = (in_order + in_order)[index : index + OWNERS_MAX]
        assert ring.owners(each.position) == tuple(following)
    assert ring.owners(b"\xff" * 8) == tuple(in_order[:OWNERS_MAX])


def test_owners_are_of_different_networks_where_there_are_enough() -> None:
    hosts = [f"20.{network}.{host}.1" for network in range(10) for host in range(6)]
    ring = ring_of(*(seat(n, Address(host, 7)) for n, host in enumerate(hosts)))
    for key in some_keys(100):
        networks = {owner.address.prefix(16, 32) for owner in ring.owners(key)}
        assert len(networks) == OWNERS_MAX


def test_ipv6_networks_are_told_apart_by_their_first_32_bits() -> None:
    hosts = [f"2001:{net:x}:{sub:x}::1" for net in range(1, 10) for sub in range(6)]
    ring = ring_of(*(seat(n, Address(host, 7)) for n, host in enumerate(hosts)))
    for key in some_keys(50):
        networks = {owner.address.prefix(16, 32) for owner in ring.owners(key)}
        assert len(networks) == OWNERS_MAX


def test_in_one_network_the_nearest_own_a_key_all_the_same() -> None:
    ring = ring_of(*(seat(n, Address(f"10.0.{n}.1", 7)) for n in range(30)))
    in_order = list(ring)
    assert ring.owners(START) == tuple(in_order[:OWNERS_MAX])


def test_among_few_networks_each_is_taken_before_one_is_taken_twice() -> None:
    hosts = [f"20.{number % 3}.{number}.1" for number in range(30)]
    ring = ring_of(*(seat(n, Address(host, 7)) for n, host in enumerate(hosts)))
    for key in some_keys(50):
        owners = ring.owners(key)
        assert len(set(owners)) == OWNERS_MAX
        assert len({owner.address.prefix(16, 32) for owner in owners[:3]}) == 3


def test_of_twelve_each_owns_about_two_thirds() -> None:
    seats = [seat(number) for number in range(12)]
    ring = ring_of(*seats)
    shares = [ring.share(each.static) for each in seats]
    assert sum(shares) == pytest.approx(OWNERS_MAX)
    assert all(0.3 < share <= 1 for share in shares)
    assert sum(0.45 < share < 0.9 for share in shares) >= 10


def test_a_share_is_the_part_of_random_keys_that_are_owned() -> None:
    hosts = [f"20.{number % 9}.{number}.1" for number in range(40)]
    seats = [seat(n, Address(host, 7)) for n, host in enumerate(hosts)]
    ring = ring_of(*seats)
    keys = some_keys(4_000)
    for each in seats[:10]:
        owned = sum(each in ring.owners(key) for key in keys) / len(keys)
        assert ring.share(each.static) == pytest.approx(owned, abs=0.03)


def test_who_is_not_on_the_ring_owns_nothing() -> None:
    assert ring_of(seat(1)).share(seat(2).static) == 0.0


def test_views_that_differ_by_three_members_differ_by_three_owners_at_most() -> None:
    seats = [seat(number) for number in range(300)]
    ours, theirs = ring_of(*seats), ring_of(*seats[:-3])
    for key in some_keys(300):
        assert len(set(ours.owners(key)) - set(theirs.owners(key))) <= 3


def test_adding_again_moves_a_member() -> None:
    ring = ring_of(seat(1))
    moved = Seat(bytes(8), seat(1).static, address(9))
    assert ring.add(moved)
    assert list(ring) == [moved]


def test_removing_who_is_not_there_changes_nothing() -> None:
    ring = ring_of(seat(1))
    ring.remove(seat(2).static)
    assert len(ring) == 1
    assert seat(1).static in ring
    assert seat(2).static not in ring


def test_a_full_ring_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "MEMBERS_MAX", 3)
    ring = ring_of(seat(1), seat(2), seat(3))
    assert not ring.add(seat(4))
    assert ring.add(seat(3))
    assert len(ring) == 3


@pytest.mark.parametrize("members", [1, 4, 5, 6, 23, 50])
def test_pages_together_hold_every_member_once(members: int) -> None:
    ring = ring_of(*(seat(n, Address("127.0.0.1", n)) for n in range(members)))
    paged: list[Seat] = []
    start = START
    while True:
        page, start = ring.page(start, 5)
        paged += page
        if not start:
            break
    assert paged == list(ring)


def test_pages_go_on_past_a_crowd_at_one_position() -> None:
    crowd = [Seat(START, bytes((n,)) * 32, address(n)) for n in range(12)]
    ring = ring_of(*crowd, seat(1))
    page, start = ring.page(START, 5)
    assert page == tuple(list(ring)[:5])
    assert ring.page(start, 5) == ((seat(1),), b"")


def test_pages_end_after_a_crowd_at_the_last_position() -> None:
    end = b"\xff" * 8
    ring = ring_of(*(Seat(end, bytes((n,)) * 32, address(n)) for n in range(12)))
    assert ring.page(end, 5)[1] == b""


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=80))
def test_any_order_of_joining_and_leaving_gives_the_same_ring(
    changes: list[tuple[bool, int]],
) -> None:
    ring = Ring()
    present: set[int] = set()
    for joins, number in changes:
        if joins:
            ring.add(seat(number))
            present.add(number)
        else:
            ring.remove(seat(number).static)
            present.discard(number)
    assert list(ring) == list(ring_of(*(seat(number) for number in present)))
    assert all(a.position < b.position for a, b in pairwise(ring))
