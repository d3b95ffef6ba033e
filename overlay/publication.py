"""How a home writes its leaves' records to the owners of their keys.

    publish(leaf) --> Store to the owners of id_key:   presence
                      Store to the owners of name_key: claim, presence
                      --> Published, once 5 of each key's 8 stored (or all of fewer)

An owner that does not answer is asked once more. `Published` is due after 2.5 s with
what there is by then, but the writing goes on.

Each leaf is remembered for as long as its presence lives, with who has stored it. After
a change of the ring (`ring_changed`) every leaf is looked at again, 500 ms later and
spread over time, and only owners that have not stored its records yet are asked.

An owner may be the home itself: its ask is answered by the home's own index.

Sans-IO; speaks in asks (`overlay.ask`). Handing over by the owners themselves, and
leaves that check what their home did, find their place beside this.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from overlay.ask import Ask, Peer
from overlay.deadlines import Deadlines
from overlay.index import PRESENCE_TTL_S_MAX
from overlay.messages import Answer, Store, Stored
from overlay.records import Claim, Presence, id_key, name_key
from overlay.ring import Ring
from overlay.shelf import Shelf

__all__ = ["Publication", "PublicationStatistics", "Published"]

LEAVES_MAX: Final = 1_024
# The hard cap of registrations is 750; and ourselves.
STORED_ENOUGH: Final = 5
# Of 8 owners: any 5 who have it and any 5 asked share at least two.
TRIES_MAX: Final = 2
# The index bears what is missed; the leaf comes again in 300 s.
PATIENCE_S: Final = 2.5
# Half of what the leaf waits for its home's answer (`overlay.exchange`).
LOOK_AGAIN_S: Final = 5.0
# After an owner refused: gossip has reached everybody by then.
RING_SETTLES_S: Final = 0.5
# Changes come in bursts: a killed host was several supernodes.
REPUBLISH_EACH_S: Final = 0.01
# 750 leaves in 7.5 s: some 100 kB/s at worst.


@dataclass(frozen=True, slots=True)
class Published:
    """So many of the owners of that one of the leaf's keys that has fewer stored it."""

    public_key: bytes
    seq: int
    stored: int
    owners: int


@dataclass(frozen=True, slots=True)
class PublicationStatistics:
    """Counts. `refused_full`: leaves that were not taken."""

    leaves: int
    asked: int
    not_stored: int
    unanswered: int
    refused_full: int


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    public_key: bytes
    owner: Peer
    keys: frozenset[bytes]
    tries: int


@dataclass(slots=True)
class _Leaf:
    """One leaf's records, who has stored them under which key, and who is asked to."""

    presence: Presence
    claim: Claim | None
    stored: set[tuple[bytes, Peer]] = field(default_factory=set)
    waiting: set[_Tag] = field(default_factory=set)
    is_reported: bool = False

    def is_outdone_by(self, presence: Presence, claim: Claim | None) -> bool:
        return presence.seq > self.presence.seq or (
            presence == self.presence and claim != self.claim
        )

    def index_keys(self) -> Iterator[bytes]:
        yield id_key(self.presence.public_key)
        if self.claim is not None:
            yield name_key(self.claim.name)

    def store(self, keys: frozenset[bytes]) -> Store:
        """Give what an owner of these keys is to store."""
        of_name = self.claim is not None and name_key(self.claim.name) in keys
        claims = (self.claim.raw,) if self.claim is not None and of_name else ()
        return Store((*claims, self.presence.raw))


