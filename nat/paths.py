"""The paths of one call: kept alive, measured, and one of them chosen for its media.

A call starts on a relay both ends have joined, and is moved to better paths while
people talk. Its paths are relays that were joined (`add_relay`) and direct addresses
that were found (`punch`, by `nat.punch`); each is checked all the time (`nat.path`),
and `nat.choice` says which one media should take.

    nothing answers yet          media goes by the first two paths
    a better path is found       by the new and by the old one for 1 s: no gap
    the chosen one is suspect    by it and by the best other one
    the chosen one is lost       by the best other one
    everything is lost           still by the last one, until its 30 s of consent end

Each end chooses the path it *sends* by; what comes in is taken from all of them.

Routes carry plain datagrams here: a check for a `Relayed` route has to be framed for
its channel by who sends it, and unframed by who hands it in.

After every call drain `events()` first, then `messages_to_send()`: `ProbingBegan` tells
the gate about the probes among them, `PathAdded` that the address is validated.
`receive` never raises: what does not verify is dropped and counted. Before `punch` is
called nothing is sent to any direct address, nor answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nat.candidate import Candidate
from nat.checks import Checks, Credentials
from nat.choice import best, explain, prefer
from nat.errors import WireError
from nat.path import Direct, Path, PathState, Relayed, Route
from nat.punch import (
    PairFound,
    PairNominated,
    ProbingBegan,
    Punch,
    PunchFailed,
    PunchState,
)
from nat.stun import BindingError, BindingRequest, Message

__all__ = [
    "AllPathsLost",
    "Credentials",
    "Direct",
    "PathAdded",
    "PathChosen",
    "PathEvent",
    "PathLost",
    "PathReport",
    "PathState",
    "Paths",
    "PathsStatistics",
    "ProbingBegan",
    "PunchFailed",
    "Relayed",
    "Route",
]

OVERLAP_S: Final = 1.0
# Longer than the jitter buffer and the difference between the two paths' delays.
RELAYS_MAX: Final = 4
# Two are meant to be warm; two more while they are being replaced.
DIRECT_MAX: Final = 8
# As many as there are candidates.


@dataclass(frozen=True, slots=True)
class PathAdded:
    """A path answers, for the first time or again."""

    route: Route
    rtt_s: float


@dataclass(frozen=True, slots=True)
class PathChosen:
    """Media is sent by this route now."""

    route: Route
    previous: Route | None
    reason: str


@dataclass(frozen=True, slots=True)
class PathLost:
    """A path does not answer any more."""

    route: Route
    reason: str


@dataclass(frozen=True, slots=True)
class AllPathsLost:
    """No path is left; `PathAdded` tells if one comes back."""


PathEvent = (
    PathAdded | PathChosen | PathLost | AllPathsLost | ProbingBegan | PunchFailed
)


@dataclass(frozen=True, slots=True)
class PathReport:
    """One path as the people on the call may see it."""

    route: Route
    state: PathState
    rtt_s: float | None
    loss: float
    chosen: bool
    why: str


@dataclass(frozen=True, slots=True)
class PathsStatistics:
    """Counts since the start of the call."""

    forged: int
    unknown_route: int
    unexpected_answers: int
    refused_routes: int


class Paths:
    """The paths of one call, from its first relay to its end."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        controlling: bool,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._checks = Checks(
            credentials, controlling=controlling, random_bytes=random_bytes
        )
        self._punch = Punch(self._checks)
        self._paths: dict[Route, Path] = {}
        self._reported: dict[Route, PathState] = {}
        self._chosen: Path | None = None
        self._chosen_why = ""
        self._previous: Path | None = None
        self._overlap_ends_at = math.inf
        self._all_lost = True
        self._media_routes: tuple[Route, ...] = ()
        self._messages: list[tuple[Route, bytes]] = []
        self._events: list[PathEvent] = []
        self._forged = 0
        self._unknown_route = 0
        self._unexpected_answers = 0
        self._refused_routes = 0

    def add_relay(self, route: Relayed, now: float) -> None:
        """Take in a channel that we have joined; the first one is chosen at once."""
        self._add(route, now)
        self._settle(now)

    def remove(self, route: Route, now: float) -> None:
        """Give up a path; a direct one comes back if the peer still checks it."""
        path = self._paths.get(route)
        if path is not None:
            self._forget(path, "removed")
            self._settle(now)

    def punch(self, candidates: Sequence[Candidate], now: float) -> None:
        """Look for direct paths to the peer's candidates, at most 8 of them."""
        self._punch.begin(candidates, now)
        self._settle(now)

    def receive(self, datagram: bytes, route: Route, now: float) -> None:
        """Take a STUN datagram that came by this route and is for this call."""
        try:
            message = self._checks.open(datagram)
        except WireError:
            self._forged += 1
            return
        if isinstance(message, BindingRequest):
            self._receive_check(message, route, now)
        else:
            self._receive_answer(message, route, now)
        self._settle(now)

    def heard(self, route: Route, now: float) -> None:
        """Media that proved to be the peer's came by this route."""
        path = self._paths.get(route)
        if path is None:
            self._unknown_route += 1
        else:
            path.heard(now)

    def awaits(self, transaction_id: bytes) -> bool:
        """Tell whether a STUN answer with this id is for this call."""
        return self._punch.awaits(transaction_id) or any(
            path.awaits(transaction_id) for path in self._paths.values()
        )

    def media_routes(self) -> tuple[Route, ...]:
        """Give where to send media now: none, one, or two while it is being moved."""
        return self._media_routes

    def handle_timeout(self, now: float) -> None:
        """Send what is due, notice what is lost, end what is over."""
        for path in self._paths.values():
            path.handle_timeout(now)
        self._punch.handle_timeout(now)
        self._settle(now)
        assert self.next_timeout() > now

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        paths = (path.next_timeout() for path in self._paths.values())
        return min(self._overlap_ends_at, self._punch.next_timeout(), *paths)

    def messages_to_send(self) -> list[tuple[Route, bytes]]:
        """Drain checks and answers, each with its route."""
        messages, self._messages = self._messages, []
        for path in self._paths.values():
            messages += [(path.route, check) for check in path.messages_to_send()]
        messages += [
            (Direct(address), check)
            for address, check in self._punch.messages_to_send()
        ]
        return messages

    def events(self) -> list[PathEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events

    def reports(self) -> list[PathReport]:
        """Give every path with what was measured and why it is used or not."""
        return [
            PathReport(
                route=path.route,
                state=path.state,
                rtt_s=path.rtt_s,
                loss=path.loss,
                chosen=path is self._chosen,
                why=(
                    self._chosen_why
                    if path is self._chosen
                    else explain(path, self._chosen)
                ),
            )
            for path in self._paths.values()
        ]

    def statistics(self) -> PathsStatistics:
        """Give the counts."""
        return PathsStatistics(
            forged=self._forged,
            unknown_route=self._unknown_route,
            unexpected_answers=self._unexpected_answers,
            refused_routes=self._refused_routes,
        )

    def _add(self, route: Route, now: float) -> Path | None:
        known = self._paths.get(route)
        if known is not None:
            return known
        alike = sum(type(each) is type(route) for each in self._paths)
        if alike >= (DIRECT_MAX if isinstance(route, Direct) else RELAYS_MAX):
            self._refused_routes += 1
            return None
        path = self._paths[route] = Path(route, self._checks, now)
        return path

    def _forget(self, path: Path, reason: str) -> None:
        del self._paths[path.route]
        if self._reported.pop(path.route, None) is PathState.UP:
            self._events.append(PathLost(path.route, reason))
        if isinstance(path.route, Direct):
            self._punch.forget(path.route.address)
        if path is self._chosen:
            self._chosen = None
        if path is self._previous:
            self._previous = None

    def _receive_check(self, request: BindingRequest, route: Route, now: float) -> None:
        match route:
            case Direct(source):
                self._punch.receive(request, source, now)
                if self._punch.state is PunchState.IDLE:
                    return
            case Relayed(source, _):
                if route not in self._paths:
                    self._unknown_route += 1
                    return
        self._messages.append((route, self._checks.answer(request, source)))
        path = self._paths.get(route)
        if path is not None and path.state in (PathState.NEW, PathState.LOST):
            path.check_soon(now)

    def _receive_answer(self, answer: Message, route: Route, now: float) -> None:
        path = self._paths.get(route)
        if path is not None and path.awaits(answer.transaction_id):
            if not isinstance(answer, BindingError):
                path.answered(answer.transaction_id, now)
        elif isinstance(route, Direct) and self._punch.awaits(answer.transaction_id):
            self._punch.receive(answer, route.address, now)
        else:
            self._unexpected_answers += 1

    def _settle(self, now: float) -> None:
        """Draw the consequences of whatever has just changed."""
        self._take_found(now)
        self._report_changes()
        change = prefer(self._chosen, list(self._paths.values()))
        if change is not None:
            self._change(*change, now)
        if now >= self._overlap_ends_at:
            self._previous, self._overlap_ends_at = None, math.inf
        self._media_routes = self._routes()

    def _take_found(self, now: float) -> None:
        """Turn the pairs that punching found into paths."""
        for event in self._punch.events():
            match event:
                case PairFound(address, rtt_s):
                    path = self._add(Direct(address), now)
                    if path is not None:
                        path.measured(rtt_s, now)
                case PairNominated():
                    pass  # ends the punching; each side sends by what it measured
                case ProbingBegan() | PunchFailed():
                    self._events.append(event)

    def _report_changes(self) -> None:
        """Say which paths have come to answer, or ceased to."""
        for path in list(self._paths.values()):
            reported = self._reported.get(path.route)
            if path.state is PathState.UP and reported is not PathState.UP:
                assert path.rtt_s is not None
                self._reported[path.route] = PathState.UP
                self._events.append(PathAdded(path.route, path.rtt_s))
            elif path.state is PathState.LOST and reported is not PathState.LOST:
                self._reported[path.route] = PathState.LOST
                reason = "does not answer" if path.answers else "never answered"
                self._events.append(PathLost(path.route, reason))
            elif path.state is PathState.GONE:
                self._forget(path, path.state.value)
        any_alive = any(path.alive for path in self._paths.values())
        if not any_alive and not self._all_lost:
            self._events.append(AllPathsLost())
        self._all_lost = not any_alive

    def _change(self, path: Path, reason: str, now: float) -> None:
        previous = self._chosen
        if previous is not None:
            previous.choose(False, now)
            self._previous, self._overlap_ends_at = previous, now + OVERLAP_S
        path.choose(True, now)
        self._chosen, self._chosen_why = path, reason
        route = previous.route if previous is not None else None
        self._events.append(PathChosen(path.route, route, reason))

    def _routes(self) -> tuple[Route, ...]:
        chosen = self._chosen
        if chosen is None:
            return ()
        others = [each for each in self._paths.values() if each is not chosen]
        if self._previous in others and self._previous.alive:
            return chosen.route, self._previous.route
        if chosen.state in (PathState.NEW, PathState.SUSPECT):
            standby = best(each for each in others if each.alive)
            if standby is not None:
                return chosen.route, standby.route
        return (chosen.route,)
