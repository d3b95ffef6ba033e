"""Routers: what passes through sockets is what the pure NAT model says."""

from __future__ import annotations

import itertools
from copy import deepcopy

import pytest
import trio

from nat.address import Address
from nat.model import (
    BEHAVIOURS,
    AllocationRule,
    Behaviour,
    FilteringRule,
    MappingRule,
)
from tests.vnet import (
    Fate,
    Host,
    Internet,
    LinkQuality,
    Router,
    Sighting,
    Socket,
    simulate,
)
from tests.vnet.run import Datagram

CELLS = [
    Behaviour(mapping, filtering, allocation, timeout_s=3.0, hairpin=hairpin)
    for mapping, filtering, allocation, hairpin in itertools.product(
        MappingRule, FilteringRule, AllocationRule, (False, True)
    )
]


def cell_name(behaviour: Behaviour) -> str:
    hairpin = "hairpin" if behaviour.hairpin else "straight"
    rules = (behaviour.mapping, behaviour.filtering, behaviour.allocation)
    return "-".join([*(rule.value for rule in rules), hairpin])


AT_ONCE = LinkQuality()
ONE_SEED = range(1)


async def arrival(socket: Socket, within_s: float = 0.001) -> Address | None:
    """Give the source of the datagram that arrives, or None."""
    with trio.move_on_after(within_s):
        ((_, source),) = await socket.receive_many()
        return source
    return None


def predicted(
    router: Router, source: Address, target: Address
) -> tuple[Address, Address | None]:
    """Ask a copy of the router's NAT: whom is `target`'s, and as whom is it seen?"""
    nat = deepcopy(router.nat)
    assert nat is not None
    seen_as: Address | None = source
    if source.host not in PUBLIC:
        seen_as = nat.outbound(source, target, trio.current_time())
    assert seen_as is not None
    if target.host in PUBLIC:
        return seen_as, target
    return seen_as, nat.inbound(seen_as, target, trio.current_time())


PUBLIC = ["20.8.0.1", "20.9.0.1"]


@pytest.mark.parametrize("behaviour", CELLS, ids=cell_name)
@simulate(seeds=range(2), limit_s=300)
async def test_what_passes_through_sockets_is_what_the_pure_model_says(
    internet: Internet, behaviour: Behaviour
) -> None:
    chance = internet.run.random
    router = internet.add_router("router", behaviour, quality=AT_ONCE)
    remote = internet.add_host("remote", *PUBLIC, quality=AT_ONCE)
    alice = internet.add_host("alice", behind=router)
    bob = internet.add_host("bob", behind=router)
    async with (
        alice.open_udp(alice.at(5000)) as ours,
        bob.open_udp(bob.at(5000)) as theirs,
        remote.open_udp(Address(PUBLIC[0], 7000)) as one,
        remote.open_udp(Address(PUBLIC[0], 7001)) as two,
        remote.open_udp(Address(PUBLIC[1], 7000)) as three,
    ):
        sockets = {socket.address: socket for socket in (ours, theirs, one, two, three)}
        outside = [one.address, two.address, three.address]
        doors: list[Address] = []
        for _ in range(100):
            source = chance.choice(list(sockets))
            target = chance.choice([*outside, *doors[-4:]])
            if source.host in PUBLIC and target.host in PUBLIC:
                continue
            seen_as, reached = predicted(router, source, target)
            sockets[source].send_nowait(b"x", target)
            for address, socket in sockets.items():
                expected = seen_as if address == reached else None
                assert await arrival(socket) == expected
            if source.host not in PUBLIC and seen_as not in doors:
                doors.append(seen_as)
            await trio.sleep(chance.choice([0.1, 0.5, 2.0]))
    assert internet.dropped(Fate.NAT_FILTERED) > 0
    assert internet.ledger.fates[Fate.DELIVERED] > 10


def talkers(internet: Internet) -> tuple[Host, Host, Router]:
    """Alice behind a home router, the public bob, and that router."""
    home = internet.add_router("home", "home")
    return internet.add_host("alice", behind=home), internet.add_host("bob"), home


