"""A NAT: the one pure model of address translation under every emulated network.

RFC 4787 describes a NAT by two independent behaviours, and so are they kept here, as
two tables with nothing in common but their clock:

    outbound X:x -> Y:y                           inbound Y:y -> W:w

    MAPPING: which external endpoint W:w?         MAPPING: whose is W:w?  nobody's: drop
      EIM  one for each X:x                          |
      ADM  one for each X:x and Y                    v
      APDM one for each X:x and Y:y               FILTERING: may Y:y send to W:w?
        |                                           EIF  anybody
        v                                           ADF  if W:w has sent to Y
    FILTERING: note that W:w has sent to Y:y        APDF if W:w has sent to Y:y
        |                                            |
        v                                            v
    W:w -> Y:y                                    Y:y -> X:x

*Allocation* chooses the port of a new mapping: the internal one where it is free, else
the next free port above it (preserving); a fixed step after the port given out last
(sequential); any (random). Two mappings never share an external endpoint: a second
mapping of one X:x under preserving allocation therefore gets another port. A pool of
external hosts is shared out by internal host (paired) or by mapping (arbitrary).

Both tables forget an entry `timeout_s` after it was last refreshed. Outbound datagrams
refresh (RFC 4787 REQ-6), inbound ones only where `inbound_refreshes` says so. There is
no timer: the tables forget when they are next asked, so `now` must never run backwards.

To *hairpin* is to reach another internal host by its external endpoint. Whoever moves
the datagrams passes one whose target is an external host through `outbound` and then,
with the source that gave, through `inbound`; a NAT that does not hairpin answers None.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar, assert_never

from nat.address import Address

__all__ = [
    "BEHAVIOURS",
    "AllocationRule",
    "Behaviour",
    "FilteringRule",
    "MappingRule",
    "Nat",
    "NatStatistics",
]

TIMEOUT_S: Final = 120.0
# RFC 4787 REQ-5: a UDP mapping must not expire in less than two minutes.
MAPPINGS_MAX: Final = 16_384
# A busy home router's; below half of the ports, so that any odd step finds a free one.
PERMISSIONS_MAX: Final = 65_536
# The default of Linux's nf_conntrack_max on a small machine.
PORT_MIN: Final = 1_024
PORTS: Final = 65_536 - PORT_MIN
# RFC 4787 REQ-3: the well-known ports are given out only to those who hold them.


class MappingRule(Enum):
    """For which targets an internal endpoint keeps its external one (RFC 4787 §4.1)."""

    ENDPOINT_INDEPENDENT = "EIM"
    ADDRESS_DEPENDENT = "ADM"
    ADDRESS_AND_PORT_DEPENDENT = "APDM"


class FilteringRule(Enum):
    """Who may send in through a mapping (RFC 4787 §5)."""

    ENDPOINT_INDEPENDENT = "EIF"
    ADDRESS_DEPENDENT = "ADF"
    ADDRESS_AND_PORT_DEPENDENT = "APDF"


class AllocationRule(Enum):
    """Which external port a new mapping gets (RFC 4787 §4.2)."""

    PRESERVING = "preserving"
    SEQUENTIAL = "sequential"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What kind of NAT it is. `step` matters to sequential allocation only."""

    mapping: MappingRule
    filtering: FilteringRule
    allocation: AllocationRule = AllocationRule.PRESERVING
    step: int = 1
    timeout_s: float = TIMEOUT_S
    hairpin: bool = False
    inbound_refreshes: bool = False
    paired: bool = True

    def __post_init__(self) -> None:
        if self.step == 0:
            raise ValueError("step 0: expected a distance between two ports")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s {self.timeout_s}: expected more than 0")


EIM, ADM, APDM = MappingRule
EIF, ADF, APDF = FilteringRule

BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    "full-cone": Behaviour(EIM, EIF),
    "address-restricted": Behaviour(EIM, ADF),
    "port-restricted": Behaviour(EIM, APDF),
    "home": Behaviour(EIM, APDF),
    "home-shuffled": Behaviour(EIM, APDF, AllocationRule.RANDOM),
    "address-dependent": Behaviour(ADM, APDF, AllocationRule.RANDOM),
    "symmetric-sequential": Behaviour(APDM, APDF, AllocationRule.SEQUENTIAL),
    "symmetric-random": Behaviour(APDM, APDF, AllocationRule.RANDOM),
    "carrier": Behaviour(EIM, APDF, AllocationRule.RANDOM, hairpin=True),
}
# The kinds that tests and meshes name. `home` is what most people have; `carrier` is
# RFC 6888's demand: endpoint-independent, paired and hairpinning.


@dataclass(frozen=True, slots=True)
class NatStatistics:
    """What one NAT holds now, and what it has refused since it was made."""

    mappings: int
    permissions: int
    unmapped: int
    filtered: int
    hairpins_refused: int
    exhausted: int


Remote = Address | str | None
# As much of a target as a rule looks at: the endpoint, the host, or nothing.


