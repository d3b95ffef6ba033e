"""The descriptor a supernode signs about itself, and when it signs a newer one.

Each period, and when an old one of an earlier life comes back that would win over ours.
Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable

from nat.address import Address
from overlay.draw import draw_fraction
from overlay.identity import Identity
from overlay.records import Descriptor, read_descriptor, sign_descriptor

__all__ = ["OwnDescriptor"]


class OwnDescriptor:
    """Ours as it is now; lives as long as the node is a supernode.

    It is renewed each `period_s` +-20 %, and not sooner than `period_s_min` after it
    was signed.
    """

    def __init__(
        self,
        identity: Identity,
        address: Address,
        *,
        caps: int,
        client_version: str,
        random_bytes: Callable[[int], bytes],
        period_s: float,
        period_s_min: float,
        now: float,
    ) -> None:
        self._identity = identity
        self._address = address
        self._caps = caps
        self._client_version = client_version
        self._random_bytes = random_bytes
        self._period_s = period_s
        self._period_s_min = period_s_min
        self._outdone_by = 0
        self.current = self._sign(int(now), now)
        self.renew_at = now + period_s

    def compare(self, theirs: Descriptor, now: float) -> None:
        """Take in a descriptor of ours that somebody holds."""
        if theirs.incarnation < self.current.incarnation or theirs == self.current:
            return
        self._outdone_by = max(self._outdone_by, theirs.incarnation)
        soonest = self.current.issued + self._period_s_min
        self.renew_at = min(self.renew_at, max(now, soonest))

    def renew(self, now: float) -> Descriptor:
        """Sign a newer one; gives it."""
        highest = max(self.current.incarnation, self._outdone_by)
        self.current = self._sign(max(highest + 1, int(now)), now)
        spread = 0.8 + 0.4 * draw_fraction(self._random_bytes)
        self.renew_at = now + self._period_s * spread
        return self.current

    def _sign(self, incarnation: int, now: float) -> Descriptor:
        descriptor = Descriptor(
            public_key=self._identity.public_key,
            dh_public=self._identity.dh_public,
            packed_address=self._address.pack(),
            incarnation=incarnation,
            issued=int(now),
            caps=self._caps,
            client_version=self._client_version,
        )
        return read_descriptor(sign_descriptor(self._identity, descriptor))