@simulate(seeds=range(3))
async def test_a_host_behind_a_nat_is_seen_from_outside_and_can_be_answered(
    internet: Internet,
) -> None:
    alice, bob, home = talkers(internet)
    async with (
        alice.open_udp(alice.at(5000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        ours.send_nowait(b"x", theirs.address)
        ((_, source),) = await theirs.receive_many()
        assert source == Address(home.external_hosts[0], 5000)
        theirs.send_nowait(b"y", source)
        assert await ours.receive_many() == [(b"y", theirs.address)]
        assert trio.current_time() == pytest.approx(0.080)


@simulate(seeds=ONE_SEED)
async def test_hosts_of_one_lan_reach_each_other_directly(internet: Internet) -> None:
    alice, _, home = talkers(internet)
    carol = internet.add_host("carol", behind=home)
    async with (
        alice.open_udp(alice.at(5000)) as ours,
        carol.open_udp(carol.at(5000)) as theirs,
    ):
        ours.send_nowait(b"x", theirs.address)
        assert await theirs.receive_many() == [(b"x", ours.address)]
        assert trio.current_time() == 0.0


@simulate(seeds=ONE_SEED)
async def test_the_same_private_address_lives_behind_every_router(
    internet: Internet,
) -> None:
    alice, bob, _ = talkers(internet)
    other = internet.add_router("other", "home")
    dave = internet.add_host("dave", behind=other)
    assert alice.at(5000) == dave.at(5000)
    async with (
        alice.open_udp(alice.at(5000)) as ours,
        dave.open_udp(dave.at(5000)) as daves,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        ours.send_nowait(b"alice", theirs.address)
        daves.send_nowait(b"dave", theirs.address)
        await trio.sleep(1)
        sources = dict(await theirs.receive_many())
        assert sources[b"alice"].host != sources[b"dave"].host


@simulate(seeds=ONE_SEED)
async def test_carrier_grade_nat_is_a_router_behind_a_router(
    internet: Internet,
) -> None:
    carrier = internet.add_router("carrier", "carrier", inside="100.64.0.0/24")
    homes = [internet.add_router(f"home-{n}", "home", behind=carrier) for n in (1, 2)]
    assert [home.external_hosts[0] for home in homes] == ["100.64.0.2", "100.64.0.3"]
    alice = internet.add_host("alice", behind=homes[0])
    dave = internet.add_host("dave", behind=homes[1])
    bob = internet.add_host("bob")
    async with (
        alice.open_udp(alice.at(5000)) as ours,
        dave.open_udp(dave.at(5000)) as daves,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        ours.send_nowait(b"alice", theirs.address)
        daves.send_nowait(b"dave", theirs.address)
        await trio.sleep(1)
        seen = dict(await theirs.receive_many())
        assert seen[b"alice"].host == seen[b"dave"].host == carrier.external_hosts[0]
        for payload, source in seen.items():
            theirs.send_nowait(payload, source)
        assert await ours.receive_many() == [(b"alice", theirs.address)]
        assert await daves.receive_many() == [(b"dave", theirs.address)]
        # The carrier hairpins, so both can punch through it once each has sent.
        ours.send_nowait(b"lost", seen[b"dave"])
        daves.send_nowait(b"through", seen[b"alice"])
        assert await ours.receive_many() == [(b"through", seen[b"dave"])]


@simulate(seeds=ONE_SEED)
async def test_ipv6_is_not_translated_but_passes_a_firewall(
    internet: Internet,
) -> None:
    carrier = internet.add_router("carrier", "carrier", inside="100.64.0.0/24")
    home = internet.add_router("home", "home", behind=carrier)
    alice = internet.add_host("alice", "192.168.1.2", "2001:db8:1::2", behind=home)
    bob = internet.add_host("bob", "20.5.0.1", "2001:db8:2::2")
    async with (
        alice.open_udp(Address("2001:db8:1::2", 5000)) as ours,
        bob.open_udp(Address("2001:db8:2::2", 7000)) as theirs,
    ):
        theirs.send_nowait(b"too early", ours.address)
        assert await arrival(ours, within_s=1) is None
        assert internet.dropped(Fate.NAT_FILTERED) == 1
        ours.send_nowait(b"x", theirs.address)
        assert await theirs.receive_many() == [(b"x", ours.address)]
        theirs.send_nowait(b"y", ours.address)
        assert await ours.receive_many() == [(b"y", theirs.address)]


@simulate(seeds=ONE_SEED)
async def test_a_router_without_nat_is_a_firewall_for_public_addresses(
    internet: Internet,
) -> None:
    office = internet.add_router("office", None, inside="20.200.0.0/24")
    alice = internet.add_host("alice", behind=office)
    bob = internet.add_host("bob")
    assert alice.local_hosts() == ["20.200.0.2"]
    async with (
        alice.open_udp(alice.at(5000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        theirs.send_nowait(b"too early", ours.address)
        assert await arrival(ours, within_s=1) is None
        ours.send_nowait(b"x", theirs.address)
        assert await arrival(theirs, within_s=1) == ours.address


@simulate(seeds=range(3))
async def test_a_rebind_moves_the_endpoint_and_closes_the_old_one(
    internet: Internet,
) -> None:
    alice, bob, home = talkers(internet)
    async with (
        alice.open_udp(alice.at(5000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        ours.send_nowait(b"x", theirs.address)
        before = await arrival(theirs, within_s=1)
        assert before is not None
        home.rebind()
        theirs.send_nowait(b"y", before)
        assert await arrival(ours, within_s=1) is None
        ours.send_nowait(b"x", theirs.address)
        after = await arrival(theirs, within_s=1)
        assert after is not None
        assert after != before
        home.rebind(["20.250.0.1"])
        ours.send_nowait(b"x", theirs.address)
        assert await arrival(theirs, within_s=1) == Address("20.250.0.1", 5000)
        theirs.send_nowait(b"y", after)
        await trio.sleep(1)
        assert internet.dropped(Fate.UNROUTABLE) == 1


@simulate(seeds=ONE_SEED)
async def test_what_is_for_no_address_at_all_ends_on_the_internet(
    internet: Internet,
) -> None:
    alice, _, _ = talkers(internet)
    async with alice.open_udp(alice.at(5000)) as ours:
        ours.send_nowait(b"x", Address("10.1.2.3", 7000))
        ours.send_nowait(b"x", Address("192.168.1.99", 7000))
        await trio.sleep(1)
    assert internet.dropped(Fate.UNROUTABLE) == 2


@pytest.mark.parametrize(("hops", "dies_at"), [(1, "home"), (2, "far"), (3, None)])
@simulate(seeds=ONE_SEED)
async def test_each_router_takes_one_hop_and_the_last_one_drops(
    internet: Internet, hops: int, dies_at: str | None
) -> None:
    alice, _, home = talkers(internet)
    far = internet.add_router("far", "full-cone")
    places = []

    def note(sighting: Sighting) -> None:
        if sighting.fate is Fate.HOPS_EXCEEDED:
            places.append(sighting.place)

    internet.observe(note)
    target = Address(far.external_hosts[0], 7000)
    alice.wire.send(Datagram(b"x", alice.at(5000), target, "alice", hops))
    await trio.sleep(1)
    assert places == ([dies_at] if dies_at else [])
    assert home.nat
    assert home.nat.statistics().mappings == (hops > 1)


@pytest.mark.parametrize("kind", BEHAVIOURS)
@simulate(seeds=ONE_SEED)
async def test_every_named_kind_lets_a_host_out_and_its_answer_in(
    internet: Internet, kind: str
) -> None:
    router = internet.add_router("router", kind)
    alice, bob = internet.add_host("alice", behind=router), internet.add_host("bob")
    async with (
        alice.open_udp(alice.at(5000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        ours.send_nowait(b"x", theirs.address)
        source = await arrival(theirs, within_s=1)
        assert source is not None
        theirs.send_nowait(b"y", source)
        assert await arrival(ours, within_s=1) == theirs.address


def test_an_unknown_kind_of_nat_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected one of full-cone"):
        Internet(1).add_router("router", "half-cone")
