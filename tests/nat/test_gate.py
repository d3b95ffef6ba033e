"""The gate: never more out than in, whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nat import gate
from nat.address import Address
from nat.gate import Gate

PEER = Address("192.0.2.1", 1_000)
OTHER = Address("192.0.2.1", 1_001)
NOW = 1_700_000_000.0


def test_a_stranger_gets_nothing() -> None:
    stranger = Gate()
    assert not stranger.allows(PEER, 1, NOW)
    assert stranger.statistics().refused == 1
    assert stranger.statistics().refused_bytes == 1


def test_a_stranger_gets_as_many_bytes_as_it_sent() -> None:
    one = Gate()
    one.heard(PEER, 512, NOW)
    assert one.allows(PEER, 500, NOW)
    assert not one.allows(PEER, 13, NOW)
    assert one.allows(PEER, 12, NOW)
    assert not one.allows(PEER, 1, NOW)


def test_what_one_port_sent_is_no_credit_for_another() -> None:
    one = Gate()
    one.heard(PEER, 512, NOW)
    assert not one.allows(OTHER, 1, NOW)


def test_a_validated_address_gets_everything_for_180_s_after_its_last_proof() -> None:
    one = Gate()
    one.validate(PEER, NOW)
    one.validate(PEER, NOW + 179)
    one.heard(PEER, 1, NOW + 300)  # anybody could have sent that
    assert one.allows(PEER, 10**6, NOW + 179 + 179)
    assert not one.allows(PEER, 1, NOW + 179 + 180)
    assert one.statistics().validated == 0


def test_an_address_whose_validation_expired_is_a_stranger_without_credit() -> None:
    one = Gate()
    one.heard(PEER, 1_000, NOW)
    one.validate(PEER, NOW)
    one.heard(PEER, 10, NOW + 181)
    assert one.allows(PEER, 10, NOW + 181)
    assert not one.allows(PEER, 1, NOW + 181)


def test_what_we_begin_is_granted_up_to_a_limit_a_minute() -> None:
    one = Gate()
    one.grant(PEER, gate.GRANTED_BYTES_MAX + 1, NOW)
    assert one.statistics().grants_clipped == 1
    assert one.allows(PEER, gate.GRANTED_BYTES_MAX, NOW)
    one.grant(PEER, 100, NOW + 59.9)
    assert not one.allows(PEER, 1, NOW + 59.9)
    one.grant(PEER, 100, NOW + 60)
    assert one.allows(PEER, 100, NOW + 60)


def test_a_grant_to_a_validated_address_leaves_nothing_behind() -> None:
    one = Gate()
    one.validate(PEER, NOW)
    one.grant(PEER, 1_000, NOW)
    assert not one.allows(PEER, 1, NOW + 180)


def test_credit_cannot_be_saved_up_without_end() -> None:
    one = Gate()
    for _ in range(100):
        one.heard(PEER, 1_200, NOW)
    assert not one.allows(PEER, gate.CREDIT_BYTES_MAX + 1, NOW)
    assert one.allows(PEER, gate.CREDIT_BYTES_MAX, NOW)


def test_a_flood_of_forged_sources_pushes_out_strangers_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "STRANGERS_MAX", 100)
    one = Gate()
    one.validate(PEER, NOW)
    one.heard(OTHER, 1_000, NOW)
    for port in range(2_000, 2_150):
        one.heard(Address("198.51.100.1", port), 1_000, NOW)
    assert one.allows(PEER, 1_200, NOW)
    assert not one.allows(OTHER, 1_000, NOW)
    assert one.statistics().strangers == 100
    assert one.statistics().strangers_dropped == 51


def test_the_longest_idle_validated_address_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "VALIDATED_MAX", 2)
    one = Gate()
    third = Address("192.0.2.1", 1_002)
    one.validate(PEER, NOW)
    one.validate(OTHER, NOW)
    one.validate(PEER, NOW)
    one.validate(third, NOW)
    assert [one.allows(each, 1, NOW) for each in (PEER, OTHER, third)] == [
        True,
        False,
        True,
    ]
    assert one.statistics().validated_dropped == 1


ADDRESSES = [Address("192.0.2.1", port) for port in range(1_000, 1_008)]
addresses = st.sampled_from(ADDRESSES)
sizes = st.integers(0, 20_000)


class Amplification(RuleBasedStateMachine):
    """To an address that is not validated: bytes out <= bytes in + bounded grants."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.now = NOW
        self.earned = dict.fromkeys(ADDRESSES, 0)
        self.granted = dict.fromkeys(ADDRESSES, 0)
        self.sent = dict.fromkeys(ADDRESSES, 0)
        self.validated_until = dict.fromkeys(ADDRESSES, 0.0)

    @rule(source=addresses, size=sizes)
    def hear(self, source: Address, size: int) -> None:
        self.gate.heard(source, size, self.now)
        if self.now >= self.validated_until[source]:
            self.earned[source] += size

    @rule(address=addresses, size=sizes)
    def grant(self, address: Address, size: int) -> None:
        self.gate.grant(address, size, self.now)
        self.granted[address] += size

    @rule(address=addresses)
    def validate(self, address: Address) -> None:
        self.gate.validate(address, self.now)
        self.validated_until[address] = self.now + gate.VALIDATION_S

    @rule(address=addresses, size=sizes)
    def send(self, address: Address, size: int) -> None:
        allowed = self.gate.allows(address, size, self.now)
        if self.now < self.validated_until[address]:
            assert allowed
        elif allowed:
            self.sent[address] += size

    @rule(duration_s=st.sampled_from([0.0, 1.0, 59.0, 60.0, 179.0, 180.0]))
    def wait(self, duration_s: float) -> None:
        self.now += duration_s

    @invariant()
    def no_more_goes_out_than_was_earned(self) -> None:
        periods = 1 + (self.now - NOW) // gate.GRANT_PERIOD_S
        for address in ADDRESSES:
            grants = min(self.granted[address], periods * gate.GRANTED_BYTES_MAX)
            assert self.sent[address] <= self.earned[address] + grants


AmplificationTest = Amplification.TestCase
AmplificationTest.settings = settings(deadline=None)
