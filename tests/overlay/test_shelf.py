"""A bounded table whose entries expire."""

from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from overlay.shelf import Shelf


def test_an_entry_is_over_at_its_instant_even_before_it_is_dropped() -> None:
    shelf: Shelf[str, int] = Shelf(2)
    assert shelf.put("a", 1, 10.0)
    assert shelf.get("a", 9.9) == 1
    assert shelf.get("a", 10.0) is None
    assert len(shelf) == 1


def test_what_expired_is_given_back_once() -> None:
    shelf: Shelf[str, int] = Shelf(2)
    shelf.put("a", 1, 10.0)
    assert shelf.expire(9.9) == []
    assert shelf.expire(10.0) == [("a", 1)]
    assert shelf.expire(10.0) == []
    assert shelf.next_expiry() == math.inf


def test_a_full_shelf_replaces_but_takes_no_more() -> None:
    shelf: Shelf[str, int] = Shelf(1)
    assert shelf.put("a", 1, 10.0)
    assert shelf.put("a", 2, 20.0)
    assert not shelf.put("b", 3, 10.0)
    assert shelf.expire(10.0) == []
    assert shelf.get("a", 10.0) == 2


class AgainstADictionary(RuleBasedStateMachine):
    """A shelf beside a plain dictionary of the same entries."""

    LIMIT = 4

    def __init__(self) -> None:
        super().__init__()
        self.shelf: Shelf[int, int] = Shelf(self.LIMIT)
        self.model: dict[int, tuple[int, float]] = {}
        self.now = 0.0

    @rule(key=st.integers(0, 6), value=st.integers(), for_s=st.integers(1, 5))
    def put(self, key: int, value: int, for_s: int) -> None:
        fits = key in self.model or len(self.model) < self.LIMIT
        assert self.shelf.put(key, value, self.now + for_s) == fits
        if fits:
            self.model[key] = (value, self.now + for_s)

    @rule(by_s=st.integers(0, 3))
    def go_on(self, by_s: int) -> None:
        self.now += by_s

    @rule()
    def expire(self) -> None:
        over = {key for key, (_, at) in self.model.items() if self.now >= at}
        assert {key for key, _ in self.shelf.expire(self.now)} == over
        self.model = {key: self.model[key] for key in self.model.keys() - over}
        assert self.shelf.next_expiry() > self.now

    @invariant()
    def they_agree(self) -> None:
        assert set(self.shelf) == set(self.model)
        for key, (value, at) in self.model.items():
            expected = value if self.now < at else None
            assert self.shelf.get(key, self.now) == expected
        first = min((at for _, at in self.model.values()), default=math.inf)
        assert self.shelf.next_expiry() == first


TestAgainstADictionary = AgainstADictionary.TestCase
