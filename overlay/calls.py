"""The calls of one node: which datagram, signal or answer is for which call.

    opening (through a home) --> by introduction; new: verified, then it rings
    reply, sealed (signal)   --> by introduction
    sealed (a path)          --> by receiver index
    check (a path)           --> by relay channel, by name in the check, or by its id

An opening is believed if its sender signed a presence with the key that sealed it, and
if it is newer than any before from that key. A node in a call is busy, and one at which
it rings already, unless a contact calls while a stranger rings. Somebody who only wants
to know the way to us (a ping) disturbs nothing. Sans-IO.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Final

from nat import stun
from nat.address import Address
from nat.errors import WireError
from nat.paths import Direct, Relayed, Route
from overlay import tai64n
from overlay.ask import Ask, Peer
from overlay.call import Call
from overlay.call_messages import (
    EndReason,
    Offer,
    OfferedRelay,
    Purpose,
    Refuse,
    decode_offer,
    encode_call_body,
)
from overlay.call_state import CallEvent, CallState, Self, Signalled
from overlay.deadlines import Deadlines
from overlay.incoming import IncomingCall
from overlay.line import Opened
from overlay.messages import Answer, Contact
from overlay.outgoing import OutgoingCall
from overlay.records import Presence, read_presence
from overlay.seal import header_of
from overlay.tai64n import GreatestTimestamps

__all__ = ["Calls", "CallsStatistics"]

CALLS_MAX: Final = 24
# Kept at once, those that only repeat their last word included.
PINGS_MAX: Final = 4
# Answered at once.
CLOCK_SKEW_S_MAX: Final = 3_600.0
# A caller's clock may be so far behind our start; an older opening is a recording.
BUSY_REPLIES_MAX: Final = 64
# Kept to be repeated; a caller asks again for 10 s.
CALLERS_MAX: Final = 4_096
# Static keys whose newest opening is remembered.


@dataclass(slots=True)
class CallsStatistics:
    """Counts since the start."""

    placed: int = 0
    received: int = 0
    busy: int = 0
    refused_openings: int = 0
    unknown_signals: int = 0
    unknown_datagrams: int = 0
    refused_datagrams: int = 0


@dataclass(frozen=True, slots=True)
class _Tag:
    number: int
    tag: Hashable


class Calls:
    """The table; lives as long as the node.

    `voices_max` calls with sound may be going on before a caller hears busy.
    """

    def __init__(
        self, is_contact: Callable[[bytes], bool], voices_max: int, now: float
    ) -> None:
        self._is_contact = is_contact
        self._voices_max = voices_max
        self._calls: dict[int, Call] = {}
        self._by_introduction: dict[bytes, Call] = {}
        floor = tai64n.encode(now - CLOCK_SKEW_S_MAX)
        self._timestamps = GreatestTimestamps(CALLERS_MAX, floor)
        self._busy_replies: OrderedDict[bytes, bytes] = OrderedDict()
        self._deadlines = Deadlines[int]()
        self._last_number = 0
        self._arrived: list[IncomingCall] = []
        self._ended: list[Call] = []
        self.statistics: Final = CallsStatistics()

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls.values()))

    @property
    def is_full(self) -> bool:
        """Whether one more call has no place: those that ended make room."""
        return sum(1 for call in self._calls.values() if _is_active(call)) >= CALLS_MAX

    def find(self, number: int) -> Call | None:
        """Give the call with this number."""
        return self._calls.get(number)

    def place(
        self,
        ours: Self,
        purpose: Purpose,
        peer: Presence,
        *,
        relay_only: bool,
        now: float,
    ) -> OutgoingCall:
        """Call a peer whose presence was looked up. There must be room."""
        assert not self.is_full
        call = OutgoingCall(
            self._next_number(),
            ours,
            purpose,
            peer,
            is_contact=self._is_contact(peer.public_key),
            relay_only=relay_only,
            now=now,
        )
        self.statistics.placed += 1
        self._add(call)
        return call

    # -- what arrives ------------------------------------------------------------------

    def receive_opening(
        self,
        ours: Self,
        introduction: bytes,
        payload: bytes,
        home: Peer,
        relays: tuple[OfferedRelay, ...],
        now: float,
    ) -> Signalled | None:
        """Take an opening that a home delivered; gives what is to be said at once."""
        known = self._by_introduction.get(introduction)
        if known is not None:
            if isinstance(known, IncomingCall):
                known.repeat_reply(home)
            return None
        if introduction in self._busy_replies:
            return Signalled(home, introduction, self._busy_replies[introduction])
        try:
            opened, offer, peer = self._believe(ours, payload)
        except WireError:
            self.statistics.refused_openings += 1
            return None
        is_contact = self._is_contact(peer.public_key)
        if self._is_busy_for(offer, is_contact=is_contact):
            self.statistics.busy += 1
            busy = encode_call_body(Refuse(EndReason.BUSY))
            reply = opened.line(ours.local).reply(opened, busy)
            self._remember_busy(introduction, reply)
            return Signalled(home, introduction, reply)
        call = IncomingCall(
            self._next_number(),
            ours,
            opened,
            offer,
            peer,
            introduction,
            home,
            relays,
            is_contact=is_contact,
            now=now,
        )
        self.statistics.received += 1
        self._add(call)
        self._arrived.append(call)
        return None

    def receive_signal(self, introduction: bytes, payload: bytes, now: float) -> None:
        """Take what the other end of an introduction says through its home."""
        call = self._by_introduction.get(introduction)
        if call is None:
            self.statistics.unknown_signals += 1
        elif payload[:1] == b"\x05" and isinstance(call, OutgoingCall):
            call.receive_reply(payload, now)
            self._touch(call)
        else:
            call.receive(payload, None, now)
            self._touch(call)

    def receive_sealed(self, datagram: bytes, route: Route, now: float) -> None:
        """Take DATA or MEDIA that came by a path."""
        try:
            _, index, _ = header_of(datagram)
        except WireError:
            self.statistics.unknown_datagrams += 1
            return
        for call in self._calls.values():
            if call.index == index:
                call.receive(datagram, route, now)
                self._touch(call)
                return
        self.statistics.unknown_datagrams += 1

    def receive_check(
        self, datagram: bytes, source: Address, now: float
    ) -> Call | None:
        """Take a STUN datagram that came straight; gives the call it is for."""
        call = self._called_in(datagram)
        if call is not None:
            call.receive_check(datagram, Direct(source), now)
            self._touch(call)
        return call

    def receive_relayed(
        self, channel: bytes, inner: bytes, relay: Address, now: float
    ) -> bool:
        """Take a datagram that a relay forwarded; False if its channel is not ours."""
        for call in self._calls.values():
            contact = call.meeting.by_channel.get(channel)
            if contact is None or contact.address != relay:
                continue
            if stun.is_stun(inner):
                call.receive_check(inner, Relayed(relay, channel), now)
                self._touch(call)
            else:
                self.receive_sealed(inner, Relayed(relay, channel), now)
            return True
        return False

    def answered(self, tag: Hashable, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to an ask of a call."""
        assert isinstance(tag, _Tag), tag
        call = self._calls.get(tag.number)
        if call is not None:
            call.answered(tag.tag, answer, rtt_s, now)
            self._touch(call)

    def failed(self, tag: Hashable, now: float) -> None:
        """Take it that an ask of a call came to nothing."""
        assert isinstance(tag, _Tag), tag
        call = self._calls.get(tag.number)
        if call is not None:
            call.failed(tag.tag, now)
            self._touch(call)

    def changed(self, call: Call) -> None:
        """Take it that a local wish was told to this call."""
        self._touch(call)

    # -- time --------------------------------------------------------------------------

    def handle_timeout(self, now: float) -> None:
        """Let every call do what is due."""
        for number in self._deadlines.pop_due(now):
            call = self._calls[number]
            call.handle_timeout(now)
            self._touch(call)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        return self._deadlines.next_at()

    # -- drains ------------------------------------------------------------------------

    def messages_to_send(self) -> list[Ask]:
        """Drain what the calls ask supernodes."""
        return [
            Ask(ask.peer, ask.request, _Tag(call.number, ask.tag))
            for call in self._calls.values()
            for ask in call.asks_to_send()
        ]

    def signals_to_send(self) -> list[Signalled]:
        """Drain what goes through introducers."""
        return [s for call in self for s in call.signals_to_send()]

    def datagrams_to_send(self) -> list[tuple[Route, bytes]]:
        """Drain the datagrams and the routes they take."""
        return [d for call in self._calls.values() for d in call.messages_to_send()]

    def events(self) -> list[tuple[Call, CallEvent]]:
        """Drain what happened in calls."""
        return [(call, event) for call in self for event in call.events()]

    def arrived(self) -> list[IncomingCall]:
        """Drain the calls that began to ring here."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def channels_to_leave(self) -> list[tuple[Contact, bytes]]:
        """Drain the relay channels of calls that are over, and forget those calls."""
        left = []
        for call in self._ended:
            left += [
                (relay, channel) for channel, relay in call.meeting.by_channel.items()
            ]
        self._ended.clear()
        return left

    # -- inside ------------------------------------------------------------------------

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _add(self, call: Call) -> None:
        ended = [held for held in self if not _is_active(held)]
        for oldest in ended[: max(0, len(self._calls) + 1 - CALLS_MAX)]:
            oldest.forget()
            self._touch(oldest)
        self._calls[call.number] = call
        self._by_introduction[call.introduction] = call
        self._touch(call)

    def _touch(self, call: Call) -> None:
        if call.over and self._calls.pop(call.number, None) is not None:
            self._by_introduction.pop(call.introduction, None)
            self._deadlines.set(call.number, math.inf)
            self.statistics.refused_datagrams += call.refused
            self._ended.append(call)
        elif not call.over:
            self._deadlines.set(call.number, call.next_timeout())

    def _called_in(self, datagram: bytes) -> Call | None:
        """Give the call whose name a check has, or that waits for an answer."""
        try:
            name = stun.username_of(datagram)
            transaction = stun.transaction_of(datagram)
        except WireError:
            return None
        for call in self._calls.values():
            if call.paths is None:
                continue
            named = name is not None and call.is_named(name)
            if named or (name is None and call.paths.awaits(transaction)):
                return call
        return None

    def _remember_busy(self, introduction: bytes, reply: bytes) -> None:
        """Keep a reply for when the opening comes again: the first may be lost."""
        self._busy_replies[introduction] = reply
        if len(self._busy_replies) > BUSY_REPLIES_MAX:
            self._busy_replies.popitem(last=False)

    def _believe(self, ours: Self, payload: bytes) -> tuple[Opened, Offer, Presence]:
        """Open an opening; gives who calls, and with what. Raises `WireError`."""
        opened = Opened(ours.local, payload)
        offer = decode_offer(opened.offer)
        peer = read_presence(offer.presence)
        if peer.dh_public != opened.their_static:
            raise WireError("an offer with somebody else's presence")
        if not self._timestamps.accept(opened.their_static, opened.timestamp):
            raise WireError("an opening that was sent before")
        return opened, offer, peer

    def _is_busy_for(self, offer: Offer, *, is_contact: bool) -> bool:
        active = [call for call in self if _is_active(call)]
        # Strangers' that ended a moment ago count, or they would come without pause.
        pings = [
            call
            for call in self
            if _is_their_ping(call) and (_is_active(call) or not call.is_contact)
        ]
        if offer.purpose == Purpose.PING:
            return self.is_full or len(pings) >= PINGS_MAX
        voices = [call for call in active if call.purpose is Purpose.VOICE]
        if is_contact:
            # A stranger who lets it ring does not keep contacts out.
            voices = [call for call in voices if not _is_stranger_ringing(call)]
        return self.is_full or len(voices) >= self._voices_max


def _is_stranger_ringing(call: Call) -> bool:
    ringing = isinstance(call, IncomingCall) and call.state is CallState.RINGING
    return ringing and not call.is_contact


def _is_their_ping(call: Call) -> bool:
    return isinstance(call, IncomingCall) and call.purpose is Purpose.PING


def _is_active(call: Call) -> bool:
    return call.state is not CallState.ENDED
