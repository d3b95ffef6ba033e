"""Plain hole punching: find out which of the peer's addresses can be reached directly.

Both ends send checks (RFC 8445) from the call's socket to every address the other one
disclosed. The first of them may die at the peer's NAT, but it opens our own, so that
the peer's next check comes in. Each *pair* (our socket, one of their addresses):

    checked at once, then each 50 ms for 1.5 s, by a fresh check each time
    a verified check of the peer's: check back at once, even if ours is on its way
                                    (waiting for the next turn costs up to 50 ms)
    ... from an address we did not know (the peer's NAT chose another port for us):
                                    that is one more pair
    an answer: the pair works; its round trip is known

The controlling end settles on the best pair (*nomination*): as soon as nothing better
can come, 100 ms after the first answer at the latest.

              BEGAN           ANSWERED         NOMINATED
      IDLE ────────► PUNCHING ─────────► FOUND ──────────► NOMINATED
                      ▲    │               ▲
              CHECKED │    │ EXPIRED       │ ANSWERED (late)
                      │    ▼               │
                      FAILED ──────────────┘        BEGAN leads to PUNCHING from all

In IDLE nothing is sent: addresses are disclosed only when `begin` is called. Verified
checks that come earlier are remembered, so that the peer's haste is not lost.

Probes are bounded per pair and pairs per `begin`, and `ProbingBegan` announces each
pair's allowance to the gate: nobody can use a node to flood a third address.

Further methods (a first probe that dies on the way, port prediction, many sockets at
once) will plug in beside `begin`: each of them adds pairs to the same table, by `_add`,
or sends from other sockets and reports what it found by the same events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nat.address import Address
from nat.candidate import CANDIDATES_MAX, Candidate, check_priority, order
from nat.checks import CHECK_BYTES_MAX, Checks
from nat.stun import BindingError, BindingRequest, BindingResponse, Message

__all__ = [
    "TRANSITIONS",
    "Cause",
    "PairFound",
    "PairNominated",
    "ProbingBegan",
    "Punch",
    "PunchEvent",
    "PunchFailed",
    "PunchState",
]

PROBE_INTERVAL_S: Final = 0.050
# Less floods, more wastes time; with triggered checks a start skew costs nothing.
PUNCH_S: Final = 1.5
# Of successes 97.6 % come at the first try: a longer one only delays another method.
PROBES_PER_PAIR_MAX: Final = 40
# 30 in 1.5 s, and what the peer's checks trigger.
LEARNT_MAX: Final = CANDIDATES_MAX
# Addresses the peer turned out to have, each time we begin.
NOMINATION_WAIT_S: Final = 0.100
# Time for a second answer that is a better one.
RTT_STEP_S: Final = 0.010
# Pairs that differ by less are ranked by the kind of their address.
SENT_MAX: Final = 2 * CANDIDATES_MAX * PROBES_PER_PAIR_MAX
# Checks whose answers we still know, oldest forgotten.


class PunchState(Enum):
    """Where the punching of one call stands."""

    IDLE = "not begun"
    PUNCHING = "no answer yet"
    FOUND = "some address answers"
    NOMINATED = "both ends have settled on one"
    FAILED = "no address answered"


class Cause(Enum):
    """What moves it on."""

    BEGAN = "we were asked to"
    CHECKED = "a verified check of the peer's asks for one of ours"
    ANSWERED = "a check of ours was answered"
    NOMINATED = "the controlling end settled, and the other one knows"
    EXPIRED = "the time of every pair is over"


TRANSITIONS: Final[Mapping[PunchState, Mapping[Cause, PunchState]]] = {
    PunchState.IDLE: {
        Cause.BEGAN: PunchState.PUNCHING,
    },
    PunchState.PUNCHING: {
        Cause.BEGAN: PunchState.PUNCHING,
        Cause.CHECKED: PunchState.PUNCHING,
        Cause.ANSWERED: PunchState.FOUND,
        Cause.EXPIRED: PunchState.FAILED,
    },
    PunchState.FOUND: {
        Cause.BEGAN: PunchState.PUNCHING,
        Cause.CHECKED: PunchState.FOUND,
        Cause.ANSWERED: PunchState.FOUND,
        Cause.NOMINATED: PunchState.NOMINATED,
    },
    PunchState.NOMINATED: {
        Cause.BEGAN: PunchState.PUNCHING,
        Cause.CHECKED: PunchState.NOMINATED,
        Cause.ANSWERED: PunchState.NOMINATED,
        Cause.NOMINATED: PunchState.NOMINATED,
    },
    PunchState.FAILED: {
        Cause.BEGAN: PunchState.PUNCHING,
        Cause.CHECKED: PunchState.PUNCHING,
        Cause.ANSWERED: PunchState.FOUND,
    },
}


@dataclass(frozen=True, slots=True)
class ProbingBegan:
    """Probes to this address follow, of so many bytes at most: tell the gate."""

    address: Address
    allowance_bytes: int


@dataclass(frozen=True, slots=True)
class PairFound:
    """The peer answers at this address."""

    address: Address
    rtt_s: float


@dataclass(frozen=True, slots=True)
class PairNominated:
    """The controlling end prefers this address."""

    address: Address


@dataclass(frozen=True, slots=True)
class PunchFailed:
    """None of the addresses answered in time."""

    addresses: tuple[Address, ...]


PunchEvent = ProbingBegan | PairFound | PairNominated | PunchFailed


@dataclass(slots=True)
class _Pair:
    """One of the peer's addresses: working once `rtt_s` is known."""

    address: Address
    priority: int
    probe_at: float
    expires_at: float
    probes: int = 0
    rtt_s: float | None = None
    nominating: bool = False  # our checks say USE-CANDIDATE, or theirs did

    @property
    def probing(self) -> bool:
        return self.probe_at < math.inf

    def rank(self) -> tuple[int, int]:
        """Give the place among the working pairs, best first."""
        assert self.rtt_s is not None
        return round(self.rtt_s / RTT_STEP_S), -self.priority


