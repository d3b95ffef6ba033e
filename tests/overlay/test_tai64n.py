"""Timestamps that sort by their bytes, and the table of the greatest of each key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.errors import WireError
from overlay.tai64n import GreatestTimestamps, decode, encode

instants = st.floats(0, 2**40)


@pytest.mark.parametrize(
    ("now", "packed"),
    [
        (0.0, "400000000000000a00000000"),
        (1.5, "400000000000000b1dcd6500"),
        (1_700_000_000.25, "400000006553f10a0ee6b280"),
    ],
)
def test_an_instant_has_the_frozen_bytes(now: float, packed: str) -> None:
    assert encode(now).hex() == packed
    assert decode(bytes.fromhex(packed)) == now


@given(earlier=instants, later=instants)
def test_bytes_sort_as_instants_do(earlier: float, later: float) -> None:
    earlier, later = sorted((earlier, later))
    assert encode(earlier) <= encode(later)
    if later - earlier > 1e-9 and int(earlier) != int(later):
        assert encode(earlier) < encode(later)


@given(now=instants)
def test_an_instant_comes_back_within_a_microsecond(now: float) -> None:
    assert decode(encode(now)) == pytest.approx(now, rel=1e-15, abs=1e-6)


@pytest.mark.parametrize("now", [-1.0, -1e-9, float("inf"), float("nan"), 2.0**62])
def test_an_instant_outside_the_range_is_refused(now: float) -> None:
    with pytest.raises(ValueError, match="since the Unix epoch"):
        encode(now)


@pytest.mark.parametrize(
    "packed",
    [
        "",
        "400000000000000a000000",
        "400000000000000a0000000000",
        "400000000000000900000000",
        "400000000000000a3b9aca00",
        "800000000000000000000000",
        "ffffffffffffffffffffffff",
    ],
    ids=["empty", "short", "long", "1969", "nanoseconds", "reserved", "ones"],
)
def test_what_is_no_timestamp_is_refused(packed: str) -> None:
    with pytest.raises(WireError):
        decode(bytes.fromhex(packed))


@given(packed=st.binary(min_size=12, max_size=12))
def test_garbage_is_refused_or_comes_back_sorted(packed: bytes) -> None:
    try:
        now = decode(packed)
    except WireError:
        return
    assert 0 <= now <= 2.0**62


def test_only_a_greater_timestamp_is_accepted() -> None:
    greatest = GreatestTimestamps()
    assert greatest.accept(b"alice", encode(5.0))
    assert not greatest.accept(b"alice", encode(5.0))
    assert not greatest.accept(b"alice", encode(4.0))
    assert greatest.accept(b"bob", encode(4.0))
    assert greatest.accept(b"alice", encode(5.5))
    assert not greatest.accept(b"alice", encode(5.25))
    assert greatest.refused == 3


def test_the_key_silent_for_longest_is_forgotten_first() -> None:
    greatest = GreatestTimestamps(keys_max=2)
    greatest.accept(b"alice", encode(1.0))
    greatest.accept(b"bob", encode(1.0))
    greatest.accept(b"alice", encode(2.0))
    greatest.accept(b"carol", encode(1.0))
    assert (len(greatest), greatest.forgotten) == (2, 1)
    assert not greatest.accept(b"alice", encode(2.0))
    assert not greatest.accept(b"bob", encode(1.0))  # perhaps what was forgotten
    assert greatest.accept(b"bob", encode(1.5))


def test_nothing_older_than_the_floor_is_taken() -> None:
    greatest = GreatestTimestamps(floor=encode(5.0))
    assert not greatest.accept(b"alice", encode(5.0))
    assert greatest.accept(b"alice", encode(6.0))


def test_a_recording_does_not_keep_its_key_remembered() -> None:
    greatest = GreatestTimestamps(keys_max=2)
    greatest.accept(b"alice", encode(1.0))
    greatest.accept(b"bob", encode(1.0))
    greatest.accept(b"alice", encode(1.0))
    greatest.accept(b"carol", encode(1.0))
    assert greatest.accept(b"alice", encode(1.5))
