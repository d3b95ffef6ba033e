"""One call, from the first offer to the last word; what both ends do alike.

    OFFERING --reply--> RINGING --accept--> CONNECTED
        |                  |                    |
        '------------------'--------------------'--> ENDED, with the same reason

`overlay.outgoing` and `overlay.incoming` say how each end gets to CONNECTED. Once the
line between the two ends is sealed (`overlay.line`), everything said goes over it: by a
path if one works, else through the introduction at the callee's home. While it rings
both join the same two relays, so that sound flows from the moment of accepting; then
contacts tell each other their addresses, and `nat.paths` looks for something better.

A call that is over still repeats its last word for a while, and then asks to be
forgotten. Sans-IO: speaks in asks to supernodes, signals through the introducer, and
datagrams by routes; the owner (`overlay.calls`) carries all three.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Final

from nat.errors import WireError
from nat.paths import (
    PathAdded,
    PathChosen,
    PathEvent,
    PathLost,
    PathReport,
    Paths,
    ProbingBegan,
    Relayed,
    Route,
)
from overlay.ask import Ask, Peer
from overlay.call_messages import (
    CallRequest,
    EndReason,
    HangUp,
    Purpose,
    Refuse,
    Taken,
    decode_call_answer,
    decode_call_request,
    encode_call_body,
    end_reason,
)
from overlay.call_state import (
    TRANSITIONS,
    CallChanged,
    CallEvent,
    CallRoute,
    CallState,
    Cause,
    Self,
    Signalled,
    Timeline,
)
from overlay.disclosure import Disclosure
from overlay.exchange import AnswerReceived, RequestReceived
from overlay.line import Line
from overlay.meeting import Meeting
from overlay.messages import Answer
from overlay.records import Presence

__all__ = ["RING_S", "Call"]

RING_S: Final = 60.0
# How long a caller waits for somebody to answer.
NO_PATH_S: Final = 10.0
# After accepting: neither a relay nor a direct path works.
LOST_S: Final = 10.0
# Nothing heard by any path; consent would end after 30 s (RFC 7675).
LINGER_S: Final = 5.0
# Who ends a call says so until it is answered, or as long as any request is repeated.
LISTEN_S: Final = 2.0
# Who was told answers that long, in case the answer is lost.


class Call:
    """One end of a call. `number` names it locally."""

    def __init__(
        self,
        number: int,
        ours: Self,
        purpose: Purpose,
        introduction: bytes,
        state: CallState,
        *,
        is_contact: bool,
        relay_only: bool,
    ) -> None:
        self.number: Final = number
        self.purpose: Final = purpose
        self.introduction: Final = introduction
        self.timeline: Final = Timeline()
        self.peer: Presence | None = None
        self.ended_reason: EndReason | None = None
        self.ended_by_us = False
        self.paths: Paths | None = None
        self.is_contact: Final = is_contact
        self._ours = ours
        self.disclosure: Final = Disclosure(
            ours.candidates, allowed=is_contact and not relay_only
        )
        self._state = state
        self.line: Line | None = None
        self._home: Peer | None = None
        self.meeting: Final = Meeting(self._channel_on)
        self._proven: set[Route] = set()
        self._no_path_at = math.inf
        self._lost_at = math.inf
        self._forget_at = math.inf
        self._asks: list[Ask] = []
        self._signals: list[Signalled] = []
        self._datagrams: list[tuple[Route, bytes]] = []
        self._events: list[CallEvent] = []
        self._refused = 0
        self._over = False
        self._check_name = ""

    # -- for the owner -----------------------------------------------------------------

    @property
    def state(self) -> CallState:
        """Where the call is."""
        return self._state

    @property
    def index(self) -> int | None:
        """The index under which sealed datagrams for this call come."""
        return self.line.index if self.line else None

    @property
    def refused(self) -> int:
        """How many datagrams did not belong, or broke the rules."""
        return self._refused

    @property
    def over(self) -> bool:
        """Whether nothing is left to say, so that the call can be forgotten."""
        return self._over

    def is_named(self, username: str) -> bool:
        """Whether a check with this USERNAME is for us."""
        return username == self._check_name

    def is_proven(self, route: Route) -> bool:
        """Whether the other end answers by this route now."""
        return route in self._proven

    def path_reports(self) -> list[PathReport]:
        """Give how the paths are."""
        return self.paths.reports() if self.paths else []

    def hang_up(self, now: float) -> None:
        """End the call from here."""
        talks = self._state is CallState.CONNECTED
        self.end(EndReason.HUNG_UP if talks else EndReason.CANCELLED, now)

    def end(self, reason: EndReason, now: float) -> None:
        """End the call from here, for this reason, and tell the other end."""
        if self._state is CallState.ENDED:
            return
        self._finish(reason, now, by_us=True)
        if self.line is not None and self.line.open:
            self._say(HangUp(reason), now)

    def forget(self) -> None:
        """Say no more."""
        self._forget_at, self._over = math.inf, True

    def send_media(self, payload: bytes, now: float) -> bool:
        """Send a piece of media by the chosen path; False if there is none yet."""
        routes = self.paths.media_routes() if self.paths else ()
        if self.line is None or not routes or self._state is not CallState.CONNECTED:
            return False
        if (datagram := self.line.seal_media(payload)) is None:
            return False
        self.timeline.mark("first_media_out", now)
        self._datagrams.extend((route, datagram) for route in routes)
        return True

    def media_received(self) -> list[bytes]:
        """Drain the media that came."""
        return self.line.media_received() if self.line else []

    # -- what arrives ------------------------------------------------------------------

    def receive(self, datagram: bytes, route: Route | None, now: float) -> None:
        """Take a sealed datagram of this call; `route` None came by the introducer."""
        if self.line is None or self._over:
            return
        try:
            self.line.receive(datagram, now)
        except WireError:
            self._refused += 1
            return
        self._heard(now)
        if route is not None and self.paths is not None:
            if datagram[0] == _MEDIA:
                self.timeline.mark("first_media_in", now)
            self.paths.heard(route, now)
            self._settle_paths(now)
        self._settle_exchange(now)

    def receive_check(self, datagram: bytes, route: Route, now: float) -> None:
        """Take a STUN datagram that is for this call's paths."""
        if self.paths is not None and self._state is not CallState.ENDED:
            self.paths.receive(datagram, route, now)
            self._settle_paths(now)

    def answered(self, tag: Hashable, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to an ask of ours."""
        route = self.meeting.answered(tag, answer)
        if route is not None and self.paths is not None:
            self.timeline.mark("relay_joined", now)
            self.paths.add_relay(route, now)
            self.paths.handle_timeout(now)  # its first check is due at once
            self._settle_paths(now)

    def failed(self, tag: Hashable, now: float) -> None:
        """Take it that an ask of ours came to nothing."""
        self.meeting.failed(tag)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if self.paths is not None and self._state is not CallState.ENDED:
            self.paths.handle_timeout(now)
            self._settle_paths(now)
        if self.line is not None:
            self.line.exchange.handle_timeout(now)
            self._settle_exchange(now)
        if now >= self._no_path_at:
            self.end(EndReason.NO_RELAY, now)
        if now >= self._lost_at:
            if self._proven and self.purpose is Purpose.VOICE:
                self._heard(now)  # nobody speaks, but the other end is there
            else:
                self.end(EndReason.LOST, now)
        if now >= self._forget_at:
            self.forget()

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        instants = [self._no_path_at, self._lost_at, self._forget_at]
        if self.paths is not None and self._state is not CallState.ENDED:
            instants.append(self.paths.next_timeout())
        if self.line is not None and not self._over:
            instants.append(self.line.exchange.next_timeout())
        return min(instants)

    # -- drains ------------------------------------------------------------------------

    def asks_to_send(self) -> list[Ask]:
        """Drain what to ask supernodes."""
        asks, self._asks = self._asks, []
        return asks + self.meeting.messages_to_send()

    def signals_to_send(self) -> list[Signalled]:
        """Drain what goes through the introducer."""
        self._seal_exchange()
        signals, self._signals = self._signals, []
        return signals

    def messages_to_send(self) -> list[tuple[Route, bytes]]:
        """Drain the datagrams and the routes they take; after `signals_to_send`."""
        if self.paths is not None and self._state is not CallState.ENDED:
            self._datagrams.extend(self.paths.messages_to_send())
        datagrams, self._datagrams = self._datagrams, []
        return datagrams

    def events(self) -> list[CallEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events

    # -- for both ends -----------------------------------------------------------------

    def _request(self, request: CallRequest, now: float) -> None:
        """Handle what the other end asks; the ends differ."""
        match request:
            case HangUp() | Refuse():
                self._finish(end_reason(request.reason), now, by_us=False)

    def _move(self, cause: Cause, now: float) -> None:
        self._state = TRANSITIONS[self._state][cause]
        self.timeline.mark(str(self._state), now)
        self._events.append(CallChanged(self._state))

    def _connect(self, now: float) -> None:
        """Talk from here on."""
        self._move(Cause.ACCEPTED, now)
        self._lost_at = now + LOST_S
        if self.paths is None or not self.paths.media_routes():
            self._no_path_at = now + NO_PATH_S

    def _finish(self, reason: EndReason, now: float, *, by_us: bool) -> None:
        if self._state is CallState.ENDED:
            return
        self.ended_reason, self.ended_by_us = reason, by_us
        self._no_path_at = self._lost_at = math.inf
        self._forget_at = now + (LINGER_S if by_us else LISTEN_S)
        self._move(Cause.ENDED, now)

    def _say(self, request: CallRequest, now: float) -> None:
        if self.line is not None:
            self.line.exchange.request(encode_call_body(request), now)

    def _punch(self, candidates: Sequence[str], now: float) -> None:
        """Try the other end's addresses; that shows it ours."""
        to_try = self.disclosure.to_try(candidates)
        if to_try and self.paths is not None:
            self.timeline.mark("punching", now)
            self.paths.punch(to_try, now)
            self._settle_paths(now)

    def _channel_on(self, relay_static: bytes) -> bytes:
        assert self.line is not None
        return self.line.channel(relay_static)

    def _begin_paths(self, *, controlling: bool) -> None:
        assert self.line is not None
        credentials = self.line.credentials()
        ours, theirs = credentials.our_fragment, credentials.their_fragment
        self._check_name = f"{ours}:{theirs}"
        draw = self._ours.local.random_bytes
        self.paths = Paths(credentials, controlling=controlling, random_bytes=draw)

    # -- inside ------------------------------------------------------------------------

    def _heard(self, now: float) -> None:
        if self._state is CallState.CONNECTED:
            self._lost_at = now + LOST_S

    def _settle_paths(self, now: float) -> None:
        assert self.paths is not None
        for event in self.paths.events():
            self._take_path_event(event, now)

    def _take_path_event(self, event: PathEvent, now: float) -> None:
        match event:
            case PathAdded(route):
                self._proven.add(route)
                self._no_path_at = math.inf
                relayed = isinstance(route, Relayed)
                self.timeline.mark("relay_ready" if relayed else "direct_ready", now)
                self._heard(now)
                self._events.append(event)
            case PathChosen(route):
                relayed = isinstance(route, Relayed)
                self.timeline.mark("relayed" if relayed else "direct", now)
                self._events.append(CallRoute(event))
            case PathLost(route):
                self._proven.discard(route)
                if isinstance(route, Relayed):
                    self.meeting.join_again(route.channel)
            case ProbingBegan():
                self._events.append(event)

    def _settle_exchange(self, now: float) -> None:
        if self.line is None:
            return
        exchange = self.line.exchange
        for event in exchange.events():
            try:
                if isinstance(event, RequestReceived):
                    request = decode_call_request(event.body)
                    exchange.answer(event.number, encode_call_body(Taken()))
                    self._request(request, now)
                elif isinstance(event, AnswerReceived):
                    decode_call_answer(event.body)
            except WireError:
                self._refused += 1
        over = self._state is CallState.ENDED and self.ended_by_us and self.line.open
        if over and not exchange.requests_under_way:
            self._forget_at = now

    def _seal_exchange(self) -> None:
        """Send what is to be said by a path that answers, else by the introducer."""
        if self.line is None:
            return
        routes = self.paths.media_routes() if self.paths else ()
        proven = [route for route in routes if route in self._proven]
        for datagram in self.line.messages_to_send():
            if proven:
                self._datagrams.append((proven[0], datagram))
            else:
                self._signal(datagram)

    def _signal(self, payload: bytes) -> None:
        if self._home is not None:
            self._signals.append(Signalled(self._home, self.introduction, payload))


_MEDIA: Final = 0x08
