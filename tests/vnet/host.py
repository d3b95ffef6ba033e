"""A host of the virtual internet: what production code takes for its `Network`.

`Host` and `Socket` fulfil the protocols of `nat/network.py`, so a node runs unchanged
on them. A host can have several addresses on several wires, its clock can be wrong, and
it can be paused: then its tasks go on, but as for a stopped process nothing that they
send leaves, and what arrives waits in the sockets' buffers.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from nat.address import Address
from tests.vnet.ledger import Fate
from tests.vnet.run import UNIX_EPOCH_OFFSET_S, Datagram, Run
from tests.vnet.segment import Wire

__all__ = ["Host", "Socket"]

RECEIVE_BUFFER_MAX: Final = 256
# Datagrams: what Linux's default buffer of 208 KiB holds of small ones.
RECEIVED_AT_ONCE_MAX: Final = 64
# The bound that `nat.network.DatagramSocket` states.
PAYLOAD_BYTES_MAX: Final = 1_472
# An Ethernet frame's; more would be fragmented, which nobody here may rely on.
HOPS_MAX: Final = 64
# The usual IP_TTL; it ends datagrams that go in circles.
EPHEMERAL_PORTS: Final = range(32_768, 61_000)
# Linux's net.ipv4.ip_local_port_range.

LOOPBACK: Final = {False: "127.0.0.1", True: "::1"}
WILDCARD: Final = {False: "0.0.0.0", True: "::"}
# Each by `Address.is_ipv6`. A socket bound to :: takes IPv6 only.


class Host:
    """One machine, for the whole run; also its network, as production code sees it."""

    def __init__(self, run: Run, name: str) -> None:
        self.name: Final = name
        self.unix_epoch_offset_s = UNIX_EPOCH_OFFSET_S
        self.receive_buffer_max = RECEIVE_BUFFER_MAX
        self._run = run
        self._wires: dict[str, Wire] = {}
        self._sockets: dict[Address, Socket] = {}
        self._paused = False

    def now(self) -> float:
        """Give this host's time: Unix seconds, wrong by what a test has added."""
        return trio.current_time() + self.unix_epoch_offset_s

    def random_bytes(self, size: int) -> bytes:
        """Give random bytes; the same ones in every run with this seed."""
        return self._run.random.randbytes(size)

    def local_hosts(self) -> Sequence[str]:
        """Give the IP addresses of this host, oldest first."""
        return list(self._wires)

    def at(self, port: int) -> Address:
        """Give the first address of this host with a port."""
        return Address(next(iter(self._wires)), port)

    @asynccontextmanager
    async def open_udp(self, local: Address) -> AsyncIterator[Socket]:
        """Bind a socket; port 0 means any free one. Raises `OSError` as `bind` does."""
        await trio.lowlevel.checkpoint()
        socket = Socket(self, self._bindable(local))
        self._sockets[socket.address] = socket
        try:
            yield socket
        finally:
            del self._sockets[socket.address]
            socket.close()

    @property
    def is_paused(self) -> bool:
        """Whether the host is stopped."""
        return self._paused

    def pause(self) -> None:
        """Stop, as by SIGSTOP."""
        self._paused = True

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        for socket in self._sockets.values():
            socket.wake()

    def cut(self) -> None:
        """Pull out every wire."""
        for wire in self._wires.values():
            wire.cut()

    def heal(self) -> None:
        """Plug in every wire."""
        for wire in self._wires.values():
            wire.heal()

    @property
    def wire(self) -> Wire:
        """The wire of the first address: for its quality, or to cut it."""
        return next(iter(self._wires.values()))

    def attach(self, host: str, wire: Wire) -> None:
        """Take an IP address on a wire. Tests use `Internet.attach`."""
        self._wires[host] = wire

    def detach(self, host: str) -> Wire:
        """Give up an IP address. Tests use `Internet.detach`."""
        return self._wires.pop(host)

    def send(self, payload: bytes, local: Address, target: Address) -> bool:
        """Send from a socket bound to `local`; False if there is no way to try."""
        source = self._source(local, target)
        if source is None or len(payload) > PAYLOAD_BYTES_MAX:
            return False
        datagram = Datagram(payload, source, target, self.name, HOPS_MAX)
        if self._paused:
            self.report(Fate.HOST_PAUSED, datagram)
            return True
        self.report(Fate.SENT, datagram)
        if target.host in self._wires or _is_loopback(target.host):
            self._deliver(datagram)
        else:
            self._wires[source.host].send(datagram)
        return True

    def arrive(self, datagram: Datagram, wire: Wire) -> None:
        """Take what came down a wire."""
        if self._wires.get(datagram.target.host) is wire:
            self._deliver(datagram)
        else:
            self.report(Fate.UNROUTABLE, datagram)

    def report(self, fate: Fate, datagram: Datagram) -> None:
        """Report what became of a datagram here."""
        self._run.report(fate, self.name, datagram)

    def _deliver(self, datagram: Datagram) -> None:
        target = datagram.target
        socket = self._sockets.get(target) or self._sockets.get(
            Address(WILDCARD[target.is_ipv6], target.port)
        )
        if socket is None:
            self.report(Fate.PORT_CLOSED, datagram)
        elif socket.put(datagram):
            self.report(Fate.DELIVERED, datagram)
        else:
            self.report(Fate.SOCKET_FULL, datagram)

    def _source(self, local: Address, target: Address) -> Address | None:
        if local.is_ipv6 != target.is_ipv6 or not target.port:
            return None
        if local.host in self._wires or _is_loopback(local.host):
            reachable = _is_loopback(target.host) == _is_loopback(local.host)
            return local if reachable or target.host in self._wires else None
        if local.host != WILDCARD[local.is_ipv6]:
            return None
        if _is_loopback(target.host):
            return Address(LOOPBACK[target.is_ipv6], local.port)
        for host in self._wires:
            if (":" in host) == target.is_ipv6:
                return Address(host, local.port)
        return None

    def _bindable(self, local: Address) -> Address:
        known = (*self._wires, *WILDCARD.values())
        if local.host not in known and not _is_loopback(local.host):
            raise _os_error(errno.EADDRNOTAVAIL, local)
        if local.port:
            if self._is_bound(local):
                raise _os_error(errno.EADDRINUSE, local)
            return local
        start = self._run.random.randrange(len(EPHEMERAL_PORTS))
        for index in range(len(EPHEMERAL_PORTS)):
            port = EPHEMERAL_PORTS[(start + index) % len(EPHEMERAL_PORTS)]
            if not self._is_bound(Address(local.host, port)):
                return Address(local.host, port)
        raise _os_error(errno.EADDRINUSE, local)

    def _is_bound(self, local: Address) -> bool:
        wildcard = WILDCARD[local.is_ipv6]
        return any(
            bound.port == local.port
            and bound.is_ipv6 == local.is_ipv6
            and (wildcard in (bound.host, local.host) or bound.host == local.host)
            for bound in self._sockets
        )


