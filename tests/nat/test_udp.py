"""Real UDP sockets on loopback."""

from __future__ import annotations

import errno
import socket

import pytest
import trio

from nat.address import Address
from nat.network import DatagramSocket, Network
from nat.udp import DATAGRAMS_PER_TURN_MAX, LOCAL_HOSTS_MAX, KernelNetwork

pytestmark = pytest.mark.real

ANY_PORT = Address("127.0.0.1", 0)
ANY_PORT_IPV6 = Address("::1", 0)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_it_is_the_network_that_services_expect() -> None:
    network: Network = KernelNetwork()
    assert network.local_hosts()


async def test_a_datagram_arrives_with_its_source() -> None:
    network = KernelNetwork()
    async with network.open_udp(ANY_PORT) as one, network.open_udp(ANY_PORT) as other:
        sockets: tuple[DatagramSocket, DatagramSocket] = (one, other)
        assert sockets[0].send_nowait(b"hello", other.address)
        assert await other.receive_many() == [(b"hello", one.address)]
        assert one.statistics().sent == other.statistics().received == 1


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_ipv6_addresses_are_plain_too() -> None:
    network = KernelNetwork()
    async with (
        network.open_udp(ANY_PORT_IPV6) as one,
        network.open_udp(ANY_PORT_IPV6) as other,
    ):
        assert one.send_nowait(b"hello", other.address)
        assert await other.receive_many() == [(b"hello", one.address)]


async def test_many_datagrams_come_in_order_64_at_a_time() -> None:
    network = KernelNetwork()
    async with network.open_udp(ANY_PORT) as one, network.open_udp(ANY_PORT) as other:
        for number in range(100):
            one.send_nowait(bytes([number]), other.address)
        first = await other.receive_many()
        second = await other.receive_many()
    assert len(first) == DATAGRAMS_PER_TURN_MAX
    assert [datagram[0] for datagram, _ in [*first, *second]] == list(range(100))


async def test_a_cancelled_wait_loses_nothing() -> None:
    network = KernelNetwork()
    async with network.open_udp(ANY_PORT) as one, network.open_udp(ANY_PORT) as other:
        with trio.move_on_after(0.01) as scope:
            await other.receive_many()
        assert scope.cancelled_caught
        one.send_nowait(b"late", other.address)
        with trio.CancelScope() as scope:
            scope.cancel()
            await other.receive_many()
        assert await other.receive_many() == [(b"late", one.address)]


async def test_a_flooded_socket_lets_other_tasks_run() -> None:
    network = KernelNetwork()
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with (
        network.open_udp(ANY_PORT) as one,
        network.open_udp(ANY_PORT) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(take_turns)
        for _ in range(20):
            one.send_nowait(b"flood", other.address)
            await other.receive_many()
        nursery.cancel_scope.cancel()
    assert turns >= 10  # every wait is a checkpoint, also one that need not wait


async def test_a_port_nobody_listens_at_does_no_harm() -> None:
    network = KernelNetwork()
    async with network.open_udp(ANY_PORT) as gone:
        closed = gone.address
    async with network.open_udp(ANY_PORT) as one, network.open_udp(ANY_PORT) as other:
        for _ in range(3):
            assert one.send_nowait(b"hello?", closed)
        assert one.send_nowait(b"hello", other.address)
        assert await other.receive_many() == [(b"hello", one.address)]


@pytest.mark.parametrize(
    "target",
    [Address("::1", 5_000), Address("127.0.0.1", 0), Address("255.255.255.255", 9)],
)
async def test_what_the_kernel_refuses_is_counted_not_raised(target: Address) -> None:
    async with KernelNetwork().open_udp(ANY_PORT) as one:
        assert not one.send_nowait(b"x", target)
        assert one.statistics().refused == 1


async def test_a_datagram_that_would_be_fragmented_is_refused() -> None:
    async with KernelNetwork().open_udp(ANY_PORT) as one:
        assert not one.send_nowait(bytes(65_507 + 1), one.address)


async def test_a_port_that_is_taken_is_said_to_be() -> None:
    network = KernelNetwork()
    async with network.open_udp(ANY_PORT) as one:
        with pytest.raises(OSError, match="in use") as raised:
            async with network.open_udp(one.address):
                pass
    assert raised.value.errno == errno.EADDRINUSE


async def test_a_socket_is_closed_on_the_way_out() -> None:
    network = KernelNetwork()
    async with network.open_udp(ANY_PORT) as one:
        pass
    async with network.open_udp(one.address) as again:
        assert again.address == one.address


def test_loopback_is_the_last_of_the_local_hosts() -> None:
    hosts = list(KernelNetwork().local_hosts())
    assert "127.0.0.1" in hosts
    loopback = [host for host in hosts if host in ("127.0.0.1", "::1")]
    assert hosts[-len(loopback) :] == loopback
    assert not any(host.startswith("fe80:") for host in hosts)
    assert len(set(hosts)) == len(hosts) <= LOCAL_HOSTS_MAX
