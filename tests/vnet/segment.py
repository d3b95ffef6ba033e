"""Where addresses reach each other directly: the public Internet, or one LAN.

      segment
------+---------+------
 wire |         | wire        a wire is two links, up and down;
    host     router           a node without wire to a target's address
                | wire        is asked to pass on (gateway) or nobody is
------+---------+------
    LAN segment
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

from tests.vnet.ledger import Fate
from tests.vnet.link import Link, LinkQuality
from tests.vnet.run import Datagram, Run

__all__ = ["Node", "Segment", "Wire"]

IN_FLIGHT_MAX: Final = 200_000
# 100 hosts x 50 packets/s x 1 s would be 5,000; this many is a flood.


class Node(Protocol):
    """What hangs on a segment."""

    @property
    def name(self) -> str:
        """The name it has in sightings and cuts."""
        ...

    def arrive(self, datagram: Datagram, wire: Wire) -> None:
        """Take what came down this wire."""
        ...


class Wire:
    """What connects one node with one segment, from its being laid to its removal."""

    def __init__(
        self, run: Run, node: Node, segment: Segment, quality: LinkQuality
    ) -> None:
        self.node: Final = node
        self.segment: Final = segment
        self.up: Final = Link(quality, run.random)
        self.down: Final = Link(quality, run.random)
        self._run = run

    def set_quality(self, quality: LinkQuality) -> None:
        """Change both directions; what is under way arrives as it was to."""
        self.up.quality = self.down.quality = quality

    def cut(self) -> None:
        """Let nothing pass until healed; what is under way still arrives."""
        self.up.is_cut = self.down.is_cut = True

    def heal(self) -> None:
        """Let everything pass again."""
        self.up.is_cut = self.down.is_cut = False

    def send(self, datagram: Datagram) -> None:
        """Send from the node to the segment."""
        self._pass(self.up, datagram, partial(self.segment.carry, sender=self))

    def deliver(self, datagram: Datagram) -> None:
        """Send from the segment to the node."""
        self._pass(self.down, datagram, partial(self.node.arrive, wire=self))

    def _pass(
        self, link: Link, datagram: Datagram, arrive: Callable[[Datagram], None]
    ) -> None:
        clock = self._run.clock
        now = clock.now_s
        transits = link.transits(datagram.payload, now)
        if isinstance(transits, Fate):
            self._run.report(transits, self.node.name, datagram)
            return
        for at_s, payload in transits:
            copy = datagram
            if payload is not datagram.payload:
                copy = datagram._replace(payload=payload)
            if at_s <= now:
                arrive(copy)
            elif clock.events_ahead < IN_FLIGHT_MAX:
                clock.plan(at_s, partial(arrive, copy))
            else:
                self._run.report(Fate.LINK_FULL, self.node.name, copy)


class Segment:
    """One place of addresses, with a wire to the node of each."""

    def __init__(self, run: Run, name: str, free_hosts: Iterator[str]) -> None:
        self.name: Final = name
        self.gateway: Wire | None = None
        self._run = run
        self._wires: dict[str, Wire] = {}
        self._free_hosts = free_hosts
        self._cuts: set[tuple[str, str]] = set()

    def attach(self, host: str, wire: Wire) -> None:
        """Have what is sent to this IP address delivered by this wire."""
        if host in self._wires:
            raise ValueError(f"{host} is taken by {self._wires[host].node.name}")
        self._wires[host] = wire

    def detach(self, host: str) -> None:
        """Have nobody at this IP address any more."""
        del self._wires[host]

    def allot(self) -> str:
        """Give an IP address that nobody has."""
        return next(host for host in self._free_hosts if host not in self._wires)

    def cut(self, source: str, target: str) -> None:
        """Let nothing from one node to another pass; they hang on this segment."""
        self._cuts.add((source, target))

    def heal(self, source: str, target: str) -> None:
        """Undo `cut`."""
        self._cuts.discard((source, target))

    def heal_all(self) -> None:
        """Undo every `cut`."""
        self._cuts.clear()

    def carry(self, datagram: Datagram, sender: Wire) -> None:
        """Take what came up a wire, and send it down the right one."""
        wire = self._wires.get(datagram.target.host, self.gateway)
        if wire is None or wire is sender:
            self._run.report(Fate.UNROUTABLE, self.name, datagram)
        elif (sender.node.name, wire.node.name) in self._cuts:
            self._run.report(Fate.PARTITIONED, self.name, datagram)
        else:
            wire.deliver(datagram)