class Publication:
    """The writing of one home; lives as long as its node is one.

    `ring` is the live one of `overlay.members`.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._leaves: Shelf[bytes, _Leaf] = Shelf(LEAVES_MAX)
        self._reports: Deadlines[bytes] = Deadlines()
        self._settled_at = math.inf
        self._to_review: deque[bytes] = deque()
        self._review_at = math.inf
        self._asks: list[Ask] = []
        self._events: list[Published] = []
        self._asked = 0
        self._not_stored = 0
        self._unanswered = 0
        self._refused_full = 0

    def publish(self, presence: Presence, claim: Claim | None, now: float) -> bool:
        """Write verified records to their owners; False if there is no room.

        One `Published` follows. Records already written are not written again.
        """
        leaf = self._leaves.get(presence.public_key, now)
        if leaf is None or leaf.is_outdone_by(presence, claim):
            leaf = _Leaf(presence, claim)
        self._leaves.expire(now)
        expires_at = now + min(leaf.presence.ttl_s, PRESENCE_TTL_S_MAX)
        if not self._leaves.put(presence.public_key, leaf, expires_at):
            self._refused_full += 1
            return False
        leaf.is_reported = False
        self._reports.set(presence.public_key, now + PATIENCE_S)
        self._write(leaf)
        self._report(leaf)
        return True

    def ring_changed(self, now: float) -> None:
        """Look at every leaf again, soon."""
        self._settled_at = min(self._settled_at, now + RING_SETTLES_S)

    def answered(self, tag: object, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to an ask of ours."""
        found = self._take(tag, now)
        if found is None:
            return
        leaf, asked = found
        match answer:
            case Stored(kept) if kept >= len(leaf.store(asked.keys).records):
                leaf.stored |= {(key, asked.owner) for key in asked.keys}
            case _:
                self._not_stored += 1
                self._look_again(now)
        self._report(leaf)

    def failed(self, tag: object, now: float) -> None:
        """Take it that an ask of ours was not answered in time."""
        self._unanswered += 1
        found = self._take(tag, now)
        if found is None:
            return
        leaf, asked = found
        if asked.tries < TRIES_MAX:
            self._ask(leaf, asked.owner, asked.keys, asked.tries + 1)
        else:
            self._look_again(now)
        self._report(leaf)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        self._leaves.expire(now)
        for public_key in self._reports.pop_due(now):
            leaf = self._leaves.get(public_key, now)
            if leaf is not None:
                self._report(leaf, is_due=True)
        if now >= self._settled_at:
            self._settled_at = math.inf
            self._to_review = deque(dict.fromkeys([*self._to_review, *self._leaves]))
            self._review_at = now
        if now >= self._review_at:
            self._review_one(now)
        assert self.next_timeout() > now

    def next_timeout(self) -> float:
        """Give the instant of what is due next."""
        return min(
            self._leaves.next_expiry(),
            self._reports.next_at(),
            self._settled_at,
            self._review_at,
        )

    def messages_to_send(self) -> list[Ask]:
        """Drain what is to be asked of others, and of ourselves."""
        asks, self._asks = self._asks, []
        return asks

    def events(self) -> list[Published]:
        """Drain what was published."""
        events, self._events = self._events, []
        return events

    def statistics(self) -> PublicationStatistics:
        """Give the counts."""
        return PublicationStatistics(
            leaves=len(self._leaves),
            asked=self._asked,
            not_stored=self._not_stored,
            unanswered=self._unanswered,
            refused_full=self._refused_full,
        )

    def _look_again(self, now: float) -> None:
        """See after a while what owners still lack: one may not know us yet."""
        self._settled_at = min(self._settled_at, now + LOOK_AGAIN_S)

    def _review_one(self, now: float) -> None:
        leaf = None
        while self._to_review and leaf is None:
            leaf = self._leaves.get(self._to_review.popleft(), now)
        if leaf is not None:
            self._write(leaf)
        self._review_at = now + REPUBLISH_EACH_S if self._to_review else math.inf

    def _write(self, leaf: _Leaf) -> None:
        """Ask every owner that lacks something and is not being asked for it."""
        owned = [(key, peer) for key in leaf.index_keys() for peer in self._owners(key)]
        leaf.stored.intersection_update(owned)
        under_way = {(key, tag.owner) for tag in leaf.waiting for key in tag.keys}
        lacking: dict[Peer, set[bytes]] = {}
        for key, peer in owned:
            if (key, peer) not in leaf.stored | under_way:
                lacking.setdefault(peer, set()).add(key)
        for peer, keys in lacking.items():
            self._ask(leaf, peer, frozenset(keys), tries=1)

    def _ask(
        self, leaf: _Leaf, owner: Peer, keys: frozenset[bytes], tries: int
    ) -> None:
        self._asked += 1
        tag = _Tag(self._asked, leaf.presence.public_key, owner, keys, tries)
        leaf.waiting.add(tag)
        self._asks.append(Ask(owner, leaf.store(keys), tag))

    def _take(self, tag: object, now: float) -> tuple[_Leaf, _Tag] | None:
        """Give the leaf that this ask was for, unless it has other records by now."""
        assert isinstance(tag, _Tag), tag
        leaf = self._leaves.get(tag.public_key, now)
        if leaf is None or tag not in leaf.waiting:
            return None
        leaf.waiting.remove(tag)
        return leaf, tag

    def _report(self, leaf: _Leaf, *, is_due: bool = False) -> None:
        """Say once what was published: when it is enough, or all that there will be."""
        if leaf.is_reported:
            return
        tallies = [self._tally(leaf, key) for key in leaf.index_keys()]
        enough = all(have >= min(STORED_ENOUGH, of) for have, of in tallies)
        if enough or is_due or not leaf.waiting:
            leaf.is_reported = True
            stored, owners = min(tallies)
            presence = leaf.presence
            self._events.append(
                Published(presence.public_key, presence.seq, stored, owners)
            )
            self._reports.set(presence.public_key, math.inf)

    def _tally(self, leaf: _Leaf, key: bytes) -> tuple[int, int]:
        owners = self._owners(key)
        return sum((key, owner) in leaf.stored for owner in owners), len(owners)

    def _owners(self, key: bytes) -> list[Peer]:
        return [seat.peer for seat in self._ring.owners(key)]
