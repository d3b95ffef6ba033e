"""What a node needs of the network it sits on, as two protocols.

Production code gets `nat.udp.KernelNetwork`; tests hand it a host of the virtual
internet (`tests/vnet`). Nothing else in Koe opens a datagram socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from nat.address import Address

__all__ = ["DatagramSocket", "Network"]


class DatagramSocket(Protocol):
    """A bound UDP socket. Who opened it closes it, by leaving its context."""

    @property
    def address(self) -> Address:
        """The local address, with the port the socket really has."""
        ...

    async def receive_many(self) -> Sequence[tuple[bytes, Address]]:
        """Wait for datagrams and give all that are there, oldest first, at most 64.

        Each is the payload and its source. A cancelled wait loses nothing. ICMP errors
        do not surface here.
        """
        ...

    def send_nowait(self, datagram: bytes, target: Address) -> bool:
        """Hand a datagram to the network; False if the network refused it.

        A refusal (full buffer, no route, wrong family) drops this datagram only, and is
        counted by the caller; it never raises `OSError`.
        """
        ...


class Network(Protocol):
    """The machine's network: sockets, and the addresses they can be bound to."""

    def open_udp(self, local: Address) -> AbstractAsyncContextManager[DatagramSocket]:
        """Bind a UDP socket; port 0 lets the network choose.

        Raises `OSError` as `bind` does (`EADDRINUSE`, `EADDRNOTAVAIL`).
        """
        ...

    def local_hosts(self) -> Sequence[str]:
        """Give the IP addresses of this machine, most useful for calls first."""
        ...
