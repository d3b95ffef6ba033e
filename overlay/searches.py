"""The look-ups and surveys of a node that are under way. Sans-IO.

Remembers the highest sequence number ever seen of an identity, so that nobody can roll
its presence back.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from overlay.ask import Asker, Peer
from overlay.lookup import Lookup
from overlay.node_events import LookupEnded, SurveyEnded
from overlay.records import Presence
from overlay.survey import Survey

__all__ = ["Searches"]

LOOKUPS_MAX: Final = 64
# Under way at once.
SURVEYS_MAX: Final = 8
# Only people ask for them.
SEQS_MAX: Final = 4_096
# Identities whose highest sequence number is remembered.


class Searches:
    """What a node is looking for; lives as long as the node."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._lookups: dict[int, Lookup] = {}
        self._surveys: dict[int, Survey] = {}
        self._last_number = 0
        self._seqs: OrderedDict[bytes, int] = OrderedDict()

    def look_up(self, key: bytes, homes: Sequence[Peer], now: float) -> int | None:
        """Begin a look-up; gives the number of its end, None if there are too many."""
        if len(self._lookups) >= LOOKUPS_MAX:
            return None
        self._last_number += 1
        self._lookups[self._last_number] = Lookup(
            key,
            homes,
            random_bytes=self._random_bytes,
            now=now,
            known_seqs=self._seqs,
        )
        return self._last_number

    def survey(self, home: Peer) -> int | None:
        """Begin to list what a supernode knows; gives the number, as `look_up`."""
        if len(self._surveys) >= SURVEYS_MAX:
            return None
        self._last_number += 1
        self._surveys[self._last_number] = Survey(home)
        return self._last_number

    def askers(self) -> list[Asker]:
        """Give the machines that ask."""
        return [*self._lookups.values(), *self._surveys.values()]

    def handle_timeout(self, now: float) -> None:
        """Let every look-up do what is due."""
        for lookup in self._lookups.values():
            lookup.handle_timeout(now)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        lookups = self._lookups.values()
        return min((lookup.next_timeout() for lookup in lookups), default=math.inf)

    def events(self) -> list[LookupEnded | SurveyEnded]:
        """Drain what came to its end."""
        ended: list[LookupEnded | SurveyEnded] = [
            LookupEnded(number, done)
            for number, lookup in self._lookups.items()
            for done in lookup.events()
        ]
        ended += [
            SurveyEnded(number, survey.done)
            for number, survey in self._surveys.items()
            if survey.done is not None
        ]
        for event in ended:
            if isinstance(event, SurveyEnded):
                del self._surveys[event.number]
                continue
            del self._lookups[event.number]
            for record in event.done.records:
                if isinstance(record, Presence):
                    self._remember(record)
        return ended

    def _remember(self, presence: Presence) -> None:
        key = presence.public_key
        self._seqs[key] = max(presence.seq, self._seqs.pop(key, 0))
        if len(self._seqs) > SEQS_MAX:
            self._seqs.popitem(last=False)
