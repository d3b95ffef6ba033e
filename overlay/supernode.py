"""What a node does for others while it is a supernode.

    Register        `overlay.registry`, then `overlay.publication` to the owners
    Store, LookUp   `overlay.index`, for keys that `overlay.ring` gives us
    GetSupernodes, Announce                       `overlay.members`
    Introduce, Signal                             `overlay.introductions`
    JoinRelay, LeaveRelay, datagrams of channels  `nat.relay`

A full home answers Busy and names others; it never stops serving whom it has. Our own
node is a client like any other: it asks itself, and the introducer hands it what is for
it (`Delivered`). Demotion by draining and promotion of others find their place here.
Sans-IO; speaks in asks, answers, notices, and datagrams of the relay.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from nat.address import Address
from nat.errors import WireError
from nat.relay import Forward, JoinResult, Relay
from overlay.ask import Ask, Asker, Peer
from overlay.draw import draw_fraction
from overlay.endpoint_events import Question
from overlay.identity import Identity
from overlay.index import Index
from overlay.introductions import Introductions
from overlay.lookup import answer_look_up
from overlay.members import Members
from overlay.messages import (
    OWNERS_MAX,
    Announce,
    Answer,
    Busy,
    Deliver,
    Done,
    GetSupernodes,
    Introduce,
    Joined,
    JoinRelay,
    LookUp,
    Notice,
    Ping,
    Pong,
    Refusal,
    Refused,
    Register,
    Registered,
    Request,
    Signal,
    Store,
    Stored,
)
from overlay.publication import Publication, Published
from overlay.records import (
    Capability,
    Claim,
    Presence,
    id_key,
    name_key,
    read_claim,
    read_presence,
    read_record,
)
from overlay.registry import LIFETIME_S, Registry
from overlay.roster import MemberEvent, MemberJoined, MemberLost
from overlay.timing import MembersTiming

__all__ = ["Delivered", "Supernode", "SupernodeEvent"]

RETRY_AFTER_S_MIN: Final = 5.0
RETRY_AFTER_S_MAX: Final = 30.0
# With jitter, so that those sent away do not come back together.
ALTERNATIVES_MAX: Final = 4
RING_SLACK: Final = 4
# Of places on the ring: two views differ by the few nodes that come or go.
WAITING_MAX: Final = 1_024
# Registrations whose publication is under way: all leaves at once, and some.


@dataclass(frozen=True, slots=True)
class Delivered:
    """The introducer has something for our own node."""

    introduction: bytes
    payload: bytes
    is_opening: bool


SupernodeEvent: TypeAlias = MemberEvent | Delivered | Published


@dataclass(frozen=True, slots=True)
class _DeliveryTag:
    introduction: bytes


class Supernode:
    """One node's service to others; lives as long as it is a supernode."""

    def __init__(
        self,
        identity: Identity,
        address: Address,
        *,
        seeds: Sequence[Peer],
        client_version: str,
        random_bytes: Callable[[int], bytes],
        now: float,
        timing: MembersTiming | None = None,
    ) -> None:
        self._static = identity.dh_public
        self._address = address
        self._random_bytes = random_bytes
        self.members: Final = Members(
            identity,
            address,
            caps=int(Capability.RELAY),
            client_version=client_version,
            seeds=seeds,
            random_bytes=random_bytes,
            now=now,
            timing=timing,
        )
        self.index: Final = Index()
        self.registry: Final = Registry()
        self.introductions: Final = Introductions()
        self.publication: Final = Publication(self.members.ring)
        self.relay: Final = Relay()
        self._waiting: dict[tuple[bytes, int], Question] = {}
        self._asks: list[Ask] = []
        self._answers: list[tuple[Question, Answer]] = []
        self._notices: list[tuple[bytes, Notice]] = []
        self._events: list[SupernodeEvent] = []
        self._signals_dropped = 0

    def askers(self) -> tuple[Asker, ...]:
        """Give the machines that ask, this one included."""
        return self, self.members, self.publication

    # -- serving -----------------------------------------------------------------------

    def serve(self, request: Request, question: Question, now: float) -> Answer | None:
        """Answer a request; None if the answer comes later (`answers`)."""
        if question.static is not None and question.proven:
            self.members.heard(question.static, question.source, now)
        match request:
            case Ping():
                return self._pong(question)
            case GetSupernodes():
                return self.members.answer_get(request)
            case Announce():
                asker = Peer(question.source, question.static)
                return self.members.answer_announce(request, asker, now)
            case LookUp(key):
                ring = self.members.ring
                return answer_look_up(key, self.index, ring, self._static, now)
            case _ if question.static is None:
                return Refused(Refusal.NOT_FOR_YOU)
            case Store(records):
                return self._store(records, question.static, now)
            case Register() | JoinRelay() if not question.proven:
                return self._busy()
            case Register():
                return self._register(request, question, question.static, now)
            case Introduce():
                return self._introduce(request, question.static, now)
            case JoinRelay(channel):
                return self._join(channel, question.static, question.source, now)
        return Refused(Refusal.NOT_UNDERSTOOD)

    def receive_signal(self, signal: Signal, sender: bytes, now: float) -> None:
        """Hand a signal to the other side of its introduction."""
        other = self.introductions.other_side(signal.introduction, sender, now)
        if other is None:
            self._signals_dropped += 1
        elif other == self._static:
            self._events.append(
                Delivered(signal.introduction, signal.payload, is_opening=False)
            )
        else:
            self._notices.append((other, signal))

    def forward(self, datagram: bytes, source: Address, now: float) -> Forward | None:
        """Carry a relayed datagram on; None if it is dropped."""
        return self.relay.forward(datagram, source, now)

    def publish_own(self, presence: Presence, claim: Claim | None, now: float) -> None:
        """Write the records of our own node to their owners."""
        self.publication.publish(presence, claim, now)

    def needs(self, static: bytes) -> bool:
        """Whether this is a leaf of ours, a member of the ring, or on our relay."""
        return (
            self.registry.knows(static)
            or static in self.members.ring
            or self.relay.serves(static)
        )

    def peer_moved(self, static: bytes, address: Address) -> None:
        """Take it that a session goes to another address now."""
        self.relay.member_moved(static, address)

    def peer_left(self, static: bytes, now: float) -> None:
        """Take it that a session is over."""
        self.registry.drop(static)
        self.relay.drop_member(static, now)

    # -- answers to our own asks -------------------------------------------------------

    def answered(self, tag: Hashable, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to a delivery; there is nothing to do."""

    def failed(self, tag: Hashable, now: float) -> None:
        """Take it that a leaf took no delivery: its caller will try elsewhere."""
        self._signals_dropped += 1

    # -- time --------------------------------------------------------------------------

    def handle_timeout(self, now: float) -> None:
        """Let every part do what is due."""
        self.members.handle_timeout(now)
        self.publication.handle_timeout(now)
        self.index.handle_timeout(now)
        self.registry.handle_timeout(now)
        self.introductions.handle_timeout(now)
        self.relay.handle_timeout(now)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        return min(
            self.members.next_timeout(),
            self.publication.next_timeout(),
            self.index.next_timeout(),
            self.registry.next_timeout(),
            self.introductions.next_timeout(),
            self.relay.next_timeout(),
        )

    # -- drains ------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Carry what happened inside from part to part."""
        for event in self.members.events():
            if isinstance(event, (MemberJoined, MemberLost)):
                self.publication.ring_changed(now)
            self._events.append(event)
        for published in self.publication.events():
            self._answer_registrations(published)
            self._events.append(published)

    def messages_to_send(self) -> list[Ask]:
        """Drain the deliveries."""
        asks, self._asks = self._asks, []
        return asks

    def answers(self) -> list[tuple[Question, Answer]]:
        """Drain the answers that took longer."""
        answers, self._answers = self._answers, []
        return answers

    def notices(self) -> list[tuple[bytes, Notice]]:
        """Drain what to say to whom."""
        notices, self._notices = self._notices, []
        return notices

    def events(self) -> list[SupernodeEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events

    def statistics(self) -> dict[str, int]:
        """Give the counts that a person running a supernode wants to see."""
        relay = self.relay.statistics()
        index = self.index.statistics()
        return {
            "records": index.presences + index.claims,
            "records_refused": index.refused_invalid + index.refused_full,
            "leaves": len(self.registry),
            "registrations_refused": self.registry.refused,
            "introductions": len(self.introductions),
            "introductions_refused": self.introductions.refused,
            "signals_dropped": self._signals_dropped,
            "relay_channels": relay.channels,
            "relay_datagrams": relay.forwarded,
        }

    # -- inside ------------------------------------------------------------------------

    def _pong(self, question: Question) -> Pong:
        static = question.static
        return Pong(
            question.source.pack(),
            self.registry.load,
            self.relay.load(),
            at_home=static is not None and self.registry.knows(static),
        )

    def _register(
        self, request: Register, question: Question, static: bytes, now: float
    ) -> Answer | None:
        try:
            presence = read_presence(request.presence)
            claim = read_claim(request.claim) if request.claim else None
        except WireError:
            return Refused(Refusal.BAD_RECORD)
        claimed_by = presence.public_key if claim is None else claim.public_key
        if presence.dh_public != static or claimed_by != presence.public_key:
            return Refused(Refusal.BAD_RECORD)
        if self.registry.register(presence, claim, question.source, now) is None:
            return self._busy()
        if not request.publish:
            return self._registered(question, 0, 0)
        if not self.publication.publish(presence, claim, now):
            return self._busy()
        if len(self._waiting) >= WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[presence.public_key, presence.seq] = question
        return None

    def _answer_registrations(self, published: Published) -> None:
        """Answer all that this settles: older records than the published ones, too."""
        settled = [
            (public_key, seq)
            for public_key, seq in self._waiting
            if public_key == published.public_key and seq <= published.seq
        ]
        for key in settled:
            question = self._waiting.pop(key)
            answer = self._registered(question, published.stored, published.owners)
            self._answers.append((question, answer))

    def _store(self, records: Sequence[bytes], asker: bytes, now: float) -> Answer:
        """Keep what another supernode brings, as far as its keys are ours."""
        if asker not in self.members.ring:
            return Refused(Refusal.NOT_A_SUPERNODE)
        try:
            read = [read_record(raw) for raw in records]
        except WireError:
            return Refused(Refusal.BAD_RECORD)
        names = [name_key(record.name) for record in read if isinstance(record, Claim)]
        kept = 0
        for record in read:
            keys = names if isinstance(record, Claim) else [id_key(record.public_key)]
            if any(self._may_own(key) for key in [*keys, *names]):
                kept += self.index.keep(record, now)
        return Stored(kept)

    def _may_own(self, key: bytes) -> bool:
        """Whether we are among the owners of a key by a ring a little unlike ours."""
        owners = self.members.ring.owners(key, OWNERS_MAX + RING_SLACK)
        return any(seat.static == self._static for seat in owners)

    def _registered(self, question: Question, stored: int, owners: int) -> Registered:
        return Registered(LIFETIME_S, stored, owners, question.source.pack())

    def _busy(self) -> Busy:
        span_s = RETRY_AFTER_S_MAX - RETRY_AFTER_S_MIN
        pause_s = RETRY_AFTER_S_MIN + span_s * draw_fraction(self._random_bytes)
        anywhere = self._random_bytes(8)
        some = self.members.ring.owners(anywhere, ALTERNATIVES_MAX + 1)
        others = [seat.contact for seat in some if seat.static != self._static]
        return Busy(pause_s, tuple(others[:ALTERNATIVES_MAX]))

    def _introduce(self, request: Introduce, caller: bytes, now: float) -> Answer:
        ours = request.target == self.members.descriptor.public_key
        leaf = self.registry.find(request.target)
        if leaf is None and not ours:
            return Refused(Refusal.NOT_HERE)
        callee = self._static if leaf is None else leaf.static
        if not self.introductions.open(request.introduction, caller, callee, now):
            return self._busy()
        if leaf is None:
            self._events.append(
                Delivered(request.introduction, request.payload, is_opening=True)
            )
        else:
            delivery = Deliver(request.introduction, request.payload)
            peer = Peer(leaf.address, leaf.static)
            tag = _DeliveryTag(request.introduction)
            self._asks.append(Ask(peer, delivery, tag))
        return Done()

    def _join(
        self, channel: bytes, static: bytes, source: Address, now: float
    ) -> Answer:
        address = None if static == self._static else source
        match self.relay.join(channel, static, address, now):
            case JoinResult.JOINED_FIRST:
                return Joined(paired=False)
            case JoinResult.JOINED_SECOND:
                return Joined(paired=True)
            case JoinResult.REFUSED_TAKEN:
                return Refused(Refusal.CHANNEL_TAKEN)
            case JoinResult.REFUSED_FULL | JoinResult.REFUSED_LIMIT:
                return self._busy()
