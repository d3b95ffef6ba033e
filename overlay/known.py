"""The supernodes a leaf has heard of, and which of them asked to be left alone.

Bounded; the oldest makes room. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

from overlay.ask import Peer
from overlay.draw import draw_some

__all__ = ["KNOWN_MAX", "KnownSupernodes"]

KNOWN_MAX: Final = 64
# Enough that a restart finds one that lives.


class KnownSupernodes:
    """Those of one leaf, by static key."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._peers: dict[bytes, Peer] = {}
        self._busy_until: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def peers(self) -> tuple[Peer, ...]:
        """Give all of them."""
        return tuple(self._peers.values())

    def learn(self, peer: Peer) -> None:
        """Remember one; over the limit it pushes out the oldest."""
        if peer.static is None or peer.static in self._peers:
            return
        if len(self._peers) >= KNOWN_MAX:
            del self._peers[next(iter(self._peers))]
        self._peers[peer.static] = peer

    def forget(self, static: bytes) -> None:
        """Forget one that does not answer, or left."""
        self._peers.pop(static, None)

    def forget_all(self) -> None:
        """Forget all of them: none answers."""
        self._peers.clear()

    def mark_busy(self, static: bytes, until: float) -> None:
        """Take it that one does not want to be asked before then."""
        self._busy_until[static] = until

    def draw(self, count: int) -> list[Peer]:
        """Give some at random."""
        return draw_some(self._random_bytes, self.peers(), count)

    def draw_others(self, than: Container[bytes], count: int, now: float) -> list[Peer]:
        """Give some at random that are not among `than`, and not busy."""
        busy = {static: at for static, at in self._busy_until.items() if now < at}
        self._busy_until = busy
        others = [
            peer
            for static, peer in self._peers.items()
            if static not in than and static not in busy
        ]
        return draw_some(self._random_bytes, others, count)