@dataclass(frozen=True, slots=True)
class _Probe:
    address: Address
    sent_at: float
    use_candidate: bool


class Punch:
    """The direct addresses of one call's peer; lives as long as the call."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._state = PunchState.IDLE
        self._pairs: dict[Address, _Pair] = {}
        self._sent: dict[bytes, _Probe] = {}
        self._early: dict[Address, BindingRequest] = {}
        self._learnt_left = LEARNT_MAX
        self._settle_at = math.inf
        self._messages: list[tuple[Address, bytes]] = []
        self._events: list[PunchEvent] = []

    @property
    def state(self) -> PunchState:
        """Where it stands."""
        return self._state

    def begin(self, candidates: Sequence[Candidate], now: float) -> None:
        """Punch towards the best of the peer's candidates, forgetting earlier pairs."""
        self._pairs.clear()
        self._learnt_left = LEARNT_MAX
        self._settle_at = math.inf
        self._move(Cause.BEGAN)
        for candidate in order(candidates):
            self._add(candidate.address, candidate.priority, now)
        early, self._early = self._early, {}
        for address, request in early.items():
            self._receive_check(request, address, now)
        self._probe_due(now)
        self._fail_if_over()

    def receive(self, message: Message, source: Address, now: float) -> None:
        """Take a verified check or answer that came directly from `source`."""
        match message:
            case BindingRequest():
                self._receive_check(message, source, now)
            case BindingResponse():
                self._receive_answer(message, source, now)
            case BindingError():
                pass  # like no answer: the next probe may fare better
        self._probe_due(now)

    def awaits(self, transaction_id: bytes) -> bool:
        """Tell whether this is the id of a check of ours."""
        return transaction_id in self._sent

    def forget(self, address: Address) -> None:
        """The path to this address was given up: only a new check finds it again."""
        self._pairs.pop(address, None)

    def handle_timeout(self, now: float) -> None:
        """Send the probes that are due, give up the pairs whose time is over."""
        if now >= self._settle_at:
            self._settle(now)
        self._probe_due(now)
        self._fail_if_over()
        assert self.next_timeout() > now

    def next_timeout(self) -> float:
        """Give the instant of the next probe, or of settling."""
        probe_at = min(
            (each.probe_at for each in self._pairs.values()), default=math.inf
        )
        return min(probe_at, self._settle_at)

    def messages_to_send(self) -> list[tuple[Address, bytes]]:
        """Drain the checks to send, each with its target."""
        messages, self._messages = self._messages, []
        return messages

    def events(self) -> list[PunchEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events

    def _move(self, cause: Cause) -> None:
        self._state = TRANSITIONS[self._state][cause]

    def _add(self, address: Address, priority: int, now: float) -> _Pair:
        pair = _Pair(address, priority, probe_at=now, expires_at=now + PUNCH_S)
        self._pairs[address] = pair
        allowance_bytes = PROBES_PER_PAIR_MAX * CHECK_BYTES_MAX
        self._events.append(ProbingBegan(address, allowance_bytes))
        return pair

    def _receive_check(
        self, request: BindingRequest, source: Address, now: float
    ) -> None:
        if self._state is PunchState.IDLE:
            if len(self._early) < LEARNT_MAX:
                self._early[source] = request
            return
        pair = self._pairs.get(source)
        if pair is None:
            if not self._learnt_left:
                return
            self._learnt_left -= 1
            pair = self._add(source, request.priority or check_priority(), now)
        if request.use_candidate and not self._checks.controlling:
            pair.nominating = True
        if pair.rtt_s is None and pair.probes < PROBES_PER_PAIR_MAX:
            self._move(Cause.CHECKED)
            pair.probe_at = now
            pair.expires_at = now + PUNCH_S
        elif (
            pair.rtt_s is not None
            and pair.nominating
            and self._state is PunchState.FOUND
        ):
            self._nominated(pair)

    def _receive_answer(
        self, response: BindingResponse, source: Address, now: float
    ) -> None:
        probe = self._sent.get(response.transaction_id)
        pair = self._pairs.get(source)
        if probe is None or pair is None or probe.address != source:
            return  # RFC 8445 §7.2.5.2.1: an answer from elsewhere proves nothing
        del self._sent[response.transaction_id]
        self._move(Cause.ANSWERED)
        if pair.rtt_s is None:
            pair.rtt_s = now - probe.sent_at
            self._events.append(PairFound(source, pair.rtt_s))
        settled = not self._checks.controlling or probe.use_candidate
        if settled or not pair.nominating:
            pair.probe_at = math.inf
        if settled and pair.nominating:
            self._nominated(pair)
        elif self._checks.controlling and self._state is PunchState.FOUND:
            self._plan_settling(now)

    def _nominated(self, pair: _Pair) -> None:
        if self._state is not PunchState.NOMINATED:
            self._events.append(PairNominated(pair.address))
        self._move(Cause.NOMINATED)

    def _plan_settling(self, now: float) -> None:
        """Settle now if no pair can still turn out better, else soon."""
        if any(each.nominating for each in self._pairs.values()):
            return
        hopes = [each for each in self._pairs.values() if each.probing]
        best = min(self._working(), key=_Pair.rank)
        if all(each.priority < best.priority for each in hopes):
            self._settle(now)
        else:
            self._settle_at = min(self._settle_at, now + NOMINATION_WAIT_S)

    def _settle(self, now: float) -> None:
        """Tell the peer, by checks with USE-CANDIDATE, which pair is the best."""
        self._settle_at = math.inf
        working = self._working()
        if working:
            best = min(working, key=_Pair.rank)
            best.nominating = True
            best.probe_at = now
            best.expires_at = now + PUNCH_S

    def _working(self) -> list[_Pair]:
        return [each for each in self._pairs.values() if each.rtt_s is not None]

    def _probe_due(self, now: float) -> None:
        for pair in self._pairs.values():
            if now < pair.probe_at:
                continue
            if now >= pair.expires_at or pair.probes >= PROBES_PER_PAIR_MAX:
                pair.probe_at = math.inf
            else:
                self._probe(pair, now)

    def _probe(self, pair: _Pair, now: float) -> None:
        use_candidate = pair.nominating and self._checks.controlling
        transaction_id, datagram = self._checks.request(use_candidate=use_candidate)
        if len(self._sent) >= SENT_MAX:
            del self._sent[next(iter(self._sent))]
        self._sent[transaction_id] = _Probe(pair.address, now, use_candidate)
        self._messages.append((pair.address, datagram))
        pair.probes += 1
        pair.probe_at = now + PROBE_INTERVAL_S

    def _fail_if_over(self) -> None:
        over = not any(each.probing for each in self._pairs.values())
        if self._state is PunchState.PUNCHING and over:
            self._move(Cause.EXPIRED)
            self._events.append(PunchFailed(tuple(self._pairs)))
