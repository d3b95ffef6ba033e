"""Requests, answers and notices over one sealed line that loses datagrams.

    asker                                  answerer
      | -- request 7 --------x                |      lost
      |        (retry after 2 RTT)            |
      | -- request 7 -----------------------> |  RequestReceived(7)
      |                     x---- answer 7 -- |      lost
      | -- request 7 -----------------------> |  known: the same answer once more
      | <------------------------- answer 7 - |
    AnswerReceived(7)

A request is repeated with doubling pauses until it is answered or `GIVE_UP_S` is over;
its receiver hears of it once. Notices are sent once and may be lost. Numbers start at
random, so that a peer that forgot everything and came back is not mistaken for itself.

Sans-IO: envelopes in and out, see `overlay.envelope`. Bodies stay encoded.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

from overlay.envelope import Envelope, EnvelopeKind

__all__ = [
    "AnswerReceived",
    "Exchange",
    "ExchangeEvent",
    "NoticeReceived",
    "RequestExpired",
    "RequestReceived",
]

FIRST_RETRY_S: Final = 0.5
# Before a round trip was measured (RFC 8961 asks for 1 s on the open Internet; our
# requests are single and small).
RETRY_MIN_S: Final = 0.1
# Twice the round trip, but not below what a busy scheduler takes.
GIVE_UP_S: Final = 5.0
# Five tries at a round trip of 100 ms. A home that is silent for longer is lost.
ASKED_MAX: Final = 256
# Requests under way: as many as a home has registrations to refresh at once.
HEARD_MAX: Final = 256
# Requests remembered to answer repetitions: more than one peer may have under way.
HEARD_S: Final = 2 * GIVE_UP_S
# They are not repeated for longer, so their answers need not be kept for longer.
RTT_GAIN: Final = 1 / 8
# RFC 6298.


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """The peer asks; answer it with `Exchange.answer(number, ...)`."""

    number: int
    body: bytes


@dataclass(frozen=True, slots=True)
class AnswerReceived:
    """The peer answered our request; `rtt_s` spans from its first sending."""

    number: int
    body: bytes
    rtt_s: float


@dataclass(frozen=True, slots=True)
class NoticeReceived:
    """The peer says something that needs no answer."""

    body: bytes


@dataclass(frozen=True, slots=True)
class RequestExpired:
    """Our request was not answered in time."""

    number: int


ExchangeEvent: TypeAlias = (
    RequestReceived | AnswerReceived | NoticeReceived | RequestExpired
)


@dataclass(slots=True)
class _Asked:
    envelope: Envelope
    first_sent_at: float
    expires_at: float
    retry_s: float
    retry_at: float
    tries: int = 1


@dataclass(slots=True)
class _Heard:
    forget_at: float
    answer: bytes | None = None


class Exchange:
    """One side of the exchange with one peer; lives as long as the two know each other.

    `first_number` is random, 32 bits.
    """

    def __init__(self, first_number: int) -> None:
        self._next_number = first_number % 2**32
        self._asked: dict[int, _Asked] = {}
        self._heard: OrderedDict[int, _Heard] = OrderedDict()
        self._rtt_s: float | None = None
        self._to_send: list[Envelope] = []
        self._events: list[ExchangeEvent] = []
        self._repetitions_heard = 0

    @property
    def rtt_s(self) -> float | None:
        """The smoothed round trip, once one was measured."""
        return self._rtt_s

    @property
    def requests_under_way(self) -> int:
        """How many of our requests wait for an answer."""
        return len(self._asked)

    @property
    def repetitions_heard(self) -> int:
        """How many requests came more than once."""
        return self._repetitions_heard

    def request(self, body: bytes, now: float) -> int:
        """Ask; gives the number that the answer, or the failure, will carry."""
        number = self._next_number
        self._next_number = (number + 1) % 2**32
        if len(self._asked) >= ASKED_MAX:
            self._events.append(RequestExpired(number))
            return number
        envelope = Envelope(EnvelopeKind.REQUEST, number, body)
        pause_s = self._first_pause_s()
        self._asked[number] = _Asked(
            envelope, now, now + GIVE_UP_S, pause_s, now + pause_s
        )
        self._to_send.append(envelope)
        return number

    def notify(self, body: bytes) -> None:
        """Say something once."""
        self._to_send.append(Envelope(EnvelopeKind.NOTICE, 0, body))

    def answer(self, number: int, body: bytes) -> None:
        """Answer a request that was received; the first answer stands."""
        heard = self._heard.get(number)
        if heard is not None and heard.answer is None:
            heard.answer = body
            self._to_send.append(Envelope(EnvelopeKind.ANSWER, number, body))

    def receive(self, envelope: Envelope, now: float) -> None:
        """Take an envelope from the peer."""
        match envelope.kind:
            case EnvelopeKind.REQUEST:
                self._hear_request(envelope, now)
            case EnvelopeKind.ANSWER:
                self._hear_answer(envelope, now)
            case EnvelopeKind.NOTICE:
                self._events.append(NoticeReceived(envelope.body))

    def begin_again(self, now: float) -> None:
        """Repeat at once what waits for an answer: the line has just become usable."""
        for asked in self._asked.values():
            asked.tries += 1
            asked.retry_at = now + asked.retry_s
            self._to_send.append(asked.envelope)

    def fail_all(self) -> None:
        """Give up every request under way: the line is gone."""
        self._events.extend(RequestExpired(number) for number in self._asked)
        self._asked.clear()

    def handle_timeout(self, now: float) -> None:
        """Repeat what is due and give up what is over."""
        self._forget_heard(now)
        for number, asked in list(self._asked.items()):
            if now >= asked.expires_at:
                del self._asked[number]
                self._events.append(RequestExpired(number))
            elif now >= asked.retry_at:
                asked.tries += 1
                asked.retry_s *= 2
                asked.retry_at = now + asked.retry_s
                self._to_send.append(asked.envelope)

    def next_timeout(self) -> float:
        """Give the instant of the next repetition or failure."""
        return min(
            (min(asked.retry_at, asked.expires_at) for asked in self._asked.values()),
            default=math.inf,
        )

    def messages_to_send(self) -> list[Envelope]:
        """Drain the envelopes to seal and send."""
        to_send, self._to_send = self._to_send, []
        return to_send

    def events(self) -> list[ExchangeEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events

    def _first_pause_s(self) -> float:
        if self._rtt_s is None:
            return FIRST_RETRY_S
        return max(2 * self._rtt_s, RETRY_MIN_S)

    def _hear_request(self, envelope: Envelope, now: float) -> None:
        self._forget_heard(now)
        heard = self._heard.get(envelope.number)
        if heard is None:
            if len(self._heard) >= HEARD_MAX:
                self._heard.popitem(last=False)
            self._heard[envelope.number] = _Heard(now + HEARD_S)
            self._events.append(RequestReceived(envelope.number, envelope.body))
            return
        self._repetitions_heard += 1
        if heard.answer is not None:
            answer = Envelope(EnvelopeKind.ANSWER, envelope.number, heard.answer)
            self._to_send.append(answer)

    def _forget_heard(self, now: float) -> None:
        while self._heard and now >= next(iter(self._heard.values())).forget_at:
            self._heard.popitem(last=False)

    def _hear_answer(self, envelope: Envelope, now: float) -> None:
        asked = self._asked.pop(envelope.number, None)
        if asked is None:
            return
        rtt_s = now - asked.first_sent_at
        if asked.tries == 1:  # Karn: a repeated request does not tell which one it was
            old = self._rtt_s
            self._rtt_s = rtt_s if old is None else old + RTT_GAIN * (rtt_s - old)
        self._events.append(AnswerReceived(envelope.number, envelope.body, rtt_s))
