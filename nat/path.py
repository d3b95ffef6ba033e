"""One path of a call: is it alive, how long is its round trip, how much does it lose?

A path is checked all the time, with the checks of `nat.checks`; the answers measure it,
keep its NAT bindings open and prove that the peer still wants our datagrams.

                ANSWERED          SILENT              SILENT           SILENT
        NEW ─────────────► UP ──────────────► SUSPECT ───────► LOST ───────────► GONE
         │                 ▲                      │             │ ▲
         │ SILENT          └───── ANSWERED ───────┴─ ANSWERED ──┘ │
         └────────────────────────────────────────────────────────┘

    state     checked each                   silent when
    NEW       0.1 s for 1.5 s, then 1 s      never answered in 10 s (the peer may join a
                                             relay later than we do)
    UP        0.1 s until measured, then     a check is not answered in time, or media
              1 s if chosen, else 2.5 s      has stopped coming, for 0.4 s
    SUSPECT   0.1 s                          nothing answered for 0.6 s or 3 round trips
    LOST      1 s                            30 s after the last answer (RFC 7675 §5.1)

Suspicion costs little, so it comes early: media that stops may mean a dead path, a peer
that pauses, or one that sends by another path now. One answered check clears it, and
until media comes again its absence is no reason any more. Keepalives where media pauses
would allow far smaller numbers than 0.4 and 0.6 s: those are what a watchdog tightens.

SUSPECT is left by an answer only: packets that come in do not prove that ours arrive.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from nat.address import Address
from nat.checks import Checks

__all__ = [
    "OUTSTANDING_MAX",
    "TRANSITIONS",
    "Cause",
    "Direct",
    "Path",
    "PathState",
    "Relayed",
    "Route",
]

FAST_INTERVAL_S: Final = 0.1
CHOSEN_INTERVAL_S: Final = 1.0
WARM_INTERVAL_S: Final = 2.5
# Far below every NAT's timeout; a dead standby is known before it is needed.
SLOW_INTERVAL_S: Final = 1.0
HASTE_S: Final = 1.5
# How long a new path is checked fast.
NEVER_ANSWERED_S: Final = 10.0
SUSPECT_S: Final = 0.4
# 20 voice packets missing.
LOST_S: Final = 0.6
# 6 fast checks unanswered; with SUSPECT_S, 1 s from the last packet to the switch.
LOST_RTTS: Final = 3.0
CONSENT_S: Final = 30.0
# RFC 7675 §5.1.
RTT_MARGIN_S: Final = 0.05
# Jitter of a path that so far had none.
MEASURED_ANSWERS: Final = 3
# Enough to compare a path with others.
LOSS_WINDOW_CHECKS: Final = 20
OUTSTANDING_MAX: Final = 64
# Checks whose answers we still know, oldest counted as lost.


@dataclass(frozen=True, slots=True)
class Direct:
    """The way straight to an address of the peer."""

    address: Address

    def __str__(self) -> str:
        return f"direct {self.address}"


@dataclass(frozen=True, slots=True)
class Relayed:
    """The way through a channel of 8 bytes at a relay."""

    relay: Address
    channel: bytes

    def __str__(self) -> str:
        return f"relay {self.relay}"


Route = Direct | Relayed


class PathState(Enum):
    """How much a path can be trusted."""

    NEW = "no answer yet"
    UP = "answers"
    SUSPECT = "should have been heard"
    LOST = "does not answer"
    GONE = "given up"


class Cause(Enum):
    """What moves a path on."""

    ANSWERED = "a check was answered"
    SILENT = "what had to come did not"


TRANSITIONS: Final[Mapping[PathState, Mapping[Cause, PathState]]] = {
    PathState.NEW: {Cause.ANSWERED: PathState.UP, Cause.SILENT: PathState.LOST},
    PathState.UP: {Cause.ANSWERED: PathState.UP, Cause.SILENT: PathState.SUSPECT},
    PathState.SUSPECT: {Cause.ANSWERED: PathState.UP, Cause.SILENT: PathState.LOST},
    PathState.LOST: {Cause.ANSWERED: PathState.UP, Cause.SILENT: PathState.GONE},
    PathState.GONE: {},
}


class Path:
    """One route, from the moment it is known until it is given up."""

    def __init__(self, route: Route, checks: Checks, now: float) -> None:
        self.route: Final = route
        self.answers = 0
        self._checks = checks
        self._state = PathState.NEW
        self._chosen = False
        self._rtt_s: float | None = None
        self._rtt_variation_s = 0.0
        self._outcomes: deque[bool] = deque(maxlen=LOSS_WINDOW_CHECKS)
        self._outstanding: dict[bytes, float] = {}
        self._added_at = now
        self._answered_at = now
        self._check_at = now
        self._media_by = math.inf
        self._state_ends_at = now + NEVER_ANSWERED_S
        self._messages: list[bytes] = []

    @property
    def state(self) -> PathState:
        """How much the path can be trusted."""
        return self._state

    @property
    def alive(self) -> bool:
        """Whether media may go by this path."""
        return self._state in (PathState.NEW, PathState.UP, PathState.SUSPECT)

    @property
    def direct(self) -> bool:
        """Whether the path needs no relay."""
        return isinstance(self.route, Direct)

    @property
    def rtt_s(self) -> float | None:
        """The smoothed round trip; None until the first answer."""
        return self._rtt_s

    @property
    def loss(self) -> float:
        """The share of the last 20 checks that was not answered."""
        return self.loss_beyond(0)

    def loss_beyond(self, forgiven: int) -> float:
        """Give the loss with so many of the lost checks forgiven."""
        lost = max(0, self._outcomes.count(False) - forgiven)
        return lost / max(1, len(self._outcomes))

    def choose(self, chosen: bool, now: float) -> None:
        """Media goes by this path from now on, or does so no longer."""
        self._chosen = chosen
        self._check_at = min(self._check_at, now + self._interval_s(now))

    def measured(self, rtt_s: float, now: float) -> None:
        """A check that was not ours found a round trip (when punching)."""
        self._outstanding.clear()
        self._take_answer(rtt_s, now)

    def heard(self, now: float) -> None:
        """Media came by this path: more should follow."""
        self._media_by = now + SUSPECT_S

    def awaits(self, transaction_id: bytes) -> bool:
        """Tell whether this is the id of a check of ours."""
        return transaction_id in self._outstanding

    def answered(self, transaction_id: bytes, now: float) -> None:
        """A check of ours was answered; those before it are lost."""
        for earlier in list(self._outstanding):
            sent_at = self._outstanding.pop(earlier)
            if earlier == transaction_id:
                self._take_answer(now - sent_at, now)
                return
            self._outcomes.append(False)

    def check_soon(self, now: float) -> None:
        """Something suggests that the state has changed: check without delay."""
        self._check_at = min(self._check_at, now)

    def handle_timeout(self, now: float) -> None:
        """Notice silence, send the check that is due."""
        if now >= self._silent_at():
            self._move(Cause.SILENT, now)
        if now >= self._check_at:
            self._check(now)
        assert self.next_timeout() > now

    def next_timeout(self) -> float:
        """Give the instant of the next check, or of noticing silence."""
        return min(self._check_at, self._silent_at())

    def messages_to_send(self) -> list[bytes]:
        """Drain the checks to send."""
        messages, self._messages = self._messages, []
        return messages

    def _silent_at(self) -> float:
        if self._state is not PathState.UP:
            return self._state_ends_at
        oldest = next(iter(self._outstanding.values()), math.inf)
        return min(self._media_by, oldest + self._patience_s())

    def _patience_s(self) -> float:
        """Give the time an answer may take (RFC 6298 §2)."""
        margin_s = max(4 * self._rtt_variation_s, RTT_MARGIN_S)
        return max(SUSPECT_S, (self._rtt_s or 0.0) + margin_s)

    def _interval_s(self, now: float) -> float:
        match self._state:
            case PathState.NEW:
                hasty = now < self._added_at + HASTE_S
                return FAST_INTERVAL_S if hasty else SLOW_INTERVAL_S
            case PathState.UP if self.answers < MEASURED_ANSWERS:
                return FAST_INTERVAL_S
            case PathState.UP:
                return CHOSEN_INTERVAL_S if self._chosen else WARM_INTERVAL_S
            case PathState.SUSPECT:
                return FAST_INTERVAL_S
            case PathState.LOST:
                return SLOW_INTERVAL_S
            case PathState.GONE:
                return math.inf
            case _:
                assert_never(self._state)

    def _move(self, cause: Cause, now: float) -> None:
        self._state = TRANSITIONS[self._state][cause]
        match self._state:
            case PathState.SUSPECT:
                rtts_s = LOST_RTTS * (self._rtt_s or 0.0)
                self._state_ends_at = now + max(LOST_S, rtts_s)
                self._media_by = math.inf
                self._check_at = now
            case PathState.LOST:
                consent_ends_at = self._answered_at + CONSENT_S
                self._state_ends_at = max(consent_ends_at, now + SLOW_INTERVAL_S)
            case PathState.GONE:
                self._state_ends_at = math.inf
                self._check_at = math.inf
                return
        self._check_at = min(self._check_at, now + self._interval_s(now))

    def _check(self, now: float) -> None:
        transaction_id, datagram = self._checks.request()
        if len(self._outstanding) >= OUTSTANDING_MAX:
            del self._outstanding[next(iter(self._outstanding))]
            self._outcomes.append(False)
        self._outstanding[transaction_id] = now
        self._messages.append(datagram)
        self._check_at = now + self._interval_s(now)

    def _take_answer(self, rtt_s: float, now: float) -> None:
        if self._state in (PathState.NEW, PathState.LOST):
            # What went unanswered before says nothing about the path as it is now.
            self._outcomes.clear()
        self._outcomes.append(True)
        self.answers += 1
        self._answered_at = now
        if self._rtt_s is None:
            self._rtt_s, self._rtt_variation_s = rtt_s, rtt_s / 2
        else:
            deviation_s = abs(rtt_s - self._rtt_s)
            self._rtt_variation_s += (deviation_s - self._rtt_variation_s) / 4
            self._rtt_s += (rtt_s - self._rtt_s) / 4
        if now >= self._media_by:
            self._media_by = math.inf
        self._move(Cause.ANSWERED, now)
