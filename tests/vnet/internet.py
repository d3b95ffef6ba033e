"""The virtual internet: hosts and routers by name, and what a test can do to them.

    internet = Internet(seed)
    alice = internet.add_host("alice")                    # public, 20.0.0.1
    home = internet.add_router("home", "port-restricted") # its NAT, 20.1.0.1
    bob = internet.add_host("bob", behind=home)           # 192.168.1.2

Every wire has a `LinkQuality`. Unless told otherwise those of the public Internet have
20 ms (40 ms between two hosts, 80 ms there and back), those of a LAN none. Addresses
are chosen if not given: public ones each in a /16 of their own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Final

from nat.model import BEHAVIOURS, Behaviour, Nat
from tests.vnet.host import Host
from tests.vnet.ledger import Fate, Ledger, Observer
from tests.vnet.link import LinkQuality
from tests.vnet.router import Router
from tests.vnet.run import Run
from tests.vnet.segment import Segment, Wire

__all__ = ["INTERNET_QUALITY", "LAN_QUALITY", "Internet"]

INTERNET_QUALITY: Final = LinkQuality(delay_s=0.020)
LAN_QUALITY: Final = LinkQuality()


class Internet:
    """One internet, made empty from a seed."""

    def __init__(self, seed: int) -> None:
        self.run: Final = Run(seed)
        self.public: Final = Segment(self.run, "internet", _public_hosts())
        self.hosts: dict[str, Host] = {}
        self.routers: dict[str, Router] = {}

    def add_host(
        self,
        name: str,
        *hosts: str,
        behind: Router | None = None,
        quality: LinkQuality | None = None,
    ) -> Host:
        """Add a host with these IP addresses, or one that is free there."""
        self._check_new(name)
        host = self.hosts[name] = Host(self.run, name)
        self.attach(host, *hosts, behind=behind, quality=quality)
        return host

    def add_router(
        self,
        name: str,
        nat: str | Behaviour | None,
        *hosts: str,
        inside: str = "192.168.1.0/24",
        behind: Router | None = None,
        quality: LinkQuality | None = None,
        firewall: str | Behaviour = "port-restricted",
    ) -> Router:
        """Add a router: its kind of NAT, external IP addresses, network inside.

        `None` for `nat` makes it a firewall. `firewall` is what IPv6, and IPv4 without
        a NAT, pass; only the filtering and the timeout of that behaviour matter.
        """
        self._check_new(name)
        outside = self._segment(behind)
        model = None
        if nat is not None:
            external = hosts or (outside.allot(),)
            model = Nat(_behaviour(nat), external, self.run.random.randbytes)
        elif hosts:
            raise ValueError(f"{hosts}: a router without NAT has no external addresses")
        router = self.routers[name] = Router(
            self.run,
            name,
            outside,
            Segment(self.run, f"{name}-inside", _hosts_of(inside)),
            quality or self._usual_quality(behind),
            nat=model,
            firewall=_behaviour(firewall),
        )
        return router

    def attach(
        self,
        host: Host,
        *hosts: str,
        behind: Router | None = None,
        quality: LinkQuality | None = None,
    ) -> Wire:
        """Give a host one wire more, with these IP addresses or a free one."""
        segment = self._segment(behind)
        quality = quality or self._usual_quality(behind)
        wire = Wire(self.run, host, segment, quality)
        for given in hosts or (segment.allot(),):
            ip = str(ipaddress.ip_address(given))
            segment.attach(ip, wire)
            host.attach(ip, wire)
            for router in self._way_out(segment):
                router.route(ip)
        return wire

    def detach(self, host: Host, ip: str) -> None:
        """Take an IP address away from a host, as when it leaves a network."""
        segment = host.detach(ip).segment
        segment.detach(ip)
        for router in self._way_out(segment):
            router.unroute(ip)

    def observe(self, observer: Observer) -> None:
        """Have `observer` called with every `Sighting`; see `Run.observe`."""
        self.run.observe(observer)

    @property
    def ledger(self) -> Ledger:
        """What became of every datagram, and the bytes between every two addresses."""
        return self.run.ledger

    def dropped(self, fate: Fate) -> int:
        """Give how many datagrams ended like this."""
        return self.ledger.fates[fate]

    def at(self, delay_s: float, change: Callable[[], None]) -> None:
        """Have something done to the internet in `delay_s` from now."""
        self.run.clock.plan(self.run.clock.now_s + delay_s, change)

    def cut(self, one: Host | Router, other: Host | Router) -> None:
        """Let nothing pass from `one` to `other` where their ways meet.

        For two nodes behind NATs that is between their routers. One direction only.
        """
        segment, source, target = self._meeting(one, other)
        segment.cut(source, target)

    def heal(self, one: Host | Router, other: Host | Router) -> None:
        """Undo `cut`."""
        segment, source, target = self._meeting(one, other)
        segment.heal(source, target)

    def partition(self, *groups: list[Host | Router]) -> None:
        """Cut every two nodes of different groups off from each other."""
        for group in groups:
            for other in groups:
                if group is not other:
                    for one in group:
                        for another in other:
                            self.cut(one, another)

    def heal_all(self) -> None:
        """Undo every cut between nodes, not those of wires."""
        self.public.heal_all()
        for router in self.routers.values():
            router.inside.heal_all()

    def _check_new(self, name: str) -> None:
        if name in self.hosts or name in self.routers:
            raise ValueError(f"{name!r} is there already")

    def _segment(self, behind: Router | None) -> Segment:
        return behind.inside if behind else self.public

    def _usual_quality(self, behind: Router | None) -> LinkQuality:
        return LAN_QUALITY if behind else INTERNET_QUALITY

    def _way_out(self, segment: Segment) -> Iterator[Router]:
        while segment.gateway:
            router = segment.gateway.node
            assert isinstance(router, Router)
            yield router
            segment = router.wire.segment

    def _meeting(
        self, one: Host | Router, other: Host | Router
    ) -> tuple[Segment, str, str]:
        """Give the innermost segment of both, and by whose wires they are on it."""
        names = dict(self._way(one))
        for segment, name in self._way(other):
            if segment in names:
                return segment, names[segment], name
        raise AssertionError(f"{one.name} and {other.name} are on no common segment")

    def _way(self, node: Host | Router) -> Iterator[tuple[Segment, str]]:
        yield node.wire.segment, node.name
        for router in self._way_out(node.wire.segment):
            yield router.wire.segment, router.name


def _behaviour(nat: str | Behaviour) -> Behaviour:
    if isinstance(nat, Behaviour):
        return nat
    if nat not in BEHAVIOURS:
        raise ValueError(f"NAT {nat!r}: expected one of {', '.join(BEHAVIOURS)}")
    return BEHAVIOURS[nat]


def _public_hosts() -> Iterator[str]:
    for network in range(20 << 8, 60 << 8):
        yield f"{network >> 8}.{network & 0xFF}.0.1"


def _hosts_of(network: str) -> Iterator[str]:
    hosts = ipaddress.ip_network(network).hosts()
    next(hosts)  # the router's own
    return (str(host) for host in hosts)
