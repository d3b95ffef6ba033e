"""The caller's end: finding a home that has the callee, and choosing where to meet.

    offer to the callee's first home --- not here, or 1 s without a reply --> the next
      |    beside: ping all its homes
      v
    reply: ringing, with the callee's round trips to its homes
      |    0.15 s later, or when all pings are in
      v
    the two relays with the least (our + their) round trip: both ends join
      v
    accepted: sound by a relay; contacts exchange addresses and punch

The opening is carried by a request that is repeated until the home has it, but the
reply comes as a signal that may be lost, so the offer is made again each second, at
another home of the callee if there is one: the same opening rings only once.

A relay that does not let us join, or not any more, is replaced by the next best.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from nat.errors import WireError
from overlay.ask import Ask, Peer
from overlay.call import RING_S, Call
from overlay.call_messages import (
    Accept,
    CallRequest,
    Candidates,
    EndReason,
    Offer,
    OfferedRelay,
    Purpose,
    Refuse,
    Ringing,
    UseRelays,
    decode_call_reply,
    encode_call_body,
    end_reason,
)
from overlay.call_state import CallState, Cause, Self
from overlay.line import Line
from overlay.meeting import RELAYS_WARM
from overlay.messages import Answer, Contact, Done, Introduce, Joined, Ping, Pong
from overlay.records import Presence

__all__ = ["OutgoingCall", "choose_relays"]

OFFER_AGAIN_S: Final = 1.0
# A reply may be lost on its way through the home.
OFFER_S: Final = 10.0
# A node that is at home answers at once; two homes can be tried in this time.
CHOOSE_AFTER_S: Final = 0.15
# After the reply: a relay that takes longer to ping would be a bad one.
RELAY_LOAD_MAX: Final = 0.8
# Fuller relays are left to those who have no other.


@dataclass(frozen=True, slots=True)
class _Measured:
    rtt_s: float
    load: float


class OutgoingCall(Call):
    """A call we place."""

    def __init__(
        self,
        number: int,
        ours: Self,
        purpose: Purpose,
        peer: Presence,
        *,
        is_contact: bool,
        relay_only: bool,
        now: float,
    ) -> None:
        introduction = ours.local.random_bytes(16)
        super().__init__(
            number,
            ours,
            purpose,
            introduction,
            CallState.OFFERING,
            is_contact=is_contact,
            relay_only=relay_only,
        )
        self.peer = peer
        self._homes = [home for home in map(_peer, peer.homes) if home is not None]
        self._measured: dict[bytes, _Measured] = {}
        self._pings_out = 0
        self._offered: tuple[OfferedRelay, ...] = ()
        self._offer_again_at = math.inf
        self._give_up_at = now + OFFER_S
        self._choose_at = math.inf
        offer = Offer(ours.presence, int(purpose), relay_only)
        self.line, self._opening = Line.call(
            ours.local, peer.dh_public, encode_call_body(offer), now
        )
        self.timeline.mark("placed", now)
        if self._homes:
            self._offer(now)
        else:
            self.end(EndReason.NOT_ONLINE, now)
        for home in self._homes:
            self._pings_out += 1
            self._asks.append(Ask(home, Ping(), ("ping", home.known_static)))

    def receive_reply(self, datagram: bytes, now: float) -> None:
        """Take the callee's reply to our opening."""
        assert self.line is not None
        try:
            payload = self.line.receive_reply(datagram)
            reply = decode_call_reply(payload or b"")
        except WireError:
            self._refused += 1
            return
        self._offer_again_at = self._give_up_at = math.inf
        if self._state is CallState.ENDED:  # we hung up before it came
            assert self.ended_reason is not None
            self._say(Refuse(self.ended_reason), now)
            return
        self._move(Cause.REPLIED, now)
        self._signal(self.line.confirm())
        match reply:
            case Refuse(reason):
                self._finish(end_reason(reason), now, by_us=False)
            case Ringing(relays):
                self._begin_paths(controlling=True)
                self._offered = relays
                self._give_up_at = now + RING_S
                self._choose_at = now + CHOOSE_AFTER_S
                self._choose_if_ready(now)

    def answered(self, tag: Hashable, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to an ask of ours."""
        match tag, answer:
            case ("ping", bytes(static)), Pong():
                self._measured[static] = _Measured(rtt_s, answer.relay_load)
                self._pings_out -= 1
                self._choose_if_ready(now)
            case ("introduce", Peer() as home), Done():
                self._home = home
                self.timeline.mark("introduced", now)
            case ("ping" | "introduce", _), _:
                self.failed(tag, now)
            case ("join", _), answer if not isinstance(answer, Joined):
                self.failed(tag, now)
            case _:
                super().answered(tag, answer, rtt_s, now)

    def failed(self, tag: Hashable, now: float) -> None:
        """Take it that an ask of ours came to nothing."""
        match tag:
            case ("ping", bytes()):
                self._pings_out -= 1
                self._choose_if_ready(now)
            case ("introduce", Peer() as home):
                self._cross_out(home, now)
            case ("join", bytes(static)):
                super().failed(tag, now)
                self._measured.pop(static, None)
                self._choose(now)
            case _:
                super().failed(tag, now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        super().handle_timeout(now)
        if now >= self._offer_again_at and self._state is CallState.OFFERING:
            self._homes.append(self._homes.pop(0))
            self._offer(now)
        if now >= self._choose_at:
            self._choose(now)
        if now >= self._give_up_at:
            self._give_up_at = math.inf
            ringing = self._state is CallState.RINGING
            self.end(EndReason.NO_ANSWER if ringing else EndReason.NOT_ONLINE, now)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        offer_at = math.inf
        if self._state is CallState.OFFERING:
            offer_at = self._offer_again_at
        own = (offer_at, self._give_up_at, self._choose_at)
        return min(super().next_timeout(), *own)

    def _finish(self, reason: EndReason, now: float, *, by_us: bool) -> None:
        self._choose_at = self._give_up_at = math.inf
        super()._finish(reason, now, by_us=by_us)

    def _request(self, request: CallRequest, now: float) -> None:
        match request:
            case Accept(candidates) if self._state is CallState.RINGING:
                self._give_up_at = math.inf
                self._connect(now)
                if candidates and self.disclosure.allowed:
                    self._say(Candidates(self.disclosure.ours()), now)
                    self._punch(candidates, now)
            case _:
                super()._request(request, now)

    # -- getting there -----------------------------------------------------------------

    def _offer(self, now: float) -> None:
        """Offer the call to the first of the homes that have not said no."""
        assert self.peer is not None
        home = self._homes[0]
        request = Introduce(self.introduction, self.peer.public_key, self._opening)
        self._asks.append(Ask(home, request, ("introduce", home)))
        self._offer_again_at = now + OFFER_AGAIN_S

    def _cross_out(self, home: Peer, now: float) -> None:
        """Take it that a home does not have the callee, or does not answer."""
        if home not in self._homes or self._state is not CallState.OFFERING:
            return
        was_first = self._homes[0] == home
        self._homes.remove(home)
        if not self._homes:
            self._give_up_at = math.inf
            self.end(EndReason.NOT_ONLINE, now)
        elif was_first:
            self._offer(now)

    # -- where to meet -----------------------------------------------------------------

    def _choose_if_ready(self, now: float) -> None:
        if self._pings_out == 0 and self._choose_at != math.inf:
            self._choose(now)

    def _choose(self, now: float) -> None:
        self._choose_at = math.inf
        measured = {static: one.rtt_s for static, one in self._measured.items()}
        loads = {static: one.load for static, one in self._measured.items()}
        relays = choose_relays(self._offered, measured, loads)
        self.timeline.mark("relays_chosen", now)
        self._say(UseRelays(relays), now)
        self.meeting.join(relays)


def _peer(contact: Contact) -> Peer | None:
    try:
        return Peer.of(contact)
    except WireError:
        return None


def choose_relays(
    offered: Sequence[OfferedRelay],
    our_rtt_s: dict[bytes, float],
    our_view_of_load: dict[bytes, float],
) -> tuple[Contact, ...]:
    """Give the two relays over which sound takes least time, the best first.

    Relays we could not reach are left out; those under high load come last.
    """

    def cost(relay: OfferedRelay) -> tuple[bool, float]:
        static = relay.contact.static
        is_full = our_view_of_load[static] >= RELAY_LOAD_MAX
        return is_full, our_rtt_s[static] + relay.rtt_s

    reachable = [relay for relay in offered if relay.contact.static in our_rtt_s]
    best = sorted(reachable, key=cost)[:RELAYS_WARM]
    return tuple(relay.contact for relay in best)
