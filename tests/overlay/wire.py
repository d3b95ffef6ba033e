"""Endpoints wired to each other through a tiny network with delay and loss.

Unlike `tests.overlay.machines` there is nothing but sessions: every `Node` answers each
question with its body reversed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from nat.address import Address
from nat.gate import Gate
from overlay.ask import Peer
from overlay.endpoint import Endpoint
from overlay.endpoint_events import Answered, Asked, EndpointEvent
from overlay.handshake import network_id
from overlay.noise import KeyPair

__all__ = ["DELAY_S", "START", "Node", "Wire"]

_E = TypeVar("_E")

DELAY_S = 0.05
START = 1_700_000_000.0


@dataclass
class Wire:
    """Carries datagrams between endpoints after `DELAY_S`, or loses them."""

    nodes: dict[Address, Node] = field(default_factory=dict)
    now: float = START
    lose: Callable[[bytes, Address, Address], bool] = lambda *_: False
    refused: int = 0
    carried: list[tuple[Address, Address, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: list[tuple[float, int, Address, Address, bytes]] = []
        self._order = itertools.count()

    def flush(self) -> None:
        for address, node in tuple(self.nodes.items()):
            node.react()
            for target, datagram in node.endpoint.messages_to_send():
                if datagram[0] == 4:
                    node.gate.grant(target, len(datagram), self.now)
                if not node.gate.allows(target, len(datagram), self.now):
                    self.refused += 1
                    continue
                self.carried.append((address, target, datagram))
                if not self.lose(datagram, address, target):
                    at = self.now + DELAY_S
                    entry = (at, next(self._order), address, target, datagram)
                    heapq.heappush(self._queue, entry)
            node.react()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        self.flush()
        while True:
            arrivals = [self._queue[0][0]] if self._queue else []
            timers = [node.endpoint.next_timeout() for node in self.nodes.values()]
            at = min([*arrivals, *timers, end])
            if at >= end:
                self.now = end
                return
            self.now = max(self.now, at)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, source, target, datagram = heapq.heappop(self._queue)
                if target in self.nodes:
                    node = self.nodes[target]
                    node.gate.heard(source, len(datagram), self.now)
                    node.endpoint.receive(datagram, source, self.now)
            for node in self.nodes.values():
                node.endpoint.handle_timeout(self.now)
                assert node.endpoint.next_timeout() > self.now
            self.flush()


class Node:
    """An endpoint that answers every question with its body reversed."""

    def __init__(self, wire: Wire, host: str, seed: int, life: int = 1) -> None:
        rng = random.Random(f"{seed} {life}")
        self.wire = wire
        self.address = Address(host, 7000)
        self.static = KeyPair(random.Random(seed).randbytes(32))
        self.gate = Gate()
        self.endpoint = Endpoint(
            self.static,
            network_id("test"),
            self.gate,
            rng.randbytes,
            may_be_early=lambda body: body != b"not early",
        )
        self.log: list[EndpointEvent] = []
        self.answers = True
        self.reply: bytes | None = None
        """What it answers if not that."""
        wire.nodes[self.address] = self

    @property
    def peer(self) -> Peer:
        return Peer(self.address, self.static.public)

    def react(self) -> None:
        for event in self.endpoint.events():
            self.log.append(event)
            if isinstance(event, Asked) and self.answers:
                self.endpoint.answer(event.question, self.reply or event.body[::-1])

    def heard(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.log if isinstance(event, kind)]

    def answers_heard(self) -> list[tuple[bytes, float]]:
        return [
            (e.body, round(e.rtt_s, 6)) for e in self.log if isinstance(e, Answered)
        ]
