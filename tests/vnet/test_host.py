"""Hosts and sockets of the virtual internet, as production code meets them."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence

import pytest
import trio

from nat.address import Address
from nat.network import DatagramSocket, Network
from tests.vnet import Fate, Host, Internet, LinkQuality, simulate
from tests.vnet.host import PAYLOAD_BYTES_MAX
from tests.vnet.run import UNIX_EPOCH_OFFSET_S
from tests.vnet.simulate import run_deterministically

ONE_SEED = range(1)


async def received(socket: DatagramSocket, within_s: float = 10.0) -> list[bytes]:
    """Give the payloads that come before a silence of `within_s`."""
    payloads: list[bytes] = []
    while True:
        with trio.move_on_after(within_s) as scope:
            payloads += [payload for payload, _ in await socket.receive_many()]
        if scope.cancelled_caught:
            return payloads


def two_hosts(internet: Internet, delay_s: float = 0.125) -> tuple[Host, Host]:
    quality = LinkQuality(delay_s=delay_s)
    return (
        internet.add_host("alice", quality=quality),
        internet.add_host("bob", quality=quality),
    )


async def say_over(network: Network, local: Address, target: Address) -> bool:
    """Stand for production code: it knows the protocols of `nat.network` only."""
    async with network.open_udp(local) as socket:
        return socket.send_nowait(b"hello", target)


@simulate(seeds=ONE_SEED)
async def test_a_host_is_a_network(internet: Internet) -> None:
    alice, bob = two_hosts(internet)
    async with bob.open_udp(bob.at(7000)) as socket:
        assert await say_over(alice, alice.at(7000), bob.at(7000))
        assert await socket.receive_many() == [(b"hello", alice.at(7000))]


@simulate(seeds=range(3))
async def test_a_datagram_arrives_at_exactly_the_sum_of_the_delays(
    internet: Internet,
) -> None:
    alice, bob = two_hosts(internet, delay_s=0.125)
    async with (
        alice.open_udp(alice.at(7000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        await trio.sleep(1)
        ours.send_nowait(b"one", theirs.address)
        assert await theirs.receive_many() == [(b"one", ours.address)]
        assert trio.current_time() == 1.25
        theirs.send_nowait(b"two", ours.address)
        assert await ours.receive_many() == [(b"two", theirs.address)]
        assert trio.current_time() == 1.5


@simulate(seeds=ONE_SEED)
async def test_one_receive_gives_all_that_is_there_in_order_at_most_64(
    internet: Internet,
) -> None:
    alice, bob = two_hosts(internet)
    payloads = [bytes([number]) for number in range(100)]
    async with (
        alice.open_udp(alice.at(7000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        for payload in payloads:
            ours.send_nowait(payload, theirs.address)
        batches = [await theirs.receive_many(), await theirs.receive_many()]
        assert [len(batch) for batch in batches] == [64, 36]
        assert [payload for batch in batches for payload, _ in batch] == payloads


@pytest.mark.parametrize("patience_s", [0.125, 0.25, 0.5])
@simulate(seeds=range(10))
async def test_a_cancelled_wait_loses_nothing(
    internet: Internet, patience_s: float
) -> None:
    alice, bob = two_hosts(internet, delay_s=0.125)
    async with (
        alice.open_udp(alice.at(7000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        for _ in range(3):
            ours.send_nowait(b"x", theirs.address)
            await trio.sleep(patience_s)
        taken: list[tuple[bytes, Address]] = []
        while len(taken) < 3:
            with trio.move_on_after(patience_s):
                taken += await theirs.receive_many()
        assert taken == [(b"x", ours.address)] * 3


@simulate(seeds=ONE_SEED)
async def test_a_full_buffer_drops_the_newest_and_counts_them(
    internet: Internet,
) -> None:
    alice, bob = two_hosts(internet)
    bob.receive_buffer_max = 3
    async with (
        alice.open_udp(alice.at(7000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        for number in range(5):
            ours.send_nowait(bytes([number]), theirs.address)
        await trio.sleep(1)
        assert await received(theirs) == [b"\0", b"\1", b"\2"]
        assert internet.dropped(Fate.SOCKET_FULL) == 2


@simulate(seeds=range(5))
async def test_no_reader_and_no_sender_starves_another(internet: Internet) -> None:
    alice, bob = two_hosts(internet)
    carol = internet.add_host("carol")
    counts = {"alice": 0, "carol": 0}

    async def flood(host: Host, target: Address) -> None:
        async with host.open_udp(host.at(7000)) as socket:
            for _ in range(100):
                socket.send_nowait(host.name.encode(), target)
                await trio.sleep(0.01)

    async with bob.open_udp(bob.at(7000)) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(flood, alice, socket.address)
        nursery.start_soon(flood, carol, socket.address)
        for payload in await received(socket):
            counts[payload.decode()] += 1
    assert counts == {"alice": 100, "carol": 100}


@simulate(seeds=range(5))
async def test_two_readers_of_one_socket_take_turns(internet: Internet) -> None:
    alice, bob = two_hosts(internet)
    reads = [0, 0]

    async def read(index: int, socket: DatagramSocket) -> None:
        while True:
            reads[index] += len(await socket.receive_many())

    async with (
        alice.open_udp(alice.at(7000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read, 0, theirs)
        nursery.start_soon(read, 1, theirs)
        for _ in range(100):
            ours.send_nowait(b"x", theirs.address)
            await trio.sleep(0.01)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert reads == [50, 50]


@simulate(seeds=ONE_SEED)
async def test_port_0_gives_any_free_port(internet: Internet) -> None:
    alice = internet.add_host("alice")
    async with (
        alice.open_udp(alice.at(0)) as one,
        alice.open_udp(alice.at(0)) as other,
    ):
        assert one.address.host == other.address.host == alice.at(0).host
        assert len({0, one.address.port, other.address.port}) == 3


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ("20.0.0.1:7000", "20.0.0.1:7000", errno.EADDRINUSE),
        ("0.0.0.0:7000", "20.0.0.1:7000", errno.EADDRINUSE),
        ("20.0.0.1:7000", "0.0.0.0:7000", errno.EADDRINUSE),
        ("127.0.0.1:7000", "0.0.0.0:7000", errno.EADDRINUSE),
        ("20.0.0.1:7000", "20.9.9.9:7000", errno.EADDRNOTAVAIL),
    ],
)
@simulate(seeds=ONE_SEED)
async def test_binding_fails_as_the_kernel_fails_it(
    internet: Internet, first: str, second: str, code: int
) -> None:
    alice = internet.add_host("alice", "20.0.0.1", "2001:db8::1")
    async with alice.open_udp(Address.parse(first)):
        with pytest.raises(OSError, match=second) as refusal:
            async with alice.open_udp(Address.parse(second)):
                pytest.fail("bound")
        assert refusal.value.errno == code


@pytest.mark.parametrize("second", ["20.0.0.1:7001", "127.0.0.1:7000", "[::]:7000"])
@simulate(seeds=ONE_SEED)
async def test_sockets_that_share_no_endpoint_can_be_bound_together(
    internet: Internet, second: str
) -> None:
    alice = internet.add_host("alice", "20.0.0.1", "2001:db8::1")
    async with (
        alice.open_udp(alice.at(7000)),
        alice.open_udp(Address.parse(second)) as socket,
    ):
        assert socket.address == Address.parse(second)


@simulate(seeds=ONE_SEED)
async def test_a_port_is_free_again_after_its_socket_is_closed(
    internet: Internet,
) -> None:
    alice = internet.add_host("alice")
    for _ in range(2):
        async with alice.open_udp(alice.at(7000)) as socket:
            assert socket.address == alice.at(7000)


@simulate(seeds=ONE_SEED)
async def test_a_closed_socket_sends_nothing_and_turns_its_readers_away(
    internet: Internet,
) -> None:
    alice = internet.add_host("alice")
    turned_away = trio.Event()

    async def read(socket: DatagramSocket) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await socket.receive_many()
        turned_away.set()

    async with trio.open_nursery() as nursery:
        async with alice.open_udp(alice.at(7000)) as socket:
            nursery.start_soon(read, socket)
            await trio.sleep(1)
        await turned_away.wait()
    assert not socket.send_nowait(b"x", socket.address)


@simulate(seeds=ONE_SEED)
async def test_a_wildcard_socket_takes_every_address_and_answers_from_the_first(
    internet: Internet,
) -> None:
    alice = internet.add_host("alice", "20.0.0.1", "20.0.0.2", "2001:db8::1")
    bob = internet.add_host("bob", "20.1.0.1", "2001:db8::2")
    async with (
        alice.open_udp(Address("0.0.0.0", 7000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        assert theirs.send_nowait(b"x", Address("20.0.0.2", 7000))
        assert await ours.receive_many() == [(b"x", theirs.address)]
        assert ours.send_nowait(b"y", theirs.address)
        assert await theirs.receive_many() == [(b"y", Address("20.0.0.1", 7000))]
        assert alice.local_hosts() == ["20.0.0.1", "20.0.0.2", "2001:db8::1"]


@simulate(seeds=ONE_SEED)
async def test_ipv6_and_ipv4_live_side_by_side(internet: Internet) -> None:
    alice = internet.add_host("alice", "20.0.0.1", "2001:DB8:0::1")
    bob = internet.add_host("bob", "20.1.0.1", "2001:db8::2")
    async with (
        alice.open_udp(Address("2001:db8::1", 7000)) as ours,
        bob.open_udp(Address("::", 7000)) as theirs,
    ):
        assert ours.send_nowait(b"x", Address("2001:db8::2", 7000))
        assert await theirs.receive_many() == [(b"x", ours.address)]
        assert not ours.send_nowait(b"x", bob.at(7000))
        assert not theirs.send_nowait(b"x", alice.at(7000))


def refusals(bob: Host) -> Sequence[tuple[bytes, Address]]:
    return [
        (bytes(PAYLOAD_BYTES_MAX + 1), bob.at(7000)),
        (b"x", bob.at(0)),
        (b"x", Address("2001:db8::1", 7000)),
        (b"x", Address("127.0.0.1", 7000)),
    ]


@simulate(seeds=ONE_SEED)
async def test_what_cannot_be_sent_is_refused_and_leaves_no_trace(
    internet: Internet,
) -> None:
    alice, bob = two_hosts(internet)
    async with alice.open_udp(alice.at(7000)) as socket:
        for payload, target in refusals(bob):
            assert not socket.send_nowait(payload, target)
        assert not internet.ledger.fates
        assert socket.send_nowait(bytes(PAYLOAD_BYTES_MAX), bob.at(7000))


@simulate(seeds=ONE_SEED)
async def test_a_host_talks_to_itself_without_its_wire(internet: Internet) -> None:
    alice = internet.add_host("alice")
    alice.cut()
    loopback = Address("127.0.0.1", 7001)
    async with (
        alice.open_udp(alice.at(7000)) as one,
        alice.open_udp(loopback) as other,
        alice.open_udp(Address("127.0.0.2", 0)) as third,
    ):
        assert one.send_nowait(b"x", one.address)
        assert await one.receive_many() == [(b"x", one.address)]
        assert third.send_nowait(b"y", loopback)
        assert await other.receive_many() == [(b"y", third.address)]
        assert trio.current_time() == 0.0


@simulate(seeds=ONE_SEED)
async def test_what_nobody_takes_is_dropped_and_counted(internet: Internet) -> None:
    alice, bob = two_hosts(internet)
    async with alice.open_udp(alice.at(7000)) as socket:
        assert socket.send_nowait(b"x", bob.at(7000))
        assert socket.send_nowait(b"x", Address("192.0.2.99", 7000))
        await trio.sleep(1)
    assert internet.dropped(Fate.PORT_CLOSED) == 1
    assert internet.dropped(Fate.UNROUTABLE) == 1


@simulate(seeds=ONE_SEED)
async def test_a_paused_host_sends_nothing_and_reads_later_what_arrived(
    internet: Internet,
) -> None:
    alice, bob = two_hosts(internet)
    async with (
        alice.open_udp(alice.at(7000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
        trio.open_nursery() as nursery,
    ):
        bob.pause()
        ours.send_nowait(b"x", theirs.address)
        assert theirs.send_nowait(b"never", ours.address)
        internet.at(5.0, bob.resume)
        nursery.start_soon(trio.sleep, 8)
        assert await theirs.receive_many() == [(b"x", ours.address)]
        assert trio.current_time() == 5.0
        assert await received(ours, within_s=2) == []
        assert internet.dropped(Fate.HOST_PAUSED) == 1


@simulate(seeds=ONE_SEED)
async def test_a_paused_host_loses_what_its_buffers_cannot_hold(
    internet: Internet,
) -> None:
    alice, bob = two_hosts(internet)
    async with (
        alice.open_udp(alice.at(7000)) as ours,
        bob.open_udp(bob.at(7000)) as theirs,
    ):
        bob.pause()
        for _ in range(bob.receive_buffer_max + 7):
            ours.send_nowait(b"x", theirs.address)
        await trio.sleep(1)
        bob.resume()
        assert len(await received(theirs)) == bob.receive_buffer_max
        assert internet.dropped(Fate.SOCKET_FULL) == 7


@simulate(seeds=ONE_SEED)
async def test_each_host_has_its_own_time_of_day(internet: Internet) -> None:
    alice, bob = two_hosts(internet)
    bob.unix_epoch_offset_s += 3_600
    await trio.sleep(5)
    assert alice.now() == UNIX_EPOCH_OFFSET_S + 5
    assert bob.now() == alice.now() + 3_600


def test_a_minute_of_two_way_voice_takes_seconds() -> None:
    internet = Internet(1)
    heard = {"alice": 0, "bob": 0}

    async def talk(host: Host, target: Address) -> None:
        async with host.open_udp(host.at(7000)) as socket, trio.open_nursery() as tasks:

            async def listen() -> None:
                while True:
                    heard[host.name] += len(await socket.receive_many())

            tasks.start_soon(listen)
            for _ in range(60 * 50):
                socket.send_nowait(bytes(120), target)
                await trio.sleep(0.02)
            await trio.sleep(1)
            tasks.cancel_scope.cancel()

    async def body() -> None:
        home = internet.add_router("home", "home")
        alice = internet.add_host("alice", behind=home)
        bob = internet.add_host("bob")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk, alice, bob.at(7000))
            nursery.start_soon(talk, bob, Address(home.external_hosts[0], 7000))

    started_at = time.process_time()
    run_deterministically(internet, body, limit_s=70)
    # The first few of bob's come before alice has opened her NAT.
    assert heard["bob"] == 3_000
    assert heard["alice"] > 2_990
    assert time.process_time() - started_at < 5.0
