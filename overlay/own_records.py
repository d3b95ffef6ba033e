"""The records a node signs about itself: its claim to a name, and its presence.

Sans-IO. Sequence numbers are the time in milliseconds and only grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from overlay.ask import Peer
from overlay.identity import Identity
from overlay.messages import Contact
from overlay.records import (
    HOMES_MAX,
    Capability,
    Claim,
    Presence,
    read_claim,
    read_presence,
    sign_claim,
    sign_presence,
)

__all__ = ["OwnRecords"]

PRESENCE_TTL_S: Final = 900
# Three refreshes of 300 s.


class OwnRecords:
    """What we say of ourselves; lives as long as the node."""

    def __init__(
        self, identity: Identity, name: str | None, client_version: str, now: float
    ) -> None:
        self._identity = identity
        self._client_version = client_version
        self._seq = 0
        self.claim: Final = self._sign_claim(name, now) if name else None
        self.presence = self.write_presence((), now)

    @property
    def claim_raw(self) -> bytes:
        """The signed claim; empty if we claim no name."""
        return self.claim.raw if self.claim else b""

    def write_presence(self, homes: Sequence[Peer], now: float) -> Presence:
        """Sign where we can be met now."""
        self._seq = max(self._seq + 1, int(now * 1_000))
        contacts = tuple(
            Contact.of(home.address, home.static)
            for home in homes[:HOMES_MAX]
            if home.static is not None
        )
        presence = Presence(
            public_key=self._identity.public_key,
            dh_public=self._identity.dh_public,
            seq=self._seq,
            issued=int(now),
            ttl_s=PRESENCE_TTL_S,
            homes=contacts,
            caps=int(Capability.RELAY),
            client_version=self._client_version,
        )
        self.presence = read_presence(sign_presence(self._identity, presence))
        return self.presence

    def _sign_claim(self, name: str, now: float) -> Claim:
        claim = Claim(
            name=name,
            public_key=self._identity.public_key,
            created=int(now),
            seq=int(now * 1_000),
        )
        return read_claim(sign_claim(self._identity, claim))
