"""Deadlines by key: the earliest first, changed cheaply."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from overlay.deadlines import Deadlines


def test_nothing_is_due_where_nothing_was_set() -> None:
    deadlines = Deadlines[str]()
    assert deadlines.next_at() == math.inf
    assert deadlines.pop_due(1e12) == []


def test_what_is_due_comes_earliest_first_and_once() -> None:
    deadlines = Deadlines[str]()
    for key, at in (("c", 3.0), ("a", 1.0), ("d", 9.0), ("b", 2.0)):
        deadlines.set(key, at)
    assert deadlines.pop_due(3.0) == ["a", "b", "c"]
    assert deadlines.pop_due(3.0) == []
    assert deadlines.next_at() == 9.0


def test_a_deadline_that_was_moved_away_and_back_counts_once() -> None:
    deadlines = Deadlines[str]()
    for at in (5.0, 7.0, 5.0):
        deadlines.set("a", at)
    assert deadlines.pop_due(6.0) == ["a"]
    assert deadlines.pop_due(8.0) == []


def test_infinity_takes_a_deadline_away() -> None:
    deadlines = Deadlines[str]()
    deadlines.set("a", 1.0)
    deadlines.set("a", math.inf)
    assert deadlines.next_at() == math.inf
    assert deadlines.pop_due(2.0) == []


def test_keys_that_cannot_be_compared_may_share_an_instant() -> None:
    deadlines = Deadlines[object]()
    first, second = object(), ("a", b"b")
    deadlines.set(first, 1.0)
    deadlines.set(second, 1.0)
    assert deadlines.pop_due(1.0) == [first, second]


def test_a_deadline_put_off_ten_thousand_times_takes_no_room() -> None:
    deadlines = Deadlines[str]()
    for at in range(10_000):
        deadlines.set("a", float(at))
    assert len(deadlines._heap) < 20
    assert deadlines.pop_due(10_000.0) == ["a"]


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.one_of(st.just(math.inf), st.floats(0.0, 10.0)))
    )
)
def test_it_does_what_a_plain_table_does(changes: list[tuple[int, float]]) -> None:
    deadlines = Deadlines[int]()
    table: dict[int, float] = {}
    for key, at in changes:
        deadlines.set(key, at)
        table[key] = at
        assert deadlines.next_at() == min(table.values())
    due = deadlines.pop_due(5.0)
    assert sorted(due) == sorted(key for key, at in table.items() if at <= 5.0)
    assert [table[key] for key in due] == sorted(table[key] for key in due)
