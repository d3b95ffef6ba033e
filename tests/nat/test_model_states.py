"""The NAT model under any sequence of calls, against an oracle with no tables.

The oracle remembers every outbound datagram and decides from that history alone, by the
words of RFC 4787: it knows nothing of keys, order or forgetting.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from nat.address import Address
from nat.model import AllocationRule, Behaviour, FilteringRule, MappingRule, Nat

TIMEOUT_S = 8.0
HOSTS = ["198.51.100.1", "198.51.100.2"]

insides = st.builds(
    Address, st.sampled_from(["10.0.0.2", "10.0.0.3"]), st.sampled_from([5000, 5001])
)
remotes = st.builds(
    Address,
    st.sampled_from(["203.0.113.1", "203.0.113.2", HOSTS[0]]),
    st.sampled_from([5000, 7001]),
)


@dataclass
class Sent:
    """One outbound datagram of the past, with the instant it was last refreshed."""

    source: Address
    target: Address
    external: Address
    refreshed_at: float


class NatAgainstOracle(RuleBasedStateMachine):
    @initialize(
        mapping=st.sampled_from(MappingRule),
        filtering=st.sampled_from(FilteringRule),
        allocation=st.sampled_from(AllocationRule),
        hairpin=st.booleans(),
        inbound_refreshes=st.booleans(),
        paired=st.booleans(),
    )
    def power_up(
        self,
        mapping: MappingRule,
        filtering: FilteringRule,
        allocation: AllocationRule,
        hairpin: bool,
        inbound_refreshes: bool,
        paired: bool,
    ) -> None:
        self.behaviour = Behaviour(
            mapping,
            filtering,
            allocation,
            timeout_s=TIMEOUT_S,
            hairpin=hairpin,
            inbound_refreshes=inbound_refreshes,
            paired=paired,
        )
        self.nat = Nat(self.behaviour, HOSTS, random.Random(1).randbytes)
        self.now = 0.0
        self.history: list[Sent] = []
        self.ever_given: list[Address] = [Address(HOSTS[0], 5000)]
        self.given_before_rebind: set[Address] = set()

    @rule(source=insides, remote=remotes)
    def send_out(self, source: Address, remote: Address) -> None:
        external = self.nat.outbound(source, remote, self.now)
        assert external is not None
        assert external.host in HOSTS
        kept = {
            sent.external
            for sent in self.living()
            if sent.source == source and self.shares_mapping(sent.target, remote)
        }
        assert len(kept) <= 1
        if kept:
            assert external in kept
        else:
            assert external not in {sent.external for sent in self.living()}
            assert external not in self.given_before_rebind
        self.ever_given.append(external)
        self.history.append(Sent(source, remote, external, self.now))

    @rule(source=remotes, choice=st.integers(min_value=0))
    def send_in(self, source: Address, choice: int) -> None:
        target = self.ever_given[choice % len(self.ever_given)]
        reached = self.nat.inbound(source, target, self.now)
        let_in_by = [
            sent
            for sent in self.living()
            if sent.external == target and self.permits(sent.target, source)
        ]
        if source.host in HOSTS and not self.behaviour.hairpin:
            let_in_by = []
        assert reached == (let_in_by[0].source if let_in_by else None)
        if let_in_by and self.behaviour.inbound_refreshes:
            for sent in let_in_by:
                sent.refreshed_at = self.now

    @rule(pause_s=st.sampled_from([0.5, TIMEOUT_S / 2, TIMEOUT_S - 0.5, TIMEOUT_S]))
    def wait(self, pause_s: float) -> None:
        self.now += pause_s

    @rule()
    def rebind(self) -> None:
        self.nat.rebind()
        self.given_before_rebind = {sent.external for sent in self.living()}
        self.history.clear()

    @invariant()
    def nobody_shares_an_external_endpoint(self) -> None:
        holders: dict[Address, Address] = {}
        for sent in self.living():
            assert holders.setdefault(sent.external, sent.source) == sent.source

    @invariant()
    def the_tables_hold_no_more_than_was_sent(self) -> None:
        statistics = self.nat.statistics()
        assert statistics.mappings <= len(self.history)
        assert statistics.permissions <= len(self.history)

    def living(self) -> list[Sent]:
        return [
            sent for sent in self.history if self.now < sent.refreshed_at + TIMEOUT_S
        ]

    def shares_mapping(self, one: Address, other: Address) -> bool:
        match self.behaviour.mapping:
            case MappingRule.ENDPOINT_INDEPENDENT:
                return True
            case MappingRule.ADDRESS_DEPENDENT:
                return one.host == other.host
            case MappingRule.ADDRESS_AND_PORT_DEPENDENT:
                return one == other

    def permits(self, sent_to: Address, source: Address) -> bool:
        match self.behaviour.filtering:
            case FilteringRule.ENDPOINT_INDEPENDENT:
                return True
            case FilteringRule.ADDRESS_DEPENDENT:
                return sent_to.host == source.host
            case FilteringRule.ADDRESS_AND_PORT_DEPENDENT:
                return sent_to == source


NatAgainstOracle.TestCase.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None
)
TestNatAgreesWithHistory = NatAgainstOracle.TestCase
