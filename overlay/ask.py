"""How the machines of a node ask others without knowing about sessions.

A machine that needs something of another node puts an `Ask` into its
`messages_to_send()`. The node (`overlay.node`) opens or reuses a session with that
peer, repeats the request until it is answered, and calls back exactly once:
`answered(tag, answer, rtt_s, now)` or `failed(tag, now)`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from nat.address import Address
from overlay.messages import Answer, Contact, Request

__all__ = ["Ask", "Asker", "Peer"]


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to ask: an address and, unless it is yet to be learnt, the static key."""

    address: Address
    static: bytes | None = None

    @property
    def known_static(self) -> bytes:
        """The static key of a peer whose key is known."""
        assert self.static is not None
        return self.static

    @classmethod
    def of(cls, contact: Contact) -> Peer:
        """Make a peer of a contact; `WireError` if its address was packed wrongly."""
        return cls(contact.address, contact.static)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to one peer. `tag` comes back with the answer.

    `anonymous` asks without telling who asks (Noise NK), in one round trip if there
    is no session yet; only look-ups are asked so.
    """

    peer: Peer
    request: Request
    tag: Hashable
    anonymous: bool = False


class Asker(Protocol):
    """A machine that asks."""

    def messages_to_send(self) -> list[Ask]:
        """Drain what is to be asked."""
        ...

    def answered(self, tag: Hashable, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to the `Ask` with this tag, and how long it took."""
        ...

    def failed(self, tag: Hashable, now: float) -> None:
        """Take it that the `Ask` with this tag was not answered in time."""
        ...
