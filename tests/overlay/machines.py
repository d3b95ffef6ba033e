"""Whole nodes without tasks or sockets: `NodeMachine`s on one virtual clock.

    world = World(seed=1, quality=Quality(loss=0.05))
    home = world.add(0, supernode=SupernodeMode.ON)
    leaf = world.add(1, seeds=[home.address])
    world.run(10)

Datagrams wait in a heap; a link delays, loses, doubles, reorders and damages them. What
must hold at any moment is asserted here, from outside and with the world's own ledger:

- nothing is raised, and after `handle_timeout(now)` nothing is due any more;
- an address that never showed that it receives is sent at most what came from it, and
  what a node may begin by itself (`Account`);
- no counter of a key seals two different datagrams;
- no datagram is longer than 1,200 bytes.

The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from nat.address import Address
from overlay.call import Call
from overlay.call_messages import Purpose
from overlay.call_state import CallState
from overlay.identity import Identity
from overlay.incoming import IncomingCall
from overlay.lookup import LookupDone
from overlay.node import NodeMachine
from overlay.node_events import (
    CallArrived,
    LookupEnded,
    NodeConfig,
    NodeEvent,
    SupernodeMode,
)
from overlay.outgoing import OutgoingCall
from overlay.records import Presence, id_key
from overlay.seal import SEAL_BYTES
from tests.overlay.samples import NOW, identity

__all__ = ["Account", "Node", "Quality", "World"]

DATAGRAM_BYTES_MAX: Final = 1_200
BEGUN_BYTES_MAX: Final = 12_000
# What a node may send, within a minute, to an address that it begins something at.
BEGUN_PERIOD_S: Final = 60.0
PORT: Final = 7000

_E = TypeVar("_E")


@dataclass(frozen=True, slots=True)
class Quality:
    """What the links do to datagrams."""

    delay_s: float = 0.02
    jitter_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0


@dataclass(slots=True)
class Account:
    """What one node and one remote address have exchanged, as the world saw it.

    `receives` once the remote address has sent something after a datagram of the node
    had reached it: then somebody is there. Until then the node owes it nothing.
    """

    came_bytes: int = 0
    went_bytes: int = 0
    begun_bytes: int = 0
    begun_since: float = 0.0
    reached: bool = False
    receives: bool = False

    def begin(self, size: int, now: float) -> None:
        """Count what a node sends of its own accord, as far as it may."""
        if now >= self.begun_since + BEGUN_PERIOD_S:
            self.begun_since = now
            self.came_bytes += self.begun_bytes
            self.begun_bytes = 0
        self.begun_bytes = min(self.begun_bytes + size, BEGUN_BYTES_MAX)

    @property
    def excess_bytes(self) -> int:
        """How much more went out than was earned."""
        return self.went_bytes - self.came_bytes - self.begun_bytes


class Node:
    """One `NodeMachine` and what its owner saw of it."""

    def __init__(
        self, world: World, config: NodeConfig, kind: type[NodeMachine] = NodeMachine
    ) -> None:
        self.world = world
        self.address = config.address
        self.identity: Final = config.identity
        self.machine: Final = kind(config, world.now)
        self.log: list[NodeEvent] = []
        self.media: list[bytes] = []
        self.incoming: list[IncomingCall] = []
        self.answers = False
        """Whether calls are answered as they come."""

    def heard(self, kind: type[_E]) -> list[_E]:
        """Give the events of a kind so far."""
        return [event for event in self.log if isinstance(event, kind)]

    def look_up(self, key: bytes, within_s: float = 20.0) -> LookupDone:
        """Look a key up and wait for the end of it."""
        number = self.machine.look_up(key, self.world.now)
        assert number is not None
        self.world.drain(self)
        until = self.world.now + within_s
        while self.world.now < until:
            for event in self.heard(LookupEnded):
                if event.number == number:
                    return event.done
            self.world.run(0.02)
        raise AssertionError("a look-up that does not end")

    def call(
        self,
        other: Node,
        *,
        purpose: Purpose = Purpose.VOICE,
        relay_only: bool = False,
    ) -> OutgoingCall:
        """Look the other node up, and call it."""
        done = self.look_up(id_key(other.identity.public_key))
        presences = [r for r in done.records if isinstance(r, Presence)]
        assert presences, done
        return self.call_at(presences[0], purpose=purpose, relay_only=relay_only)

    def call_at(
        self,
        presence: Presence,
        *,
        purpose: Purpose = Purpose.VOICE,
        relay_only: bool = False,
    ) -> OutgoingCall:
        """Call whoever has this presence."""
        call = self.machine.place_call(
            presence, purpose, self.world.now, relay_only=relay_only
        )
        assert call is not None
        self.world.drain(self)
        return call

    def answer(self, call: IncomingCall) -> None:
        call.answer(self.world.now)
        self._changed(call)

    def refuse(self, call: IncomingCall) -> None:
        call.refuse(self.world.now)
        self._changed(call)

    def hang_up(self, call: Call) -> None:
        call.hang_up(self.world.now)
        self._changed(call)

    def say(self, call: Call, payload: bytes) -> bool:
        sent = self.machine.send_media(call, payload, self.world.now)
        self.world.drain(self)
        return sent

    def take(self, event: NodeEvent) -> None:
        self.log.append(event)
        if isinstance(event, CallArrived):
            self.incoming.append(event.call)
            if self.answers and event.call.state is CallState.RINGING:
                event.call.answer(self.world.now)
                self.machine.changed(event.call, self.world.now)

    def _changed(self, call: Call) -> None:
        self.machine.changed(call, self.world.now)
        self.world.drain(self)


@dataclass
class World:
    """Nodes, their clock, and what lies between them."""

    seed: int = 0
    quality: Quality = field(default_factory=Quality)
    now: float = NOW
    nodes: dict[Address, Node] = field(default_factory=dict)
    lose: Callable[[bytes, Address, Address], bool] = lambda *_: False
    tap: Callable[[bytes, Address, Address], None] = lambda *_: None
    accounts: dict[tuple[Address, Address], Account] = field(default_factory=dict)
    unruly: set[Address] = field(default_factory=set)
    """Whose datagrams may be anything."""
    sent: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(f"world {self.seed}")
        self._queue: list[tuple[float, int, Address, Address, bytes]] = []
        self._order = itertools.count()
        self._sealed: dict[bytes, bytes] = {}
        self._damaged: set[bytes] = set()

    def add(
        self,
        number: int,
        *,
        supernode: SupernodeMode = SupernodeMode.OFF,
        seeds: Sequence[Address] = (),
        name: str | None = None,
        is_contact: Callable[[bytes], bool] = lambda _: True,
        hosts: Sequence[str] = (),
        life: int = 1,
        voices_max: int = 1,
        kind: type[NodeMachine] = NodeMachine,
    ) -> Node:
        """Start a node; one with the same address is no more."""
        host = f"{20 + number // 250}.{number % 250}.0.1"
        rng = random.Random(f"{self.seed} {number} {life}")
        who: Identity = identity(number)
        config = NodeConfig(
            identity=who,
            name=name,
            address=Address(host, PORT),
            hosts=tuple(hosts) or (host,),
            network_name="test",
            seeds=tuple(seeds),
            supernode=supernode,
            is_contact=is_contact,
            client_version="test",
            random_bytes=rng.randbytes,
            voices_max=voices_max,
        )
        node = self.nodes[config.address] = Node(self, config, kind)
        node.machine.begin(self.now)
        self.drain(node)
        return node

    def stop(self, node: Node, *, politely: bool = True) -> None:
        """Let a node say goodbye, or fall silent."""
        if politely:
            node.machine.leave(self.now)
            self.drain(node)
        del self.nodes[node.address]

    def rebind(self, node: Node, address: Address) -> None:
        """Let a node be seen at another address, as behind a router that restarted."""
        del self.nodes[node.address]
        for (ours, remote), account in tuple(self.accounts.items()):
            if ours == node.address:
                self.accounts[address, remote] = account
        node.address = address
        self.nodes[address] = node

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            timers = [node.machine.next_timeout() for node in self.nodes.values()]
            arrivals = [self._queue[0][0]] if self._queue else []
            at = min([*timers, *arrivals, end])
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, source, target, datagram = heapq.heappop(self._queue)
                self._arrive(datagram, source, target)
            for node in tuple(self.nodes.values()):
                if node.machine.next_timeout() <= self.now:
                    node.machine.handle_timeout(self.now)
                    assert node.machine.next_timeout() > self.now
                    self.drain(node)

    def run_until(self, is_so: Callable[[], object], within_s: float = 30.0) -> None:
        """Let time pass until something holds; it has to within so many seconds."""
        end = self.now + within_s
        while not is_so():
            assert self.now < end, "it did not come to that"
            self.run(0.02)

    def inject(self, datagram: bytes, source: Address, target: Address) -> None:
        """Let a datagram arrive now, whoever wrote it and whatever it says it is."""
        node = self.nodes[target]
        self._account(target, source).came_bytes += len(datagram)
        node.machine.receive(datagram, source, self.now)
        self.drain(node)

    def drain(self, node: Node) -> None:
        """Take what a node has to send and to tell."""
        for event in node.machine.events():
            node.take(event)
        for target, datagram in node.machine.messages_to_send():
            self._send(datagram, node.address, target)
        for call in node.machine.calls:
            node.media += call.media_received()
        for event in node.machine.events():
            node.take(event)

    # -- what lies between -------------------------------------------------------------

    def _send(self, datagram: bytes, source: Address, target: Address) -> None:
        self.sent += 1
        account = self._account(source, target)
        account.went_bytes += len(datagram)
        if datagram[0] == 4 or datagram[:2] == b"\x00\x01":
            account.begin(len(datagram), self.now)
        if source not in self.unruly:
            self._assert_ruly(datagram, source, target)
        self.tap(datagram, source, target)
        if self.lose(datagram, source, target):
            return
        quality, lot = self.quality, self.random.random
        if lot() < quality.loss:
            return
        for _ in range(2 if lot() < quality.duplicate else 1):
            arriving = datagram
            if lot() < quality.corrupt:
                position = self.random.randrange(len(datagram))
                damaged = bytearray(datagram)
                damaged[position] ^= 1 << self.random.randrange(8)
                arriving = bytes(damaged)
                self._damaged.add(arriving)  # a relay may carry it on
            at = self.now + quality.delay_s + quality.jitter_s * lot()
            entry = (at, next(self._order), source, target, arriving)
            heapq.heappush(self._queue, entry)

    def _arrive(self, datagram: bytes, source: Address, target: Address) -> None:
        node = self.nodes.get(target)
        if node is None:
            return
        self._account(source, target).reached = True
        account = self._account(target, source)
        account.came_bytes += len(datagram)
        account.receives |= account.reached
        node.machine.receive(datagram, source, self.now)
        self.drain(node)

    def _account(self, node: Address, remote: Address) -> Account:
        return self.accounts.setdefault((node, remote), Account())

    def _assert_ruly(self, datagram: bytes, source: Address, target: Address) -> None:
        account = self._account(source, target)
        assert 0 < len(datagram) <= DATAGRAM_BYTES_MAX, len(datagram)
        assert account.receives or account.excess_bytes <= 0, (
            f"{source} sends {account.excess_bytes} bytes too many to {target}"
        )
        self._assert_sealed_once(datagram)

    def _assert_sealed_once(self, datagram: bytes) -> None:
        inner = datagram[9:] if datagram[0] == 9 else datagram
        is_sealed = len(inner) >= SEAL_BYTES and inner[0] in (7, 8)
        if is_sealed and datagram not in self._damaged:
            earlier = self._sealed.setdefault(inner[:13], inner)
            assert earlier == inner, f"counter sealed twice: {inner[:13].hex()}"
