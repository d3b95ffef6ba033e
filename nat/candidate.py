"""Addresses at which a node might be reached. The one user of `aioice.candidate`.

A candidate travels as the text of RFC 8839 §5.1, without the related address (which
would tell the peer more than it needs):

    foundation 1 udp priority host port typ kind

    6b0a4c8e 1 udp 2130706431 192.0.2.7 41641 typ host

Only UDP, component 1 and IP literals are taken: a peer that could name hosts could make
us ask its DNS. Addresses nobody can be reached at (unspecified, multicast, broadcast,
port 0) are refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aioice import candidate as wire

from nat.address import Address
from nat.errors import WireError

__all__ = ["CANDIDATES_MAX", "Candidate", "CandidateKind", "check_priority", "order"]

CANDIDATES_MAX: Final = 8
# Probes go to each of them: more would make a node a weapon against third addresses.
PRIORITY_MAX: Final = 2**31 - 1
# RFC 8445 §5.1.2.
TEXT_CHARACTERS_MAX: Final = 256
# The longest form has 131: foundation 32, priority 10, an IPv6 address with port 45.

_FOUNDATION: Final = re.compile(r"[A-Za-z0-9+/]{1,32}")
_COMPONENT: Final = 1
_LOCAL_PREFERENCE_MAX: Final = 65_535


class CandidateKind(StrEnum):
    """How an address was learnt; the value is its name on the wire."""

    HOST = "host"  # an address of the machine itself
    REFLEXIVE = "srflx"  # seen by a supernode
    PEER_REFLEXIVE = "prflx"  # seen by the peer, in a check
    RELAYED = "relay"  # a relay's


@dataclass(frozen=True, slots=True)
class Candidate:
    """One address to try, and how promising it is."""

    kind: CandidateKind
    address: Address
    priority: int
    foundation: str

    @classmethod
    def of(cls, kind: CandidateKind, address: Address, rank: int = 0) -> Candidate:
        """Make a candidate of our own; the more useful an address, the lower its rank.

        Priority and foundation follow RFC 8445 §5.1.2.1 and §5.1.1.3.
        """
        priority = wire.candidate_priority(
            _COMPONENT, str(kind), max(0, _LOCAL_PREFERENCE_MAX - rank)
        )
        foundation = wire.candidate_foundation(str(kind), "udp", address.host)
        return cls(kind, address, priority, foundation)

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """Read the text form. Raises `WireError`."""
        if len(text) > TEXT_CHARACTERS_MAX:
            raise WireError(f"a candidate of {len(text)} characters")
        try:
            parsed = wire.Candidate.from_sdp(text)
            kind = CandidateKind(parsed.type)
            ip = ipaddress.ip_address(parsed.host)
        except ValueError as error:
            raise WireError(f"candidate {text!r}: {error}") from None
        if parsed.transport.lower() != "udp" or parsed.component != _COMPONENT:
            raise WireError(f"candidate {text!r}: expected UDP, component 1")
        if not _FOUNDATION.fullmatch(parsed.foundation):
            raise WireError(f"candidate {text!r}: foundation not of 1..32 ice-chars")
        if not 0 < parsed.priority <= PRIORITY_MAX:
            raise WireError(f"candidate {text!r}: priority not in 1..2^31-1")
        if not _reachable(ip, parsed.port):
            raise WireError(f"candidate {text!r}: nobody can be reached there")
        address = Address(str(ip), parsed.port)
        return cls(kind, address, parsed.priority, parsed.foundation)

    def format(self) -> str:
        """Give the text form."""
        return wire.Candidate(
            foundation=self.foundation,
            component=_COMPONENT,
            transport="udp",
            priority=self.priority,
            host=self.address.host,
            port=self.address.port,
            type=str(self.kind),
        ).to_sdp()


def order(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Give the candidates worth trying, best first: one an address, at most 8."""
    best: dict[Address, Candidate] = {}
    for candidate in sorted(candidates, key=lambda each: -each.priority):
        best.setdefault(candidate.address, candidate)
    return tuple(best.values())[:CANDIDATES_MAX]


def check_priority() -> int:
    """Give the PRIORITY of a check: that of a peer-reflexive one (RFC 8445 §7.1.1)."""
    return wire.candidate_priority(_COMPONENT, str(CandidateKind.PEER_REFLEXIVE))


def _reachable(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> bool:
    broadcast = ip == ipaddress.IPv4Address("255.255.255.255")
    scoped = isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None
    nobody = ip.is_unspecified or ip.is_multicast or broadcast or scoped
    return not nobody and 0 < port <= 65_535
