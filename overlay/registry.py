"""Who is at home with this supernode.

A leaf registers its signed presence and, if it has a name, its claim; the entry lives
for the granted time and is renewed by registering again. The home finds a leaf's
session by its identity.

Over the cap a new leaf is refused, an old one never: an overloaded supernode sheds, it
does not break what it carries. Sans-IO.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nat.address import Address
from overlay.records import Claim, Presence

__all__ = ["LIFETIME_S", "REGISTRATIONS_MAX", "Registration", "Registry"]

REGISTRATIONS_MAX: Final = 750
# The hard cap, 2.5 times the target of 300.
LIFETIME_S: Final = 900.0
# Three refreshes of 300 s.


@dataclass(frozen=True, slots=True)
class Registration:
    """One leaf at home here."""

    static: bytes
    address: Address
    presence: Presence
    claim: Claim | None
    expires_at: float


class Registry:
    """The leaves of one home; lives as long as its node is a supernode."""

    def __init__(self, registrations_max: int = REGISTRATIONS_MAX) -> None:
        self._max = registrations_max
        self._by_identity: dict[bytes, Registration] = {}
        self._identity_of: dict[bytes, bytes] = {}
        self._refused = 0

    def __len__(self) -> int:
        return len(self._by_identity)

    def __iter__(self) -> Iterator[Registration]:
        return iter(tuple(self._by_identity.values()))

    @property
    def refused(self) -> int:
        """How many registrations were refused because the home was full."""
        return self._refused

    @property
    def load(self) -> float:
        """How full the home is; 1 is full."""
        return len(self._by_identity) / self._max

    def register(
        self, presence: Presence, claim: Claim | None, address: Address, now: float
    ) -> float | None:
        """Take or renew a leaf; gives the granted lifetime in seconds, None if full.

        The caller has checked that the session's static key is the presence's.
        """
        identity = presence.public_key
        if identity not in self._by_identity and len(self._by_identity) >= self._max:
            self._refused += 1
            return None
        # One session, one identity: who registers another one leaves the first.
        self.drop(presence.dh_public)
        held = self._by_identity.pop(identity, None)
        if held is not None:
            self._identity_of.pop(held.static, None)
        self._by_identity[identity] = Registration(
            presence.dh_public, address, presence, claim, now + LIFETIME_S
        )
        self._identity_of[presence.dh_public] = identity
        return LIFETIME_S

    def find(self, identity: bytes) -> Registration | None:
        """Give the leaf with this identity, if it is at home here."""
        return self._by_identity.get(identity)

    def knows(self, static: bytes) -> bool:
        """Whether the node with this static key is at home here."""
        return static in self._identity_of

    def drop(self, static: bytes) -> None:
        """Forget a leaf that left."""
        identity = self._identity_of.pop(static, None)
        if identity is not None:
            del self._by_identity[identity]

    def handle_timeout(self, now: float) -> None:
        """Forget who did not renew."""
        while now >= self.next_timeout():
            self.drop(next(iter(self._by_identity.values())).static)

    def next_timeout(self) -> float:
        """Give the instant at which the next entry ends."""
        # All live equally long and a renewed entry goes to the end: the first is next.
        for registration in self._by_identity.values():
            return registration.expires_at
        return math.inf
