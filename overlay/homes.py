"""How a leaf finds its homes and stays at home with them.

                  SOUGHT    KNOWN      CHOSEN       STORED   UNCHANGED  NOBODY
    ALONE         SEEKING
    SEEKING                 MEASURING                                   ALONE
    MEASURING                          REGISTERING           AT_HOME    ALONE
    REGISTERING   SEEKING   MEASURING               AT_HOME
    AT_HOME       SEEKING   MEASURING

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
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from nat.address import Address
from nat.errors import WireError
from overlay.ask import Ask, Peer
from overlay.deadlines import Deadlines
from overlay.draw import draw_fraction
from overlay.home import (
    TRANSITIONS,
    AtHome,
    Cause,
    Home,
    HomeLost,
    HomesEvent,
    HomesState,
    NobodyAnswers,
    nearest,
)
from overlay.known import KnownSupernodes
from overlay.messages import (
    Answer,
    Busy,
    GetSupernodes,
    Ping,
    Pong,
    Register,
    Registered,
    Request,
    Supernodes,
)
from overlay.records import HOMES_MAX, read_descriptor
from overlay.timing import HomesTiming

__all__ = ["Homes", "HomesState"]

MEASURED_MAX: Final = 6
# Pinged at once, to keep the best three.
KNOWN_WANTED: Final = 24
# Paging stops here: four times what is measured.
PAGES_MAX: Final = 16
# Asked for beyond first pages in one search: a hostile table could go on for ever.
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
        self._known = KnownSupernodes(random_bytes)
        self._measured: dict[bytes, Home] = {}
        self._waiting_for: set[Hashable] = set()
        self._hurrying = False
        self._published = False
        self._publishing = b""
        self._pages_left = PAGES_MAX
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

    def begin(self, now: float) -> None:
        """Set out."""
        self._seek(now)

    @property
    def known(self) -> KnownSupernodes:
        """The supernodes we have heard of."""
        return self._known

    def goodbye(self, static: bytes, now: float) -> None:
        """Take it that a supernode leaves."""
        self._known.forget(static)
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
                held = self._homes.get(peer.known_static)
                if held is not None and held.registered and not answer.at_home:
                    self._register(now)  # it was restarted, or took us for gone
            case ("register", Peer() as peer, bytes(publishing)), Registered():
                self._take_registered(peer, answer, publishing)
            case ("register", Peer() as peer, _), Busy():
                self._known.mark_busy(peer.known_static, now + answer.retry_after_s)
                for contact in answer.alternatives:
                    with contextlib.suppress(WireError):
                        self._known.learn(Peer.of(contact))
                self._lose(peer, "it is full", now)
            case _:
                self.failed(tag, now)

    def failed(self, tag: Hashable, now: float) -> None:
        """Take it that an ask of ours was not answered, or made no sense."""
        match tag:
            case ("measure", Peer() as peer):
                self._known.forget(peer.known_static)
            case ("keepalive" | "register", Peer() as peer, *_):
                self._known.forget(peer.known_static)
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
        new = list(asks)
        self._waiting_for = {ask.tag for ask in new}
        self._asks.extend(new)

    def _seek(self, now: float) -> None:
        self._move(Cause.SOUGHT)
        self._pages_left = PAGES_MAX
        remembered = self._known.draw(ASKED_MAX)
        peers = [*map(Peer, self._seeds), *remembered][:ASKED_MAX]
        self._wait_for(_ask_page(peer, RING_START) for peer in peers)
        if not peers:
            self._give_up_for_now(now)

    def _take_page(self, peer: Peer, page: Supernodes, now: float) -> None:
        for raw in page.descriptors:
            try:
                descriptor = read_descriptor(raw)
                self._known.learn(Peer(descriptor.address, descriptor.dh_public))
            except WireError:
                continue
        wanted = len(self._known) < KNOWN_WANTED and self._pages_left > 0
        if page.next_start and wanted:
            self._pages_left -= 1
            self._asks.append(_ask_page(peer, page.next_start))
        elif self._state is HomesState.AT_HOME:
            self._measure(now)
        else:
            self._done_with(("page", peer), now, hurry=True)

    def _give_up_for_now(self, now: float) -> None:
        self._move(Cause.NOBODY)
        doubled_s = self._timing.backoff_s_min * 2**self._failures
        pause_s = min(self._timing.backoff_s_max, doubled_s)
        self._failures = min(self._failures + 1, DOUBLINGS_MAX)
        retry_s = max(PAUSE_S_MIN, pause_s * draw_fraction(self._random_bytes))
        self._deadlines.set("refresh", math.inf)
        self._deadlines.set("seek", now + retry_s)
        self._events.append(NobodyAnswers(len(self._seeds), retry_s))

    def _measure(self, now: float) -> None:
        """Ping some supernodes that are not our homes yet."""
        self._move(Cause.KNOWN)
        self._measured.clear()
        some = self._known.draw_others(self._homes, MEASURED_MAX, now)
        self._wait_for(Ask(peer, Ping(), ("measure", peer)) for peer in some)
        if not some:
            self._choose(now)

    def _take_pong(self, peer: Peer, pong: Pong, rtt_s: float) -> None:
        self._observe(pong.observed)
        static = peer.known_static
        if (held := self._homes.get(static)) is not None:
            smooth_s = held.rtt_s + RTT_GAIN * (rtt_s - held.rtt_s)
            self._homes[static] = replace(held, rtt_s=smooth_s, load=pong.load)
        elif pong.load < 1:
            self._measured[static] = Home(peer, rtt_s, pong.load)

    def _choose(self, now: float) -> None:
        """Take the nearest as homes; the homes we have count as measured."""
        chosen = nearest([*self._homes.values(), *self._measured.values()])
        if not chosen:
            self._known.forget_all()
            self._give_up_for_now(now)
            return
        self._plan_more(len(chosen), now)
        if set(chosen) == set(self._homes) and self._published:
            self._move(Cause.UNCHANGED)
            return
        self._homes = chosen
        self._move(Cause.CHOSEN)
        self._register(now)

    def _register(self, now: float) -> None:
        """Tell all homes, and have the primary publish us."""
        self._published = False
        presence = self._write_presence([home.peer for home in self.homes], now)
        self._publishing = presence
        for rank, home in enumerate(self.homes):
            publishing = b"" if rank else presence
            request = Register(presence, self._claim, publish=rank == 0)
            self._ask(home.peer, request, ("register", home.peer, publishing))
            self._plan_keepalive(home.static, now)
        self._deadlines.set("refresh", now + self._spread(self._timing.refresh_s))

    def _take_registered(
        self, peer: Peer, answer: Registered, publishing: bytes
    ) -> None:
        if (held := self._homes.get(peer.known_static)) is None:
            return
        self._observe(answer.observed)
        self._homes[held.static] = replace(held, registered=True)
        if publishing and publishing == self._publishing:
            self._published = True
            self._failures = 0
            if self._state is HomesState.REGISTERING:
                self._move(Cause.STORED)
            self._events.append(AtHome(self.homes, answer.stored, answer.owners))

    def _lose(self, peer: Peer, reason: str, now: float) -> None:
        home = self._homes.pop(peer.known_static, None)
        if home is None:
            return
        self._published, self._publishing = False, b""
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
            self._pages_left = PAGES_MAX
            self._asks.append(_ask_page(self.homes[0].peer, RING_START))
            self._plan_more(len(self._homes), now)

    def _plan_more(self, homes: int, now: float) -> None:
        enough = homes >= HOMES_MAX
        pause_s = self._timing.more_homes_s if enough else self._more_homes_s
        self._more_homes_s = min(2 * pause_s, self._timing.refresh_s)
        self._deadlines.set("more", math.inf if enough else now + pause_s)

    # -- inside ------------------------------------------------------------------------

    def _move(self, cause: Cause) -> None:
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


def _ask_page(peer: Peer, start: bytes) -> Ask:
    return Ask(peer, GetSupernodes(start), ("page", peer))