class Socket:
    """A bound UDP socket of a host, until its context is left."""

    def __init__(self, host: Host, address: Address) -> None:
        self._host = host
        self._address = address
        self._buffer: deque[Datagram] = deque()
        self._readers = trio.lowlevel.ParkingLot()
        self._closed = False

    @property
    def address(self) -> Address:
        """The local address, with the port the socket really has."""
        return self._address

    async def receive_many(self) -> Sequence[tuple[bytes, Address]]:
        """Wait for datagrams and give all that are there, oldest first, at most 64.

        A cancelled wait loses nothing. Raises `trio.ClosedResourceError` when closed.
        """
        if self._is_readable:
            await trio.lowlevel.checkpoint()
        while not self._is_readable:
            if self._closed:
                raise trio.ClosedResourceError(f"{self._address} is closed")
            await self._readers.park()
        count = min(len(self._buffer), RECEIVED_AT_ONCE_MAX)
        taken = [self._buffer.popleft() for _ in range(count)]
        self.wake()
        return [(datagram.payload, datagram.source) for datagram in taken]

    def send_nowait(self, datagram: bytes, target: Address) -> bool:
        """Send; False if refused: no route, wrong family, too large, or closed."""
        if self._closed:
            return False
        return self._host.send(bytes(datagram), self._address, target)

    def put(self, datagram: Datagram) -> bool:
        """Buffer what arrived; False if the buffer is full."""
        if len(self._buffer) >= self._host.receive_buffer_max:
            return False
        self._buffer.append(datagram)
        self.wake()
        return True

    def wake(self) -> None:
        """Let one more reader look, if there is something to see."""
        if self._is_readable:
            self._readers.unpark()

    def close(self) -> None:
        """Drop what was not read, and turn away those who wait."""
        self._closed = True
        self._buffer.clear()
        self._readers.unpark_all()

    @property
    def _is_readable(self) -> bool:
        return bool(self._buffer) and not self._host.is_paused


def _is_loopback(host: str) -> bool:
    return host == "::1" or host.startswith("127.")


def _os_error(code: int, local: Address) -> OSError:
    return OSError(code, f"{os.strerror(code)}: {local}")
