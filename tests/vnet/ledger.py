"""The record of a run: what became of every datagram, and who owes whom bytes.

A datagram is *sighted* when its sender hands it over, and at each end it comes to: once
for the delivery of each copy, or with the cause of its loss. The trace is a hash over
all sightings with their instants, so that two runs are the same exactly if their traces
are.

Per host and remote address the ledger keeps both directions. The rule that no node
may break towards an address which has not proved itself: at no moment more bytes out
than in. `excess_bytes_max` is the most by which it ever did.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from nat.address import Address

__all__ = ["Fate", "Ledger", "Observer", "Sighting", "Tally"]


class Fate(Enum):
    """What happened to a datagram at one place; all but the first two end it."""

    SENT = "sent"
    DELIVERED = "delivered"
    LINK_CUT = "link cut"
    LINK_FULL = "link full"
    LOST = "lost"
    PARTITIONED = "partitioned"
    UNROUTABLE = "unroutable"
    HOPS_EXCEEDED = "hops exceeded"
    NAT_EXHAUSTED = "NAT exhausted"
    NAT_FILTERED = "NAT filtered"
    PORT_CLOSED = "port closed"
    SOCKET_FULL = "socket full"
    HOST_PAUSED = "host paused"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One datagram at one place and instant, with the endpoints it has there.

    `place` is the name of a host, router or segment; `origin` of the sending host.
    """

    at_s: float
    fate: Fate
    place: str
    origin: str
    source: Address
    target: Address
    payload: bytes


Observer = Callable[[Sighting], None]


@dataclass(slots=True)
class Tally:
    """What one host and one remote address have sent each other, payload bytes."""

    datagrams_out: int = 0
    datagrams_in: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    excess_bytes_max: int = 0


class Ledger:
    """The record of one run."""

    def __init__(self) -> None:
        self.fates: Counter[Fate] = Counter()
        self._tallies: dict[tuple[str, Address], Tally] = {}
        self._trace = hashlib.blake2b(digest_size=16)

    def record(self, sighting: Sighting) -> None:
        """Take down one sighting."""
        self.fates[sighting.fate] += 1
        line = (
            f"{sighting.at_s!r} {sighting.fate.value} {sighting.place} "
            f"{sighting.origin} {sighting.source} {sighting.target} "
        )
        self._trace.update(line.encode() + sighting.payload)
        size = len(sighting.payload)
        if sighting.fate is Fate.SENT:
            tally = self._tally(sighting.place, sighting.target)
            tally.datagrams_out += 1
            tally.bytes_out += size
            excess = tally.bytes_out - tally.bytes_in
            tally.excess_bytes_max = max(tally.excess_bytes_max, excess)
        elif sighting.fate is Fate.DELIVERED:
            tally = self._tally(sighting.place, sighting.source)
            tally.datagrams_in += 1
            tally.bytes_in += size

    def trace(self) -> str:
        """Give the hash of all sightings so far, in hexadecimal."""
        return self._trace.hexdigest()

    def tally(self, host_name: str, remote: Address) -> Tally:
        """Give what this host and this remote address, as it sees it, exchanged."""
        return self._tallies.get((host_name, remote), Tally())

    def remotes(self, host_name: str) -> list[Address]:
        """Give every remote address this host sent to or heard from."""
        return [remote for name, remote in self._tallies if name == host_name]

    def assert_no_amplification(
        self, host_name: str, remote: Address, granted_bytes: int = 0
    ) -> None:
        """Assert that this host never owed more than `granted_bytes` to `remote`."""
        tally = self.tally(host_name, remote)
        assert tally.excess_bytes_max <= granted_bytes, (
            f"{host_name} sent {remote} up to {tally.excess_bytes_max} bytes more than "
            f"it had received from there, expected at most {granted_bytes}: {tally}"
        )

    def _tally(self, host_name: str, remote: Address) -> Tally:
        key = (host_name, remote)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        return tally
