"""All supernodes, as one of them lists them: pages through its table once.

Sans-IO; speaks in asks (`overlay.ask`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from nat.errors import WireError
from overlay.ask import Ask, Peer
from overlay.messages import Answer, GetSupernodes, Supernodes
from overlay.records import Descriptor, read_descriptor

__all__ = ["Survey"]

PAGES_MAX: Final = 2_048
# The largest ring planned for, at five descriptors a page.
RING_START: Final = bytes(8)


class Survey:
    """One walk through one supernode's table."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._pages = 0
        self._found: dict[bytes, Descriptor] = {}
        self._asks = [Ask(peer, GetSupernodes(RING_START), 0)]
        self.done: tuple[Descriptor, ...] | None = None

    def messages_to_send(self) -> list[Ask]:
        """Drain what is to be asked."""
        asks, self._asks = self._asks, []
        return asks

    def answered(self, tag: Hashable, answer: Answer, rtt_s: float, now: float) -> None:
        """Take a page."""
        if not isinstance(answer, Supernodes):
            self.failed(tag, now)
            return
        for raw in answer.descriptors:
            try:
                descriptor = read_descriptor(raw)
            except WireError:
                continue
            self._found[descriptor.dh_public] = descriptor
        self._pages += 1
        if answer.next_start and self._pages < PAGES_MAX:
            ask = GetSupernodes(answer.next_start)
            self._asks.append(Ask(self._peer, ask, self._pages))
        else:
            self.done = tuple(self._found.values())

    def failed(self, tag: Hashable, now: float) -> None:
        """End with what has come so far."""
        self.done = tuple(self._found.values())
