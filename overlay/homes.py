"""How a leaf finds its homes and stays at home with them.

              a supernode answers          the best three are chosen
    SEEKING ----------------------> MEASURING -------------------> REGISTERING
       |  ^                             ^                              |
       |  | backoff over                | a home is lost               | the primary has
       v  |                             |                              v  stored us
      ALONE <-------------------------- '------------------------- AT_HOME
              nobody answers

*Seeking* pages through the tables of the seeds and of supernodes known before.
*Measuring* pings six of those and keeps the three with the shortest round trip, on
different /16 networks while there are enough. *Registering* tells all three, and asks
the first, the primary, to publish our presence to its owners. At home each home is
pinged every 20 s, and everything is registered anew every 300 s, both +-20 %, so that
leaves that began together do not stay together.

A home that does not answer is dropped, others are measured, and the presence is renewed
with who is left. A leaf with fewer than three homes asks its primary for more, at
growing distances. Better homes than those it has are not yet looked for.

Nobody answering is told once a try (`NobodyAnswers`): the first node of a network takes
it as its call. All rejoining waits a random part of a doubling pause. Sans-IO; speaks
in asks (`overlay.ask`).
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from nat.address import Address
from nat.errors import WireError
from overlay.ask import Ask, Peer
from overlay.deadlines import Deadlines
from overlay.draw import draw_fraction, draw_some
from overlay.home import (
    AtHome,
    Home,
    HomeLost,
    HomesEvent,
    HomesTiming,
    NobodyAnswers,
    nearest,
)
from overlay.messages import (
    Answer,
    Busy,
    Contact,
    GetSupernodes,
    Ping,
    Pong,
    Register,
    Registered,
    Request,
    Supernodes,
)
from overlay.records import HOMES_MAX, read_descriptor

__all__ = ["Homes", "HomesState"]

MEASURED_MAX: Final = 6
# Pinged at once, to keep the best three.
KNOWN_MAX: Final = 64
# Supernodes remembered; enough that a restart finds one that lives.
KNOWN_WANTED: Final = 24
# Paging stops here: four times what is measured.
ASKED_MAX: Final = 8
# Supernodes asked for their table at once; one may lie, several rarely do.
STRAGGLERS_S: Final = 0.25
# Waited after the first answer; who is this much slower would not be chosen anyway.
DOUBLINGS_MAX: Final = 16
# Of the pause between tries; it is capped long before.
PAUSE_S_MIN: Final = 0.1
# A random pause near zero would be no pause.
RTT_GAIN: Final = 1 / 8
# RFC 6298.
RING_START: Final = bytes(8)


class HomesState(enum.Enum):
    """Where a leaf is on its way home."""

    ALONE = "alone"
    SEEKING = "seeking"
    MEASURING = "measuring"
    REGISTERING = "registering"
    AT_HOME = "at home"


class _Cause(enum.Enum):
    SOUGHT = "supernodes are asked for"
    KNOWN = "supernodes to measure are known"
    CHOSEN = "homes were chosen"
    STORED = "the primary has published us"
    UNCHANGED = "what was measured changes nothing"
    NOBODY = "nobody answers"


_S: Final = HomesState
TRANSITIONS: Final[Mapping[_Cause, Mapping[HomesState, HomesState]]] = {
    _Cause.SOUGHT: {
        _S.ALONE: _S.SEEKING,
        _S.MEASURING: _S.SEEKING,
        _S.REGISTERING: _S.SEEKING,
        _S.AT_HOME: _S.SEEKING,
    },
    _Cause.KNOWN: {
        _S.SEEKING: _S.MEASURING,
        _S.REGISTERING: _S.MEASURING,
        _S.AT_HOME: _S.MEASURING,
    },
    _Cause.CHOSEN: {_S.MEASURING: _S.REGISTERING},
    _Cause.STORED: {_S.REGISTERING: _S.AT_HOME},
    _Cause.UNCHANGED: {_S.MEASURING: _S.AT_HOME},
    _Cause.NOBODY: {_S.SEEKING: _S.ALONE, _S.MEASURING: _S.ALONE},
}


WritePresence: TypeAlias = Callable[[Sequence[Peer], float], bytes]


class Homes:
    """A leaf's way home; lives as long as the node is a leaf.

    `write_presence(homes, now)` signs a presence with a higher number than before;
    `claim` is our signed claim to a name, or empty.
    """

    def __init__(
        self,
        seeds: Iterable[Address],
        write_presence: WritePresence,
        claim: bytes,
        random_bytes: Callable[[int], bytes],
        timing: HomesTiming | None = None,
    ) -> None:
        self._seeds = tuple(seeds)
        self._write_presence = write_presence
        self._claim = claim
        self._random_bytes = random_bytes
        self._timing = timing or HomesTiming()
        self._state = HomesState.ALONE
        self._homes: dict[bytes, Home] = {}
        self._known: dict[bytes, Peer] = {}
        self._measured: dict[bytes, Home] = {}
        self._busy_until: dict[bytes, float] = {}
        self._waiting_for: set[Hashable] = set()
        self._hurrying = False
        self._published = False
        self._failures = 0
        self._more_homes_s = self._timing.more_homes_s
        self._observed: Address | None = None
        self._deadlines = Deadlines[Hashable]()
        self._asks: list[Ask] = []
        self._events: list[HomesEvent] = []

    @property
    def state(self) -> HomesState:
        """Where we are on the way home."""
        return self._state

    @property
    def homes(self) -> tuple[Home, ...]:
        """Our homes, the primary first."""
        return tuple(self._homes.values())

    @property
    def observed(self) -> Address | None:
        """Our address as a home saw it last."""
        return self._observed

    def known(self) -> tuple[Peer, ...]:
        """Give the supernodes we have heard of."""
        return tuple(self._known.values())

    def begin(self, now: float) -> None:
        """Set out."""
        self._seek(now)

    def learn(self, peer: Peer) -> None:
        """Remember a supernode; over the limit it pushes out the oldest."""
        if peer.static is None or peer.static in self._known:
            return
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[peer.static] = peer

    def goodbye(self, static: bytes, now: float) -> None:
        """Take it that a supernode leaves."""
        self._known.pop(static, None)
        if static in self._homes:
            self._lose(self._homes[static].peer, "it said goodbye", now)

    # -- answers -----------------------------------------------------------------------

    def answered(self, tag: Hashable, answer: Answer, rtt_s: float, now: float) -> None:
        """Take the answer to an ask of ours."""
        match tag, answer:
            case ("page", Peer() as peer), Supernodes():
                self._take_page(peer, answer, now)
            case ("measure", Peer() as peer), Pong():
                self._take_pong(peer, answer, rtt_s)
                self._done_with(tag, now, hurry=True)
            case ("keepalive", Peer() as peer), Pong():
                self._take_pong(peer, answer, rtt_s)
            case ("register", Peer() as peer), Registered():
                self._take_registered(peer, answer, now)
            case ("register", Peer() as peer), Busy():
                self._busy_until[_static(peer)] = now + answer.retry_after_s
                for contact in answer.alternatives:
                    self._learn_contact(contact)
                self._lose(peer, "it is full", now)
            case _:
                self.failed(tag, now)

    def failed(self, tag: Hashable, now: float) -> None:
        """Take it that an ask of ours was not answered, or made no sense."""
        match tag:
            case ("measure", Peer() as peer):
                self._known.pop(_static(peer), None)
            case ("keepalive" | "register", Peer() as peer):
                self._known.pop(_static(peer), None)
                self._lose(peer, "it does not answer", now)
        self._done_with(tag, now)

    # -- time --------------------------------------------------------------------------

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        for due in self._deadlines.pop_due(now):
            match due:
                case "step":
                    self._step(now)
                case "seek":
                    self._seek(now)
                case "refresh":
                    self._register(now)
                case "more":
                    self._look_for_more(now)
                case ("keepalive", bytes(static)) if static in self._homes:
                    peer = self._homes[static].peer
                    self._ask(peer, Ping(), ("keepalive", peer))
                    self._plan_keepalive(static, now)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        return self._deadlines.next_at()

    def messages_to_send(self) -> list[Ask]:
        """Drain what to ask."""
        asks, self._asks = self._asks, []
        return asks

    def events(self) -> list[HomesEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events

    # -- the way home ------------------------------------------------------------------

    def _step(self, now: float) -> None:
        """Go on with what is known by now."""
        self._waiting_for.clear()
        self._deadlines.set("step", math.inf)
        if self._state is HomesState.SEEKING and self._known:
            self._measure(now)
        elif self._state is HomesState.SEEKING:
            self._give_up_for_now(now)
        elif self._state is HomesState.MEASURING:
            self._choose(now)

    def _done_with(self, tag: Hashable, now: float, *, hurry: bool = False) -> None:
        """Go on when nothing is waited for, or soon after the first that came."""
        if tag not in self._waiting_for:
            return
        self._waiting_for.discard(tag)
        if not self._waiting_for:
            self._step(now)
        elif hurry and not self._hurrying:
            self._hurrying = True
            self._deadlines.set("step", now + STRAGGLERS_S)

    def _wait_for(self, asks: Iterable[Ask]) -> None:
        self._hurrying = False
        self._deadlines.set("step", math.inf)
        self._waiting_for = set()
        for ask in asks:
            self._waiting_for.add(ask.tag)
            self._asks.append(ask)

    def _seek(self, now: float) -> None:
        self._move(_Cause.SOUGHT)
        remembered = draw_some(self._random_bytes, self.known(), ASKED_MAX)
        peers = [*map(Peer, self._seeds), *remembered][:ASKED_MAX]
        self._wait_for(_ask_page(peer, RING_START) for peer in peers)
        if not peers:
            self._give_up_for_now(now)

    def _take_page(self, peer: Peer, page: Supernodes, now: float) -> None:
        for raw in page.descriptors:
            try:
                descriptor = read_descriptor(raw)
                self.learn(Peer(descriptor.address, descriptor.dh_public))
            except WireError:
                continue
        if page.next_start and len(self._known) < KNOWN_WANTED:
            self._asks.append(_ask_page(peer, page.next_start))
        elif self._state is HomesState.AT_HOME:
            self._measure(now)
        else:
            self._done_with(("page", peer), now, hurry=True)

    def _give_up_for_now(self, now: float) -> None:
        self._move(_Cause.NOBODY)
        timing = self._timing
        pause_s = min(timing.backoff_s_max, timing.backoff_s_min * 2**self._failures)
        self._failures = min(self._failures + 1, DOUBLINGS_MAX)
        retry_s = max(PAUSE_S_MIN, pause_s * draw_fraction(self._random_bytes))
        self._deadlines.set("refresh", math.inf)
        self._deadlines.set("seek", now + retry_s)
        self._events.append(NobodyAnswers(len(self._seeds), retry_s))

    def _measure(self, now: float) -> None:
        """Ping some supernodes that are not our homes yet."""
        self._move(_Cause.KNOWN)
        strangers = [
            peer
            for static, peer in self._known.items()
            if static not in self._homes and now >= self._busy_until.get(static, now)
        ]
        self._measured.clear()
        some = draw_some(self._random_bytes, strangers, MEASURED_MAX)
        self._wait_for(Ask(peer, Ping(), ("measure", peer)) for peer in some)
        if not some:
            self._choose(now)

    def _take_pong(self, peer: Peer, pong: Pong, rtt_s: float) -> None:
        self._observe(pong.observed)
        static = _static(peer)
        held = self._homes.get(static)
        if held is not None:
            smooth_s = held.rtt_s + RTT_GAIN * (rtt_s - held.rtt_s)
            self._homes[static] = replace(held, rtt_s=smooth_s, load=pong.load)
        elif pong.load < 1:
            self._measured[static] = Home(peer, rtt_s, pong.load)

    def _choose(self, now: float) -> None:
        """Take the nearest as homes; the homes we have count as measured."""
        chosen = nearest([*self._homes.values(), *self._measured.values()])
        if not chosen:
            self._known.clear()
            self._give_up_for_now(now)
            return
        self._plan_more(len(chosen), now)
        if set(chosen) == set(self._homes) and self._published:
            self._move(_Cause.UNCHANGED)
            return
        self._homes = chosen
        self._move(_Cause.CHOSEN)
        self._register(now)

    def _register(self, now: float) -> None:
        """Tell all homes, and have the primary publish us."""
        self._published = False
        presence = self._write_presence([home.peer for home in self.homes], now)
        for rank, home in enumerate(self.homes):
            request = Register(presence, self._claim, publish=rank == 0)
            self._ask(home.peer, request, ("register", home.peer))
            self._plan_keepalive(home.static, now)
        self._deadlines.set("refresh", now + self._spread(self._timing.refresh_s))

    def _take_registered(self, peer: Peer, answer: Registered, now: float) -> None:
        held = self._homes.get(_static(peer))
        if held is None:
            return
        self._observe(answer.observed)
        self._homes[held.static] = replace(held, registered=True)
        if held.static == self.homes[0].static:
            self._published = True
            self._failures = 0
            if self._state is HomesState.REGISTERING:
                self._move(_Cause.STORED)
            event = AtHome(self.homes, answer.stored, answer.owners)
            self._events.append(event)

    def _lose(self, peer: Peer, reason: str, now: float) -> None:
        home = self._homes.pop(_static(peer), None)
        if home is None:
            return
        self._published = False
        self._deadlines.set(("keepalive", home.static), math.inf)
        self._events.append(HomeLost(home, reason))
        if self._state is HomesState.MEASURING:
            return  # what is chosen next is published anyway
        if self._known or self._homes:
            self._measure(now)
        else:
            self._deadlines.set("refresh", math.inf)
            self._seek(now)

    def _look_for_more(self, now: float) -> None:
        """Ask the primary who else there is: we have fewer homes than we want."""
        if self._state is HomesState.AT_HOME and len(self._homes) < HOMES_MAX:
            self._asks.append(_ask_page(self.homes[0].peer, RING_START))
            self._plan_more(len(self._homes), now)

    def _plan_more(self, homes: int, now: float) -> None:
        enough = homes >= HOMES_MAX
        pause_s = self._timing.more_homes_s if enough else self._more_homes_s
        self._more_homes_s = min(2 * pause_s, self._timing.refresh_s)
        self._deadlines.set("more", math.inf if enough else now + pause_s)

    # -- inside ------------------------------------------------------------------------

    def _move(self, cause: _Cause) -> None:
        self._state = TRANSITIONS[cause][self._state]

    def _ask(self, peer: Peer, request: Request, tag: Hashable) -> None:
        self._asks.append(Ask(peer, request, tag))

    def _plan_keepalive(self, static: bytes, now: float) -> None:
        at = now + self._spread(self._timing.keepalive_s)
        self._deadlines.set(("keepalive", static), at)

    def _spread(self, period_s: float) -> float:
        lot = 2 * draw_fraction(self._random_bytes) - 1
        return period_s * (1 + self._timing.spread * lot)

    def _observe(self, packed: bytes) -> None:
        with contextlib.suppress(WireError):
            self._observed = Address.unpack(packed)

    def _learn_contact(self, contact: Contact) -> None:
        with contextlib.suppress(WireError):
            self.learn(Peer.of(contact))


def _ask_page(peer: Peer, start: bytes) -> Ask:
    return Ask(peer, GetSupernodes(start), ("page", peer))


def _static(peer: Peer) -> bytes:
    assert peer.static is not None
    return peer.static
