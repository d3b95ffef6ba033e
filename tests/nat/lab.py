"""A tiny network in virtual time: hosts behind pure NATs, relays, delay and loss.

Two `End`s hold one call. Each has its `Paths` and its `Gate`, drained and asked as the
contract says, and sends "voice" every 20 ms by the routes it is told.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from nat.address import Address
from nat.candidate import Candidate, CandidateKind
from nat.checks import Credentials
from nat.gate import Gate
from nat.model import BEHAVIOURS, Nat
from nat.paths import Direct, PathAdded, PathEvent, Paths, ProbingBegan, Relayed, Route

CALLER = Credentials("call", "c" * 22, "peer", "p" * 22)
CALLEE = Credentials("peer", "p" * 22, "call", "c" * 22)
EPOCH_S = 1_700_000_000.0
VOICE_S = 0.02
SERVER = Address("192.0.2.1", 3478)
RELAY = Relayed(Address("192.0.2.10", 7_000), b"channel1")
SPARE = Relayed(Address("192.0.2.20", 7_000), b"channel2")

E = TypeVar("E", bound=PathEvent)


@dataclass
class World:
    """The wire: a heap of what is under way, and how long it takes."""

    one_way_s: float = 0.05
    loss: float = 0.0
    seed: int = 0
    now: float = EPOCH_S
    ahead: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    relay_one_way_s: dict[Route, float] = field(default_factory=dict)
    dead: set[Route] = field(default_factory=set)
    cut: bool = False  # no direct datagram arrives

    def __post_init__(self) -> None:
        self.order = itertools.count()
        self.random = random.Random(self.seed)

    def plan(self, at: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.ahead, (max(at, self.now), next(self.order), event))

    def play(self, duration_s: float) -> None:
        ends_at = self.now + duration_s
        while self.ahead and self.ahead[0][0] <= ends_at:
            self.now, _, event = heapq.heappop(self.ahead)
            event()
        self.now = ends_at

    def fly(self, source: Address, target: Address, datagram: bytes) -> None:
        """Carry a datagram to whichever host it may enter."""
        if self.cut or self.random.random() < self.loss:
            return
        for host in self.hosts:
            if host.holds(target):
                arrive = partial(host.arrive, source, target, datagram)
                self.plan(self.now + self.one_way_s, arrive)


class Host:
    """One socket, open to the world or behind a NAT."""

    def __init__(self, world: World, address: Address, kind: str = "open") -> None:
        self.world = world
        self.nat: Nat | None = None
        self.inside = address
        self.public = address.host
        self.receive: Callable[[bytes, Address], None] = lambda _datagram, _source: None
        if kind != "open":
            randbytes = random.Random(f"{world.seed} {address}").randbytes
            self.nat = Nat(BEHAVIOURS[kind], [address.host], randbytes)
            self.inside = Address("192.168.1.2", address.port)
        world.hosts.append(self)

    def holds(self, target: Address) -> bool:
        return target.host == self.public

    def seen_by(self, target: Address) -> Address:
        if self.nat is None:
            return self.inside
        external = self.nat.outbound(self.inside, target, self.world.now)
        assert external is not None
        return external

    def send(self, datagram: bytes, target: Address) -> None:
        self.world.fly(self.seen_by(target), target, datagram)

    def arrive(self, source: Address, target: Address, datagram: bytes) -> None:
        inside: Address | None = target
        if self.nat is not None:
            inside = self.nat.inbound(source, target, self.world.now)
        if inside == self.inside:
            self.receive(datagram, source)

    def candidates(self) -> list[Candidate]:
        """What this side would disclose: itself, and what a server sees of it."""
        return [
            Candidate.of(CandidateKind.HOST, self.inside),
            Candidate.of(CandidateKind.REFLEXIVE, self.seen_by(SERVER)),
        ]


class End:
    """One end of the call."""

    def __init__(self, host: Host, credentials: Credentials) -> None:
        self.host, self.world = host, host.world
        self.gate = Gate()
        self.paths = Paths(
            credentials,
            controlling=credentials is CALLER,
            random_bytes=random.Random(f"{host.world.seed} {credentials}").randbytes,
        )
        self.other: End
        self.seen: list[tuple[float, PathEvent]] = []
        self.voice: list[tuple[float, Route, int]] = []
        self.refused = 0
        self.silent = False
        host.receive = self.receive_direct

    def join(self, route: Relayed) -> None:
        self.paths.add_relay(route, self.world.now)
        self.pump()

    def punch(self, candidates: Sequence[Candidate]) -> None:
        self.paths.punch(candidates, self.world.now)
        self.pump()

    def speak(self, number: int = 0) -> None:
        """Send voice every 20 ms from now on, unless silent."""
        if not self.silent:
            for route in self.paths.media_routes():
                self.send(route, b"\x08" + number.to_bytes(4, "big"))
        self.world.plan(self.world.now + VOICE_S, partial(self.speak, number + 1))

    def receive_direct(self, datagram: bytes, source: Address) -> None:
        self.gate.heard(source, len(datagram), self.world.now)
        self.receive(datagram, Direct(source))

    def receive(self, datagram: bytes, route: Route) -> None:
        if datagram[0] == 0x08:
            number = int.from_bytes(datagram[1:], "big")
            self.voice.append((self.world.now, route, number))
            self.paths.heard(route, self.world.now)
        else:
            self.paths.receive(datagram, route, self.world.now)
        self.pump()

    def pump(self) -> None:
        """Do what the contract says after every call."""
        now = self.world.now
        if self.paths.next_timeout() <= now:
            self.paths.handle_timeout(now)
        for event in self.paths.events():
            self.seen.append((now, event))
            match event:
                case ProbingBegan(address, allowance_bytes):
                    self.gate.grant(address, allowance_bytes, now)
                case PathAdded(Direct(address), _):
                    self.gate.validate(address, now)
        for route, datagram in self.paths.messages_to_send():
            self.send(route, datagram)
        if self.paths.next_timeout() < now + 3_600:
            self.world.plan(self.paths.next_timeout(), self.wake)

    def wake(self) -> None:
        if self.paths.next_timeout() <= self.world.now:
            self.pump()

    def send(self, route: Route, datagram: bytes) -> None:
        match route:
            case Direct(address):
                if self.gate.allows(address, len(datagram), self.world.now):
                    self.host.send(datagram, address)
                else:
                    self.refused += 1
            case Relayed():
                lost = self.world.random.random() < self.world.loss
                if route not in self.world.dead and not lost:
                    delay_s = self.world.relay_one_way_s.get(route, 0.08)
                    arrive = partial(self.other.arrive_relayed, datagram, route)
                    self.world.plan(self.world.now + delay_s, arrive)

    def arrive_relayed(self, datagram: bytes, route: Route) -> None:
        if route not in self.world.dead:
            self.receive(datagram, route)

    def events(self, kind: type[E]) -> list[E]:
        """Give the events of one kind."""
        return [event for _, event in self.seen if isinstance(event, kind)]

    def times_s(self, kind: type[PathEvent]) -> list[float]:
        """Give how long after the start, to the millisecond, they came."""
        at = [at for at, event in self.seen if isinstance(event, kind)]
        return [round(each - EPOCH_S, 3) for each in at]

    def longest_gap_s(self, since_s: float) -> float:
        """Give the longest time without voice, from so long after the start."""
        times = [at - EPOCH_S for at, _, _ in self.voice if at - EPOCH_S >= since_s]
        assert times, "no voice at all"
        times = [since_s, *times, self.world.now - EPOCH_S]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def call(world: World, kinds: tuple[str, str] = ("open", "open")) -> tuple[End, End]:
    """Give the two ends of a call, each on its host, with no path yet."""
    caller = End(Host(world, Address("198.51.100.1", 5_000), kinds[0]), CALLER)
    callee = End(Host(world, Address("203.0.113.1", 6_000), kinds[1]), CALLEE)
    caller.other, callee.other = callee, caller
    return caller, callee


def punch(caller: End, callee: End, skew_s: float = 0.0) -> None:
    """Let both ends punch towards what the other one discloses."""
    theirs, ours = callee.host.candidates(), caller.host.candidates()
    caller.punch(theirs)
    caller.world.plan(caller.world.now + skew_s, partial(callee.punch, ours))
