"""The real network: UDP sockets of the kernel, as `nat.network` describes them.

A hot socket is read by waiting until it is readable and then draining it without
blocking, 64 datagrams at most, so that one flooded socket cannot starve the rest of the
program; that takes a fifth of the time of one `await recvfrom()` a datagram.

What the kernel reports about earlier datagrams (ICMP errors) and what it refuses to
send is counted in `statistics()`, never raised: anybody can forge such a report, and
one lost datagram is not a reason to lose a session.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import ifaddr
import trio

from nat.address import Address

__all__ = ["KernelNetwork", "KernelSocket", "SocketStatistics"]

DATAGRAMS_PER_TURN_MAX: Final = 64
# Then other tasks have their turn; 0.7 ms of work.
DATAGRAM_BYTES_MAX: Final = 2_048
# Ours have 1,200 at most. What is longer is cut here and refused by its decoder.
BUFFER_BYTES: Final = 4 * 1024 * 1024
# 40 ms of a full relay's bursts. The kernel cuts it to what it permits.
LOCAL_HOSTS_MAX: Final = 16
# As many as can be of use; a machine full of containers has hundreds.

_IP_MTU_DISCOVER: Final = 10  # from <linux/in.h>; Python has no name for these
_IP_PMTUDISC_DO: Final = 2
_IPV6_MTU_DISCOVER: Final = 23


@dataclass(frozen=True, slots=True)
class SocketStatistics:
    """Counts since the socket was opened."""

    received: int
    sent: int
    refused: int
    errors_heard: int


class KernelSocket:
    """One bound UDP socket, open inside `KernelNetwork.open_udp`."""

    def __init__(self, bound: socket.socket) -> None:
        self._socket = bound
        self._address = _address(bound.getsockname())
        self._received = 0
        self._sent = 0
        self._refused = 0
        self._errors_heard = 0

    @property
    def address(self) -> Address:
        """The local address, with the port the socket really has."""
        return self._address

    async def receive_many(self) -> Sequence[tuple[bytes, Address]]:
        """Wait for datagrams and give all that are there, oldest first, at most 64.

        A cancelled wait loses nothing: nothing is read before it is over.
        """
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            if batch := self._drain():
                self._received += len(batch)
                return batch

    def send_nowait(self, datagram: bytes, target: Address) -> bool:
        """Hand a datagram to the kernel; False if it refused it."""
        if target.is_ipv6 == self._address.is_ipv6:
            try:
                self._socket.sendto(datagram, target)
            except OSError:
                pass
            else:
                self._sent += 1
                return True
        self._refused += 1
        return False

    def statistics(self) -> SocketStatistics:
        """Give the counts."""
        return SocketStatistics(
            received=self._received,
            sent=self._sent,
            refused=self._refused,
            errors_heard=self._errors_heard,
        )

    def _drain(self) -> list[tuple[bytes, Address]]:
        batch: list[tuple[bytes, Address]] = []
        for _ in range(DATAGRAMS_PER_TURN_MAX):
            try:
                datagram, source = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError:
                self._errors_heard += 1
            else:
                batch.append((datagram, _address(source)))
        return batch


class KernelNetwork:
    """The machine's own network."""

    @asynccontextmanager
    async def open_udp(self, local: Address) -> AsyncIterator[KernelSocket]:
        """Bind a UDP socket, closed on the way out. Raises `OSError` as `bind` does."""
        family = socket.AF_INET6 if local.is_ipv6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as bound:
            bound.setblocking(False)
            _configure(bound)
            bound.bind(local)
            try:
                yield KernelSocket(bound)
            finally:
                trio.lowlevel.notify_closing(bound)

    def local_hosts(self) -> Sequence[str]:
        """Give the IP addresses of this machine, most useful for calls first.

        Public before private, IPv4 before IPv6, loopback last; link-local IPv6
        addresses are left out (they mean nothing without an interface).
        """
        hosts = [
            ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            for adapter in ifaddr.get_adapters()
            for ip in adapter.ips
        ]
        useful = {host: None for host in hosts if _usefulness(host) is not None}
        return sorted(useful, key=lambda host: _usefulness(host) or 0)[:LOCAL_HOSTS_MAX]


def _usefulness(host: str) -> int | None:
    """Rank an address of our own, 0 the most useful; None is of no use."""
    ip = ipaddress.ip_address(host)
    if ip.version == 6 and ip.is_link_local:
        return None
    if ip.is_loopback:
        return 40 + ip.version
    if ip.is_link_local:
        return 30
    return (10 if ip.is_global else 20) + ip.version


def _configure(bound: socket.socket) -> None:
    """Never fragment, and hold what arrives while the program is busy."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        bound.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if sys.platform == "linux":
        level, option = (
            (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
            if bound.family == socket.AF_INET6
            else (socket.IPPROTO_IP, _IP_MTU_DISCOVER)
        )
        bound.setsockopt(level, option, _IP_PMTUDISC_DO)


def _address(name: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    return Address(name[0], name[1])
