"""Those who wait for something of a node: one answer, or all that happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from overlay.node_events import LookupEnded, SurveyEnded
from overlay.told import NodeEvent

__all__ = ["Listener", "PendingAnswer"]

EVENTS_MAX: Final = 256
# Waiting for one listener; a slow one loses the oldest.


class PendingAnswer:
    """Something one task waits for."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._value: LookupEnded | SurveyEnded | None = None

    def give(self, value: LookupEnded | SurveyEnded) -> None:
        """Hand in what was waited for."""
        self._value = value
        self._event.set()

    async def wait(self) -> LookupEnded | SurveyEnded:
        """Wait for it."""
        await self._event.wait()
        assert self._value is not None
        return self._value


@dataclass(frozen=True, slots=True)
class Listener:
    """One subscriber: where events go in, and where the oldest is taken out again."""

    feed: trio.MemorySendChannel[NodeEvent]
    events: trio.MemoryReceiveChannel[NodeEvent]

    @classmethod
    def open(cls) -> Listener:
        """Make the two ends."""
        return cls(*trio.open_memory_channel[NodeEvent](EVENTS_MAX))

    def tell(self, event: NodeEvent) -> int:
        """Hand in an event; gives how many were dropped: older ones, or this."""
        try:
            self.feed.send_nowait(event)
        except trio.WouldBlock:
            self.events.receive_nowait()
            self.feed.send_nowait(event)
        except trio.BrokenResourceError:  # who listened has closed its end
            pass
        else:
            return 0
        return 1

    def close(self) -> None:
        """Take no more; what waits can still be read."""
        self.feed.close()
