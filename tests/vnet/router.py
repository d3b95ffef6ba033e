"""A router: a segment of its own behind one wire, and a NAT or a firewall between.

IPv4 is translated if the router has a `Nat`. Everything else is routed as it is and
passes a firewall, which is a NAT that translates an address into itself: one such for
each routed address behind the router. Carrier-grade NAT is a router behind a router.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nat.model import Behaviour, Nat
from tests.vnet.ledger import Fate
from tests.vnet.link import LinkQuality
from tests.vnet.run import Datagram, Run
from tests.vnet.segment import Segment, Wire

__all__ = ["Router"]


class Router:
    """One router, with what it knows of flows."""

    def __init__(
        self,
        run: Run,
        name: str,
        outside: Segment,
        inside: Segment,
        quality: LinkQuality,
        *,
        nat: Nat | None,
        firewall: Behaviour,
    ) -> None:
        self.name: Final = name
        self.nat: Final = nat
        self.inside: Final = inside
        self.wire: Final = Wire(run, self, outside, quality)
        self._inner = Wire(run, self, inside, LinkQuality())
        self._run = run
        self._firewall = firewall
        self._firewalls: dict[str, Nat] = {}
        inside.gateway = self._inner
        for host in self.external_hosts:
            outside.attach(host, self.wire)

    @property
    def external_hosts(self) -> Sequence[str]:
        """The IP addresses of its own on the outside."""
        return self.nat.external_hosts if self.nat else ()

    def route(self, host: str) -> None:
        """Route this IP address to the inside, if it is not one to translate."""
        if self.nat is None or ":" in host:
            self._firewalls[host] = Nat(
                self._firewall, (host,), self._run.random.randbytes
            )
            self.wire.segment.attach(host, self.wire)

    def unroute(self, host: str) -> None:
        """Undo `route`."""
        if self._firewalls.pop(host, None):
            self.wire.segment.detach(host)

    def rebind(self, external_hosts: Sequence[str] | None = None) -> None:
        """Lose every mapping, as by a power cut; come back on other ports, or hosts."""
        assert self.nat, f"{self.name} has no NAT"
        for host in self.nat.external_hosts:
            self.wire.segment.detach(host)
        self.nat.rebind(external_hosts)
        for host in self.nat.external_hosts:
            self.wire.segment.attach(host, self.wire)

    def arrive(self, datagram: Datagram, wire: Wire) -> None:
        """Pass on what came from either side, or report why not."""
        datagram = datagram._replace(hops_left=datagram.hops_left - 1)
        if datagram.hops_left <= 0:
            self._run.report(Fate.HOPS_EXCEEDED, self.name, datagram)
        elif wire is self._inner:
            self._leave(datagram)
        else:
            self._enter(datagram)

    def _leave(self, datagram: Datagram) -> None:
        nat = self._firewalls.get(datagram.source.host, self.nat)
        if nat is None or datagram.source.is_ipv6 != datagram.target.is_ipv6:
            self._run.report(Fate.UNROUTABLE, self.name, datagram)
            return
        source = nat.outbound(datagram.source, datagram.target, self._run.clock.now_s)
        if source is None:
            self._run.report(Fate.NAT_EXHAUSTED, self.name, datagram)
            return
        datagram = datagram._replace(source=source)
        if datagram.target.host in self.external_hosts:
            self._enter(datagram)
        else:
            self.wire.send(datagram)

    def _enter(self, datagram: Datagram) -> None:
        nat = self._firewalls.get(datagram.target.host, self.nat)
        if nat is None:
            self._run.report(Fate.UNROUTABLE, self.name, datagram)
            return
        target = nat.inbound(datagram.source, datagram.target, self._run.clock.now_s)
        if target is None:
            self._run.report(Fate.NAT_FILTERED, self.name, datagram)
            return
        self._inner.send(datagram._replace(target=target))
