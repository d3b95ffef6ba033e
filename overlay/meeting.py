"""Where the two ends of a call meet: the relays both join, and the channel on each.

Both ends derive the same channel for a relay from the secrets of their line, so only
the relays have to be agreed on. Sans-IO; speaks in asks (`overlay.ask`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from nat.errors import WireError
from nat.paths import Relayed
from overlay.ask import Ask, Peer
from overlay.messages import Answer, Contact, Joined, JoinRelay

__all__ = ["RELAYS_WARM", "Meeting"]

RELAYS_WARM: Final = 2
# One that carries, one to fall back to.


class Meeting:
    """The relays of one call, and in `by_channel` the relay each channel is on.

    `channel_of(static)` derives the channel on a relay.
    """

    def __init__(self, channel_of: Callable[[bytes], bytes]) -> None:
        self._channel_of = channel_of
        self._channels: dict[bytes, bytes] = {}
        self._asks: list[Ask] = []
        self.by_channel: Final[dict[bytes, Contact]] = {}

    @property
    def relays(self) -> tuple[Contact, ...]:
        """The relays in use, the preferred one first."""
        return tuple(self.by_channel.values())

    def join(self, relays: Sequence[Contact]) -> None:
        """Ask those of the first few that we have not joined to let us join."""
        for contact in relays[:RELAYS_WARM]:
            if contact.static not in self._channels:
                channel = self._channel_of(contact.static)
                self._channels[contact.static] = channel
                self.by_channel[channel] = contact
                self.join_again(channel)

    def join_again(self, channel: bytes) -> None:
        """Ask the relay of this channel to let us join, or to do so once more.

        A relay forgets channels that age, or everything when it is started anew.
        """
        contact = self.by_channel.get(channel)
        if contact is None:
            return
        tag = ("join", contact.static)
        try:
            self._asks.append(Ask(Peer.of(contact), JoinRelay(channel), tag))
        except WireError:
            self.failed(tag)

    def answered(self, tag: Hashable, answer: Answer) -> Relayed | None:
        """Take a relay's answer; gives the route if we have joined it."""
        match tag, answer:
            case ("join", bytes(static)), Joined() if static in self._channels:
                channel = self._channels[static]
                return Relayed(self.by_channel[channel].address, channel)
        self.failed(tag)
        return None

    def failed(self, tag: Hashable) -> None:
        """Take it that a relay did not let us join."""
        match tag:
            case ("join", bytes(static)) if static in self._channels:
                del self.by_channel[self._channels.pop(static)]

    def messages_to_send(self) -> list[Ask]:
        """Drain what to ask."""
        asks, self._asks = self._asks, []
        return asks
