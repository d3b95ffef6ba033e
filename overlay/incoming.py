"""The callee's end: ringing, and meeting the caller only where that gives nothing away.

    opening --> reply: ringing (or: busy) --> the caller names two relays --> join
                                          \\-> answer() --> sound
                                           '-> refuse()

Until we accept, and for strangers after it, we meet at our own homes only: a relay that
the caller could choose freely would learn our address for the caller.
"""

from __future__ import annotations

import math
from typing import Final

from overlay.ask import Peer
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
    encode_call_body,
)
from overlay.call_state import CallState, Self
from overlay.line import Opened
from overlay.records import Presence

__all__ = ["IncomingCall"]

UNANSWERED_S: Final = RING_S + 5.0
# The caller's own limit should be the one that both see.


class IncomingCall(Call):
    """A call somebody places to us; begins ringing."""

    def __init__(
        self,
        number: int,
        ours: Self,
        opened: Opened,
        offer: Offer,
        peer: Presence,
        introduction: bytes,
        home: Peer,
        relays: tuple[OfferedRelay, ...],
        *,
        is_contact: bool,
        now: float,
    ) -> None:
        is_ping = offer.purpose == Purpose.PING
        super().__init__(
            number,
            ours,
            Purpose.PING if is_ping else Purpose.VOICE,
            introduction,
            CallState.RINGING,
            is_contact=is_contact,
            relay_only=offer.relay_only,
        )
        self.peer = peer
        self._home = home
        self.line = opened.line(ours.local)
        self._unanswered_at = now + UNANSWERED_S
        self._reply = self.line.reply(opened, encode_call_body(Ringing(relays)))
        self._begin_paths(controlling=False)
        self.timeline.mark("ringing", now)
        self._signal(self._reply)

    def repeat_reply(self, home: Peer) -> None:
        """Say again what was said to the opening: it came again, through `home`."""
        self._home = home
        if self.line is not None and not self.line.confirmed:
            self._signal(self._reply)

    def answer(self, now: float) -> None:
        """Accept the call."""
        if self._state is CallState.RINGING:
            self._unanswered_at = math.inf
            self._say(Accept(self.disclosure.ours()), now)
            self._connect(now)

    def refuse(self, now: float) -> None:
        """Refuse the call."""
        if self._state is CallState.RINGING:
            self._finish(EndReason.REFUSED, now, by_us=True)
            self._say(Refuse(EndReason.REFUSED), now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        super().handle_timeout(now)
        if now >= self._unanswered_at:
            self.end(EndReason.NO_ANSWER, now)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        return min(super().next_timeout(), self._unanswered_at)

    def _finish(self, reason: EndReason, now: float, *, by_us: bool) -> None:
        self._unanswered_at = math.inf
        super()._finish(reason, now, by_us=by_us)

    def _request(self, request: CallRequest, now: float) -> None:
        match request:
            case UseRelays(relays):
                # Named by their keys alone: at another address we would show ourselves.
                ours = {contact.static: contact for contact in self._ours.relays}
                named = [one.static for one in relays if one.static in ours]
                self.meeting.join([ours[static] for static in named])
            case Candidates(candidates) if self._state is CallState.CONNECTED:
                self._punch(candidates, now)
            case _:
                super()._request(request, now)
