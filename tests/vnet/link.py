"""One direction of one wire: what it does to the datagrams that are sent along it.

`transits` gives the copies that come out at the other end, and when:

    sent -> cut? -> lost? -> waits for its turn -> delay + jitter -> late? -> corrupted?
              |       |        |  (rate, buffer)                      |
            dropped dropped  dropped                    comes again if duplicated

Jitter alone never reorders, as queues do not: a datagram comes out no sooner than the
one before it. Only one that is *reordered* steps out of line, `reorder_s` late. Losses
are independent, or with `burst` > 1 come in bursts of that many datagrams on average
(Gilbert 1960): while one lasts all are lost, and the share of lost ones stays `loss`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from tests.vnet.ledger import Fate

__all__ = ["Link", "LinkQuality"]

HEADER_BYTES: Final = 28
# IPv4 and UDP, for the time that a datagram takes at a limited rate.


@dataclass(frozen=True, slots=True)
class LinkQuality:
    """How good a wire is; the defaults are a perfect one. Probabilities are 0..1."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    burst: float = 1.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.020
    corrupt: float = 0.0
    rate_bytes_per_s: float = inf
    buffer_s: float = 0.200

    def __post_init__(self) -> None:
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} {getattr(self, name)}: expected 0..1")
        if self.burst < 1.0 or min(self.delay_s, self.jitter_s, self.reorder_s) < 0.0:
            raise ValueError(f"{self}: expected burst >= 1 and no negative time")
        if self.loss < 1.0 < self.burst < self.loss / (1.0 - self.loss):
            raise ValueError(f"{self}: so much loss needs longer bursts")


class Link:
    """One direction of a wire, from its being laid on. Change `quality` at will."""

    def __init__(self, quality: LinkQuality, randomness: random.Random) -> None:
        self.quality = quality
        self.is_cut = False
        self._random = randomness
        self._bursting = False
        self._free_at = 0.0
        self._latest_at = 0.0

    def transits(
        self, payload: bytes, now: float
    ) -> Sequence[tuple[float, bytes]] | Fate:
        """Give (instant, payload) for each copy that comes out, or why none does."""
        quality = self.quality
        if self.is_cut:
            return Fate.LINK_CUT
        if quality.loss and self._loses():
            return Fate.LOST
        sent_at = self._sent_at(len(payload), now)
        if sent_at - now > quality.buffer_s:
            return Fate.LINK_FULL
        self._free_at = sent_at
        copies = [self._transit(payload, sent_at)]
        if quality.duplicate and self._random.random() < quality.duplicate:
            copies.append(self._transit(payload, sent_at))
        return copies

    def _loses(self) -> bool:
        """Move one datagram on in the two-state chain of loss bursts."""
        loss, burst = self.quality.loss, self.quality.burst
        if burst == 1.0 or loss == 1.0:
            return self._random.random() < loss
        if self._bursting:
            self._bursting = self._random.random() >= 1.0 / burst
        else:
            self._bursting = self._random.random() < loss / (burst * (1.0 - loss))
        return self._bursting

    def _sent_at(self, size_bytes: int, now: float) -> float:
        wire_bytes = size_bytes + HEADER_BYTES
        return max(now, self._free_at) + wire_bytes / self.quality.rate_bytes_per_s

    def _transit(self, payload: bytes, sent_at: float) -> tuple[float, bytes]:
        quality = self.quality
        at = sent_at + quality.delay_s
        if quality.jitter_s:
            at += self._random.random() * quality.jitter_s
        if quality.reorder and self._random.random() < quality.reorder:
            at += quality.reorder_s
        else:
            at = self._latest_at = max(at, self._latest_at)
        if quality.corrupt and payload and self._random.random() < quality.corrupt:
            payload = self._corrupted(payload)
        return at, payload

    def _corrupted(self, payload: bytes) -> bytes:
        bit = self._random.randrange(len(payload) * 8)
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)
