"""What a test can do to the virtual internet: faults, changes, and the record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from nat.address import Address
from tests.vnet import Fate, Host, Internet, LinkQuality, Sighting, Socket, simulate

ONE_SEED = range(1)
PORT = 7000


@asynccontextmanager
async def socket_of(host: Host) -> AsyncIterator[Socket]:
    async with host.open_udp(Address("0.0.0.0", PORT)) as socket:
        yield socket


async def passes(source: Socket, target: Socket, address: Address) -> bool:
    """Whether a datagram sent now arrives within a second."""
    source.send_nowait(b"x", address)
    with trio.move_on_after(1) as scope:
        await target.receive_many()
    return not scope.cancelled_caught


async def reachable(hosts: list[Host]) -> set[str]:
    """Give which public hosts reach which others: `ab` if a reaches b."""
    pairs = set()
    for one in hosts:
        for other in hosts:
            if one is not other:
                async with socket_of(one) as ours, socket_of(other) as theirs:
                    if await passes(ours, theirs, other.at(PORT)):
                        pairs.add(one.name + other.name)
    return pairs


def three(internet: Internet) -> tuple[Host, Host, Host]:
    return internet.add_host("a"), internet.add_host("b"), internet.add_host("c")


EVERY = {"ab", "ac", "ba", "bc", "ca", "cb"}


@simulate(seeds=ONE_SEED)
async def test_a_cut_between_two_nodes_is_one_way_and_touches_nobody_else(
    internet: Internet,
) -> None:
    a, b, c = three(internet)
    internet.cut(a, b)
    assert await reachable([a, b, c]) == EVERY - {"ab"}
    assert internet.dropped(Fate.PARTITIONED) == 1
    internet.heal(a, b)
    assert await reachable([a, b, c]) == EVERY


@simulate(seeds=ONE_SEED)
async def test_a_partition_leaves_only_the_groups_together(internet: Internet) -> None:
    a, b, c = three(internet)
    internet.partition([a, b], [c])
    assert await reachable([a, b, c]) == {"ab", "ba"}
    internet.heal_all()
    assert await reachable([a, b, c]) == EVERY


@pytest.mark.parametrize("part", ["host", "router"])
@simulate(seeds=ONE_SEED)
async def test_cutting_a_node_behind_a_router_cuts_where_the_ways_meet(
    internet: Internet, part: str
) -> None:
    home = internet.add_router("home", "home")
    a = internet.add_host("a", behind=home)
    neighbour = internet.add_host("n", behind=home)
    b = internet.add_host("b")
    internet.cut(a if part == "host" else home, b)
    async with socket_of(a) as ours, socket_of(b) as bobs, socket_of(neighbour) as near:
        assert not await passes(ours, bobs, b.at(PORT))
        assert not await passes(near, bobs, b.at(PORT))
        assert await passes(ours, near, neighbour.at(PORT))
        internet.cut(a, neighbour)
        assert not await passes(ours, near, neighbour.at(PORT))
        internet.heal_all()
        assert await passes(ours, bobs, b.at(PORT))
        assert await passes(ours, near, neighbour.at(PORT))


@simulate(seeds=ONE_SEED)
async def test_a_host_without_its_wire_is_alone_until_it_is_plugged_in(
    internet: Internet,
) -> None:
    a, b, c = three(internet)
    a.cut()
    assert await reachable([a, b, c]) == {"bc", "cb"}
    assert internet.dropped(Fate.LINK_CUT) == 4
    a.heal()
    assert await reachable([a, b, c]) == EVERY


@simulate(seeds=ONE_SEED)
async def test_a_wire_can_be_cut_in_one_direction(internet: Internet) -> None:
    a, b, c = three(internet)
    a.wire.up.is_cut = True
    assert await reachable([a, b, c]) == EVERY - {"ab", "ac"}


@simulate(seeds=ONE_SEED)
async def test_a_change_of_quality_holds_for_what_is_sent_later(
    internet: Internet,
) -> None:
    a, b, _ = three(internet)
    async with socket_of(a) as ours, socket_of(b) as theirs:
        ours.send_nowait(b"x", b.at(PORT))
        a.wire.set_quality(LinkQuality(delay_s=1.0))
        await theirs.receive_many()
        assert trio.current_time() == pytest.approx(0.040)
        ours.send_nowait(b"x", b.at(PORT))
        await theirs.receive_many()
        assert trio.current_time() == pytest.approx(0.040 + 1.020)


@pytest.mark.parametrize("loss", [0.05, 0.3])
@simulate(seeds=range(5), limit_s=300)
async def test_loss_on_both_wires_adds_up(internet: Internet, loss: float) -> None:
    quality = LinkQuality(delay_s=0.02, loss=loss)
    a = internet.add_host("a", quality=quality)
    b = internet.add_host("b", quality=quality)
    arrived = 0
    async with socket_of(a) as ours, socket_of(b) as theirs:
        for _ in range(2_000):
            ours.send_nowait(b"x", b.at(PORT))
            with trio.move_on_after(0.1):
                arrived += len(await theirs.receive_many())
    assert arrived / 2_000 == pytest.approx((1 - loss) ** 2, abs=0.045)
    assert arrived + internet.dropped(Fate.LOST) == 2_000


@simulate(seeds=ONE_SEED)
async def test_a_host_moves_from_one_network_to_another(internet: Internet) -> None:
    home = internet.add_router("home", "home")
    a, b, _ = three(internet)
    old = a.local_hosts()[0]
    async with socket_of(a) as ours, socket_of(b) as theirs:
        assert await passes(ours, theirs, b.at(PORT))
        internet.detach(a, old)
        assert not ours.send_nowait(b"x", b.at(PORT))
        internet.attach(a, behind=home)
        assert a.local_hosts() == ["192.168.1.2"]
        ours.send_nowait(b"x", b.at(PORT))
        ((_, source),) = await theirs.receive_many()
        assert source.host == home.external_hosts[0]
        theirs.send_nowait(b"x", Address(old, PORT))
        await trio.sleep(1)
        assert internet.dropped(Fate.UNROUTABLE) == 1


@simulate(seeds=ONE_SEED)
async def test_a_host_with_two_wires_sends_by_the_one_it_is_bound_to(
    internet: Internet,
) -> None:
    a = internet.add_host("a", "20.0.0.1", quality=LinkQuality(delay_s=0.010))
    internet.attach(a, "20.1.0.1", quality=LinkQuality(delay_s=0.100))
    b = internet.add_host("b", quality=LinkQuality())
    async with (
        socket_of(b) as theirs,
        a.open_udp(Address("20.0.0.1", PORT)) as fast,
        a.open_udp(Address("20.1.0.1", PORT)) as slow,
    ):
        slow.send_nowait(b"slow", b.at(PORT))
        fast.send_nowait(b"fast", b.at(PORT))
        assert await theirs.receive_many() == [(b"fast", fast.address)]
        assert await theirs.receive_many() == [(b"slow", slow.address)]
        assert trio.current_time() == pytest.approx(0.100)


@simulate(seeds=ONE_SEED)
async def test_changes_can_be_planned(internet: Internet) -> None:
    a, b, _ = three(internet)
    internet.at(5.0, a.cut)
    internet.at(9.0, a.heal)
    async with socket_of(a) as ours, socket_of(b) as theirs:
        verdicts = []
        for second in (0, 4, 6, 8, 10):
            await trio.sleep_until(second)
            verdicts.append(await passes(ours, theirs, b.at(PORT)))
    assert verdicts == [True, True, False, False, True]


@simulate(seeds=ONE_SEED)
async def test_public_hosts_are_each_in_a_slash_16_of_their_own(
    internet: Internet,
) -> None:
    addresses = [internet.add_host(f"host-{n}").at(PORT) for n in range(600)]
    assert len({address.prefix(16, 48) for address in addresses}) == 600


@pytest.mark.parametrize(
    "mistake",
    [
        lambda internet: internet.add_host("a"),
        lambda internet: internet.add_router("a", "home"),
        lambda internet: internet.add_host("new", "20.0.0.1"),
        lambda internet: internet.add_host("new", "example.org"),
        lambda internet: internet.add_router("new", None, "20.7.0.1"),
    ],
)
def test_what_cannot_be_added_is_refused(mistake: Callable[[Internet], object]) -> None:
    internet = Internet(1)
    internet.add_host("a", "20.0.0.1")
    with pytest.raises(ValueError, match=r"20.0.0.1|already|example.org|20.7.0.1"):
        mistake(internet)


@simulate(seeds=ONE_SEED)
async def test_an_observer_sees_every_datagram_at_its_ends(internet: Internet) -> None:
    home = internet.add_router("home", "home")
    a, b = internet.add_host("a", behind=home), internet.add_host("b")
    sightings: list[Sighting] = []
    internet.observe(sightings.append)
    async with socket_of(a) as ours, socket_of(b) as theirs:
        ours.send_nowait(b"hello", b.at(PORT))
        await theirs.receive_many()
    outside = Address(home.external_hosts[0], PORT)
    assert [sighting.fate for sighting in sightings] == [Fate.SENT, Fate.DELIVERED]
    sent, delivered = sightings
    assert (sent.at_s, sent.place, sent.source) == (0.0, "a", a.at(PORT))
    assert (delivered.place, delivered.source) == ("b", outside)
    assert delivered.at_s == pytest.approx(0.040)
    assert {sighting.origin for sighting in sightings} == {"a"}
    assert {sighting.target for sighting in sightings} == {b.at(PORT)}
    assert {sighting.payload for sighting in sightings} == {b"hello"}


@simulate(seeds=ONE_SEED)
async def test_the_ledger_finds_an_amplifier_even_if_it_is_paid_later(
    internet: Internet,
) -> None:
    a, b, _ = three(internet)
    async with socket_of(a) as ours, socket_of(b) as theirs:
        ours.send_nowait(bytes(100), b.at(PORT))
        ((_, source),) = await theirs.receive_many()
        theirs.send_nowait(bytes(100), source)
        internet.ledger.assert_no_amplification("b", source)
        theirs.send_nowait(bytes(30), source)
        for _ in range(3):
            ours.send_nowait(bytes(100), b.at(PORT))
        await trio.sleep(1)
    tally = internet.ledger.tally("b", source)
    assert (tally.bytes_in, tally.bytes_out) == (400, 130)
    assert (tally.datagrams_in, tally.datagrams_out) == (4, 2)
    assert tally.excess_bytes_max == 30
    internet.ledger.assert_no_amplification("b", source, granted_bytes=30)
    with pytest.raises(AssertionError, match="up to 30 bytes more"):
        internet.ledger.assert_no_amplification("b", source, granted_bytes=29)
    assert internet.ledger.remotes("b") == [a.at(PORT)]
    assert internet.ledger.tally("c", source).bytes_out == 0


@simulate(seeds=ONE_SEED)
async def test_what_is_lost_counts_as_sent_but_not_as_received(
    internet: Internet,
) -> None:
    a, b, _ = three(internet)
    a.wire.set_quality(LinkQuality(loss=1.0))
    async with socket_of(a) as ours, socket_of(b):
        ours.send_nowait(bytes(100), b.at(PORT))
        await trio.sleep(1)
    assert internet.ledger.tally("a", b.at(PORT)).bytes_out == 100
    assert internet.ledger.tally("b", a.at(PORT)).bytes_in == 0
