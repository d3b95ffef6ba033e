"""A virtual internet in virtual time: hosts, wires, NATs, faults; replayed by seed.

    from tests.vnet import Internet, simulate

    @simulate(seeds=range(20), limit_s=60)
    async def test_a_datagram_takes_40_ms(internet: Internet) -> None:
        alice, bob = internet.add_host("alice"), internet.add_host("bob")
        async with (
            alice.open_udp(alice.at(7000)) as ours,
            bob.open_udp(bob.at(7000)) as theirs,
        ):
            ours.send_nowait(b"hello", theirs.address)
            assert await theirs.receive_many() == [(b"hello", ours.address)]
            assert trio.current_time() == pytest.approx(0.040)

A `Host` is a `nat.network.Network`: production code runs on it unchanged.
"""

from __future__ import annotations

from tests.vnet.host import Host, Socket
from tests.vnet.internet import INTERNET_QUALITY, LAN_QUALITY, Internet
from tests.vnet.ledger import Fate, Ledger, Sighting, Tally
from tests.vnet.link import LinkQuality
from tests.vnet.router import Router
from tests.vnet.simulate import simulate

__all__ = [
    "INTERNET_QUALITY",
    "LAN_QUALITY",
    "Fate",
    "Host",
    "Internet",
    "Ledger",
    "LinkQuality",
    "Router",
    "Sighting",
    "Socket",
    "Tally",
    "simulate",
]
