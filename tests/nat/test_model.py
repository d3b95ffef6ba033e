"""The NAT model against RFC 4787, cell by cell."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from nat.address import Address
from nat.model import (
    BEHAVIOURS,
    MAPPINGS_MAX,
    PERMISSIONS_MAX,
    PORT_MIN,
    AllocationRule,
    Behaviour,
    FilteringRule,
    MappingRule,
    Nat,
)

INSIDE = Address("192.168.1.2", 5000)
NEIGHBOUR = Address("192.168.1.3", 6000)
WAN = "198.51.100.1"
PEER = Address("203.0.113.1", 7000)
REMOTES = {
    "same endpoint": PEER,
    "other port": Address(PEER.host, 7001),
    "other host": Address("203.0.113.2", PEER.port),
}

# RFC 4787 §4.1: does the internal endpoint keep its external one for this new target?
KEEPS_ENDPOINT = {
    MappingRule.ENDPOINT_INDEPENDENT: {"same endpoint", "other port", "other host"},
    MappingRule.ADDRESS_DEPENDENT: {"same endpoint", "other port"},
    MappingRule.ADDRESS_AND_PORT_DEPENDENT: {"same endpoint"},
}
# RFC 4787 §5: who may send in, once the internal endpoint has sent to PEER?
MAY_SEND_IN = {
    FilteringRule.ENDPOINT_INDEPENDENT: {"same endpoint", "other port", "other host"},
    FilteringRule.ADDRESS_DEPENDENT: {"same endpoint", "other port"},
    FilteringRule.ADDRESS_AND_PORT_DEPENDENT: {"same endpoint"},
}

CELLS = [
    Behaviour(mapping, filtering, allocation, step=3, hairpin=hairpin)
    for mapping, filtering, allocation, hairpin in itertools.product(
        MappingRule, FilteringRule, AllocationRule, (False, True)
    )
]


def cell_name(behaviour: Behaviour) -> str:
    hairpin = "hairpin" if behaviour.hairpin else "straight"
    rules = (behaviour.mapping, behaviour.filtering, behaviour.allocation)
    return "-".join([*(rule.value for rule in rules), hairpin])


every_cell = pytest.mark.parametrize("behaviour", CELLS, ids=cell_name)
every_remote = pytest.mark.parametrize("remote", REMOTES)


def nat_of(behaviour: Behaviour, hosts: Sequence[str] = (WAN,), seed: int = 1) -> Nat:
    return Nat(behaviour, hosts, random.Random(seed).randbytes)


def opened(nat: Nat, source: Address, target: Address, now: float = 0.0) -> Address:
    """Send out, and give the external endpoint that this must have got."""
    external = nat.outbound(source, target, now)
    assert external is not None
    return external


@every_cell
@every_remote
def test_a_new_target_keeps_the_external_endpoint_as_the_mapping_rule_says(
    behaviour: Behaviour, remote: str
) -> None:
    nat = nat_of(behaviour)
    first = opened(nat, INSIDE, PEER)
    second = opened(nat, INSIDE, REMOTES[remote])
    assert (first == second) == (remote in KEEPS_ENDPOINT[behaviour.mapping])


@every_cell
@every_remote
def test_a_remote_may_send_in_as_the_filtering_rule_says(
    behaviour: Behaviour, remote: str
) -> None:
    nat = nat_of(behaviour)
    external = opened(nat, INSIDE, PEER)
    expected = INSIDE if remote in MAY_SEND_IN[behaviour.filtering] else None
    assert nat.inbound(REMOTES[remote], external, 0.0) == expected
    assert nat.statistics().filtered == (expected is None)


@every_cell
def test_every_target_that_was_sent_to_may_answer_to_the_endpoint_it_saw(
    behaviour: Behaviour,
) -> None:
    nat = nat_of(behaviour)
    seen = {target: opened(nat, INSIDE, target) for target in REMOTES.values()}
    for target, external in seen.items():
        assert nat.inbound(target, external, 0.0) == INSIDE


@every_cell
def test_a_new_mapping_gets_the_port_that_the_allocation_rule_says(
    behaviour: Behaviour,
) -> None:
    nat = nat_of(behaviour)
    first = opened(nat, INSIDE, PEER)
    second = opened(nat, NEIGHBOUR, PEER)
    assert first.host == second.host == WAN
    match behaviour.allocation:
        case AllocationRule.PRESERVING:
            assert (first.port, second.port) == (INSIDE.port, NEIGHBOUR.port)
        case AllocationRule.SEQUENTIAL:
            assert second.port - first.port == 3
        case AllocationRule.RANDOM:
            ports = {first.port, second.port}
            assert not ports & {INSIDE.port, NEIGHBOUR.port, first.port + 1}


@every_cell
def test_one_internal_host_reaches_another_by_hairpin_only_where_the_nat_does_it(
    behaviour: Behaviour,
) -> None:
    nat = nat_of(behaviour)
    ours = opened(nat, INSIDE, PEER)
    theirs = opened(nat, NEIGHBOUR, ours)
    ours_to_them = opened(nat, INSIDE, theirs)
    assert (ours_to_them == ours) == (
        behaviour.mapping is MappingRule.ENDPOINT_INDEPENDENT
    )
    # The neighbour has sent to `ours`; what we send it comes from `ours_to_them`.
    known = ours_to_them == ours or "other port" in MAY_SEND_IN[behaviour.filtering]
    reached = nat.inbound(ours_to_them, theirs, 0.0)
    assert reached == (NEIGHBOUR if behaviour.hairpin and known else None)
    assert nat.statistics().hairpins_refused == (known and not behaviour.hairpin)


@every_cell
def test_nobody_can_send_to_an_endpoint_that_nobody_holds(behaviour: Behaviour) -> None:
    nat = nat_of(behaviour)
    external = opened(nat, INSIDE, PEER)
    for unheld in (Address(WAN, external.port ^ 1), Address("198.51.100.2", 1)):
        assert nat.inbound(PEER, unheld, 0.0) is None
    assert nat.statistics().unmapped == 2


@every_cell
def test_a_mapping_ends_its_timeout_after_the_last_outbound_datagram(
    behaviour: Behaviour,
) -> None:
    nat = nat_of(behaviour)
    external = opened(nat, INSIDE, PEER, 0.0)
    assert opened(nat, INSIDE, PEER, 100.0) == external
    assert nat.inbound(PEER, external, 219.999) == INSIDE
    assert nat.inbound(PEER, external, 220.0) is None
    assert nat.statistics().mappings == nat.statistics().permissions == 0


@pytest.mark.parametrize("inbound_refreshes", [False, True])
def test_inbound_datagrams_keep_a_mapping_alive_only_where_they_refresh(
    inbound_refreshes: bool,
) -> None:
    rules = MappingRule.ENDPOINT_INDEPENDENT, FilteringRule.ADDRESS_AND_PORT_DEPENDENT
    nat = nat_of(Behaviour(*rules, inbound_refreshes=inbound_refreshes))
    external = opened(nat, INSIDE, PEER, 0.0)
    assert nat.inbound(PEER, external, 100.0) == INSIDE
    reached = nat.inbound(PEER, external, 200.0)
    assert reached == (INSIDE if inbound_refreshes else None)


def test_a_filtered_datagram_refreshes_nothing() -> None:
    rules = MappingRule.ENDPOINT_INDEPENDENT, FilteringRule.ADDRESS_AND_PORT_DEPENDENT
    nat = nat_of(Behaviour(*rules, inbound_refreshes=True))
    external = opened(nat, INSIDE, PEER, 0.0)
    assert nat.inbound(REMOTES["other host"], external, 100.0) is None
    assert nat.inbound(PEER, external, 120.0) is None


def test_a_permission_lapses_though_traffic_elsewhere_keeps_the_mapping() -> None:
    nat = nat_of(BEHAVIOURS["port-restricted"])
    external = opened(nat, INSIDE, PEER, 0.0)
    assert opened(nat, INSIDE, REMOTES["other host"], 60.0) == external
    assert nat.inbound(PEER, external, 119.0) == INSIDE
    assert nat.inbound(PEER, external, 120.0) is None
    assert nat.inbound(REMOTES["other host"], external, 120.0) == INSIDE


def test_preserving_allocation_takes_the_next_free_port_on_a_collision() -> None:
    nat = nat_of(BEHAVIOURS["home"])
    ports = [
        opened(nat, Address(f"192.168.1.{host}", 5000), PEER).port
        for host in (2, 3, 4, 3)
    ]
    assert ports == [5000, 5001, 5002, 5001]


def test_preserving_allocation_gives_a_port_back_when_its_holder_is_gone() -> None:
    nat = nat_of(BEHAVIOURS["home"])
    rival = Address(NEIGHBOUR.host, INSIDE.port)
    opened(nat, INSIDE, PEER, 0.0)
    assert opened(nat, rival, PEER, 1.0).port == INSIDE.port + 1
    assert opened(nat, rival, PEER, 120.0).port == INSIDE.port + 1
    assert opened(nat, INSIDE, PEER, 120.0).port == INSIDE.port


def test_preserving_allocation_wraps_past_the_well_known_ports() -> None:
    nat = nat_of(BEHAVIOURS["home"])
    opened(nat, Address(INSIDE.host, 65_535), PEER)
    rival = Address(NEIGHBOUR.host, 65_535)
    assert opened(nat, rival, PEER).port == PORT_MIN


@pytest.mark.parametrize("step", [1, 2, 7, -1, -4])
def test_sequential_allocation_steps_for_every_new_target_of_anybody(step: int) -> None:
    nat = nat_of(
        Behaviour(
            MappingRule.ADDRESS_AND_PORT_DEPENDENT,
            FilteringRule.ADDRESS_AND_PORT_DEPENDENT,
            AllocationRule.SEQUENTIAL,
            step=step,
        )
    )
    first = opened(nat, INSIDE, PEER).port
    opened(nat, NEIGHBOUR, PEER)
    assert opened(nat, INSIDE, PEER).port == first
    assert opened(nat, INSIDE, REMOTES["other port"]).port == first + 2 * step


def test_sequential_allocation_passes_over_ports_in_use_when_it_comes_round() -> None:
    behaviour = Behaviour(
        MappingRule.ADDRESS_AND_PORT_DEPENDENT,
        FilteringRule.ADDRESS_AND_PORT_DEPENDENT,
        AllocationRule.SEQUENTIAL,
        step=16_128,  # a quarter of all ports
    )
    nat = nat_of(behaviour)
    targets = [Address(PEER.host, port) for port in range(1, 6)]
    ports = [nat.outbound(INSIDE, target, 0.0) for target in targets]
    assert len(set(ports[:4])) == 4
    assert ports[4] is None
    assert nat.statistics().exhausted == 1


def test_random_allocation_shows_no_order() -> None:
    nat = nat_of(BEHAVIOURS["symmetric-random"])
    targets = [Address(PEER.host, port) for port in range(1, 201)]
    ports = [opened(nat, INSIDE, target).port for target in targets]
    assert len(set(ports)) == 200
    assert min(ports) >= PORT_MIN
    assert max(ports) - min(ports) > 50_000
    steps = {after - before for before, after in itertools.pairwise(ports)}
    assert len(steps) > 190


def test_a_paired_pool_gives_an_internal_host_the_same_external_host_always() -> None:
    nat = nat_of(BEHAVIOURS["symmetric-random"], ["198.51.100.1", "198.51.100.2"])
    used = {}
    for internal in range(2, 40):
        source = Address(f"192.168.1.{internal}", 5000)
        hosts = {opened(nat, source, target).host for target in REMOTES.values()}
        assert len(hosts) == 1
        used[internal] = hosts.pop()
    assert set(used.values()) == set(nat.external_hosts)


def test_an_arbitrary_pool_gives_one_internal_host_several_external_hosts() -> None:
    behaviour = Behaviour(
        MappingRule.ADDRESS_AND_PORT_DEPENDENT,
        FilteringRule.ADDRESS_AND_PORT_DEPENDENT,
        paired=False,
    )
    nat = nat_of(behaviour, ["198.51.100.1", "198.51.100.2"])
    targets = [Address(PEER.host, port) for port in range(1, 21)]
    hosts = {opened(nat, INSIDE, target).host for target in targets}
    assert hosts == set(nat.external_hosts)


def test_after_a_rebind_every_endpoint_moves_and_the_old_ones_are_dead() -> None:
    nat = nat_of(BEHAVIOURS["home"])
    before = opened(nat, INSIDE, PEER)
    nat.rebind()
    assert nat.inbound(PEER, before, 0.0) is None
    after = opened(nat, INSIDE, PEER)
    assert after.host == before.host
    assert after.port != before.port


def test_a_rebind_can_change_the_external_hosts() -> None:
    nat = nat_of(BEHAVIOURS["home"])
    opened(nat, INSIDE, PEER)
    nat.rebind(["198.51.100.9"])
    assert opened(nat, INSIDE, PEER) == Address("198.51.100.9", INSIDE.port)


def test_a_full_table_of_mappings_refuses_new_ones_and_keeps_the_old() -> None:
    nat = nat_of(BEHAVIOURS["symmetric-sequential"])
    targets = [Address(PEER.host, port) for port in range(1, MAPPINGS_MAX + 1)]
    for target in targets:
        opened(nat, INSIDE, target, 0.0)
    assert nat.outbound(NEIGHBOUR, PEER, 1.0) is None
    assert nat.outbound(INSIDE, targets[0], 1.0) is not None
    statistics = nat.statistics()
    assert (statistics.mappings, statistics.exhausted) == (MAPPINGS_MAX, 1)
    assert nat.outbound(NEIGHBOUR, PEER, 120.0) is not None


def test_a_full_table_of_permissions_refuses_new_targets_and_keeps_the_old() -> None:
    nat = nat_of(BEHAVIOURS["home"])
    for index in range(PERMISSIONS_MAX):
        opened(nat, INSIDE, Address(f"203.0.{index >> 8}.{index & 0xFF}", 9), 0.0)
    assert nat.outbound(INSIDE, PEER, 1.0) is None
    assert nat.outbound(INSIDE, Address("203.0.0.0", 9), 1.0) is not None
    statistics = nat.statistics()
    assert (statistics.permissions, statistics.exhausted) == (PERMISSIONS_MAX, 1)


def test_a_firewall_is_a_nat_that_translates_an_address_into_itself() -> None:
    host = "2001:db8::2"
    nat = nat_of(BEHAVIOURS["port-restricted"], [host])
    remote = Address("2001:db8:f::1", 7000)
    inside = Address(host, 443)
    assert nat.outbound(inside, remote, 0.0) == inside
    assert nat.inbound(remote, inside, 0.0) == inside
    assert nat.inbound(Address(remote.host, 1), inside, 0.0) is None


@pytest.mark.parametrize("wrong", [{"step": 0}, {"timeout_s": 0.0}])
def test_a_behaviour_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    rules = MappingRule.ENDPOINT_INDEPENDENT, FilteringRule.ENDPOINT_INDEPENDENT
    with pytest.raises(ValueError, match="expected"):
        Behaviour(*rules, **wrong)  # type: ignore[arg-type] # what is wrong is the point


def test_a_nat_without_external_hosts_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one address"):
        nat_of(BEHAVIOURS["home"], [])
