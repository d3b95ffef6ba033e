"""Who is at home with a supernode, and for how long."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.address import Address
from overlay.registry import LIFETIME_S, Registry
from tests.overlay.samples import NOW, identity, presence

LEAF = Address("203.0.113.1", 40_000)


@pytest.fixture
def registry() -> Registry:
    return Registry(registrations_max=3)


def test_a_leaf_is_found_by_identity_and_known_by_session(registry: Registry) -> None:
    assert registry.register(presence(1), None, LEAF, NOW) == LIFETIME_S
    found = registry.find(identity(1).public_key)
    assert found is not None
    assert (found.static, found.address) == (identity(1).dh_public, LEAF)
    assert registry.load == pytest.approx(1 / 3)


def test_one_more_than_the_limit_is_refused_but_nobody_who_is_here(
    registry: Registry,
) -> None:
    for number in (1, 2, 3):
        assert registry.register(presence(number), None, LEAF, NOW) == LIFETIME_S
    assert registry.register(presence(4), None, LEAF, NOW) is None
    assert registry.register(presence(2), None, LEAF, NOW) == LIFETIME_S
    assert (registry.refused, len(registry)) == (1, 3)
    assert registry.load == 1.0


def test_who_does_not_renew_is_forgotten(registry: Registry) -> None:
    registry.register(presence(1), None, LEAF, NOW)
    registry.register(presence(2), None, LEAF, NOW + 100)
    registry.register(presence(1), None, LEAF, NOW + 200)
    assert registry.next_timeout() == NOW + 100 + LIFETIME_S
    registry.handle_timeout(NOW + 100 + LIFETIME_S)
    assert [each.static for each in registry] == [identity(1).dh_public]
    registry.handle_timeout(NOW + 200 + LIFETIME_S)
    assert registry.next_timeout() == math.inf
    assert registry.find(identity(1).public_key) is None


def test_dropping_who_is_not_here_does_nothing(registry: Registry) -> None:
    registry.register(presence(1), None, LEAF, NOW)
    registry.drop(identity(2).dh_public)
    assert len(registry) == 1


@given(
    st.lists(
        st.tuples(st.sampled_from("rdt"), st.integers(1, 6), st.floats(0.0, 400.0))
    )
)
def test_both_tables_always_agree(steps: list[tuple[str, int, float]]) -> None:
    registry, now = Registry(registrations_max=3), NOW
    for step, number, seconds in steps:
        now += seconds
        registry.handle_timeout(now)
        assert registry.next_timeout() > now
        if step == "r":
            registry.register(presence(number), None, LEAF, now)
        elif step == "d":
            registry.drop(identity(number).dh_public)
        here = {each.static for each in registry}
        assert len(here) == len(registry) <= 3
        assert here == set(registry._identity_of)
        ends = [each.expires_at for each in registry]
        assert ends == sorted(ends)


def test_a_session_with_another_identity_leaves_the_first(registry: Registry) -> None:
    two = presence(2)
    as_one = msgspec.structs.replace(two, dh_public=identity(1).dh_public)
    registry.register(presence(1), None, LEAF, NOW)
    registry.register(as_one, None, LEAF, NOW)
    assert len(registry) == 1
    registry.handle_timeout(NOW + LIFETIME_S)
    assert len(registry) == 0
    assert registry.next_timeout() == math.inf