class Nat:
    """One NAT, from its power-up on.

    `external_hosts` are its own addresses, `random_bytes` the source of random ports.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        external_hosts: Sequence[str],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        if not external_hosts:
            raise ValueError("external_hosts is empty: expected at least one address")
        self.behaviour: Final = behaviour
        self.external_hosts = tuple(external_hosts)
        self._random_bytes = random_bytes
        self._last_port = self._random_port()
        self._mappings: _Table[tuple[Address, Remote], Address] = _Table(
            behaviour.timeout_s, MAPPINGS_MAX
        )
        self._owners: dict[Address, tuple[Address, Remote]] = {}
        self._permissions: _Table[tuple[Address, Remote], None] = _Table(
            behaviour.timeout_s, PERMISSIONS_MAX
        )
        self._spent: frozenset[Address] = frozenset()
        self._unmapped = 0
        self._filtered = 0
        self._hairpins_refused = 0
        self._exhausted = 0

    def outbound(self, source: Address, target: Address, now: float) -> Address | None:
        """Send from the inside: give the external source, and open the way back.

        None if a table or the ports are exhausted: the datagram is dropped.
        """
        self._forget(now)
        key = (source, self._mapped_remote(target))
        external = self._mappings.get(key)
        if external is None and not self._mappings.is_full:
            external = self._allocate(source)
        if external is None:
            self._exhausted += 1
            return None
        self._owners[external] = key
        self._mappings.refresh(key, external, now)
        permission = (external, self._permitted_remote(target))
        if permission not in self._permissions and self._permissions.is_full:
            self._exhausted += 1
            return None
        self._permissions.refresh(permission, None, now)
        return external

    def inbound(self, source: Address, target: Address, now: float) -> Address | None:
        """Send from the outside to an external endpoint: give the internal target.

        None if nobody holds that endpoint, or this source may not send to it.
        """
        self._forget(now)
        key = self._owners.get(target)
        if key is None:
            self._unmapped += 1
            return None
        permission = (target, self._permitted_remote(source))
        if permission not in self._permissions:
            self._filtered += 1
            return None
        if source.host in self.external_hosts and not self.behaviour.hairpin:
            self._hairpins_refused += 1
            return None
        if self.behaviour.inbound_refreshes:
            self._mappings.refresh(key, target, now)
            self._permissions.refresh(permission, None, now)
        return key[0]

    def rebind(self, external_hosts: Sequence[str] | None = None) -> None:
        """Forget everything, as after a power cut; maybe come back on other hosts.

        No endpoint held just before is given out again until the next `rebind`, so that
        every internal endpoint moves, also under preserving allocation.
        """
        self._spent = frozenset(self._owners)
        self._mappings.clear()
        self._permissions.clear()
        self._owners.clear()
        if external_hosts:
            self.external_hosts = tuple(external_hosts)

    def statistics(self) -> NatStatistics:
        """Give the counts; what has timed out since the last datagram is included."""
        return NatStatistics(
            mappings=len(self._mappings),
            permissions=len(self._permissions),
            unmapped=self._unmapped,
            filtered=self._filtered,
            hairpins_refused=self._hairpins_refused,
            exhausted=self._exhausted,
        )

    def _forget(self, now: float) -> None:
        for external in self._mappings.forget(now):
            del self._owners[external]
        self._permissions.forget(now)

    def _mapped_remote(self, target: Address) -> Remote:
        match self.behaviour.mapping:
            case MappingRule.ENDPOINT_INDEPENDENT:
                return None
            case MappingRule.ADDRESS_DEPENDENT:
                return target.host
            case MappingRule.ADDRESS_AND_PORT_DEPENDENT:
                return target
            case rule:
                assert_never(rule)

    def _permitted_remote(self, target: Address) -> Remote:
        match self.behaviour.filtering:
            case FilteringRule.ENDPOINT_INDEPENDENT:
                return None
            case FilteringRule.ADDRESS_DEPENDENT:
                return target.host
            case FilteringRule.ADDRESS_AND_PORT_DEPENDENT:
                return target
            case rule:
                assert_never(rule)

    def _allocate(self, source: Address) -> Address | None:
        host = self._external_host(source.host)
        for port in self._ports_to_try(source.port):
            external = Address(host, port)
            if external not in self._owners and external not in self._spent:
                self._last_port = port
                return external
        return None

    def _external_host(self, internal_host: str) -> str:
        if self.behaviour.paired:
            index = zlib.crc32(internal_host.encode())
        else:
            index = int.from_bytes(self._random_bytes(4), "big")
        return self.external_hosts[index % len(self.external_hosts)]

    def _ports_to_try(self, internal_port: int) -> Iterator[int]:
        match self.behaviour.allocation:
            case AllocationRule.PRESERVING:
                yield internal_port
                yield from _ports_from(internal_port + 1, step=1)
            case AllocationRule.SEQUENTIAL:
                step = self.behaviour.step
                yield from _ports_from(self._last_port + step, step)
            case AllocationRule.RANDOM:
                yield from _ports_from(self._random_port(), step=1)
            case rule:
                assert_never(rule)

    def _random_port(self) -> int:
        return PORT_MIN + int.from_bytes(self._random_bytes(4), "big") % PORTS


def _ports_from(first: int, step: int) -> Iterator[int]:
    for index in range(PORTS):
        yield PORT_MIN + (first - PORT_MIN + index * step) % PORTS


K = TypeVar("K")
V = TypeVar("V")


class _Table(Generic[K, V]):
    """A dict that forgets what was not refreshed for `timeout_s`.

    All entries live equally long, so that in order of refreshing is in order of expiry.
    """

    def __init__(self, timeout_s: float, entries_max: int) -> None:
        self._timeout_s = timeout_s
        self._entries_max = entries_max
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= self._entries_max

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        return entry[0] if entry else None

    def refresh(self, key: K, value: V, now: float) -> None:
        self._entries[key] = (value, now + self._timeout_s)
        self._entries.move_to_end(key)

    def forget(self, now: float) -> list[V]:
        forgotten = []
        while self._entries:
            key, (value, expires_at) = next(iter(self._entries.items()))
            if now < expires_at:
                break
            del self._entries[key]
            forgotten.append(value)
        return forgotten

    def clear(self) -> None:
        self._entries.clear()
