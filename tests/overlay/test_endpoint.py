"""Endpoints wired to each other through a tiny network with delay and loss."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from nat.address import Address
from nat.gate import Gate
from overlay.ask import Peer
from overlay.endpoint import Endpoint
from overlay.endpoint_events import (
    Answered,
    Asked,
    EndpointEvent,
    Expired,
    Noticed,
    SessionClosed,
    SessionMoved,
)
from overlay.handshake import network_id
from overlay.noise import KeyPair

DELAY_S = 0.05
START = 1_700_000_000.0


@dataclass
class Wire:
    """Carries datagrams between endpoints after `DELAY_S`, or loses them."""

    nodes: dict[Address, Node] = field(default_factory=dict)
    now: float = START
    lose: Callable[[bytes, Address, Address], bool] = lambda *_: False
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
                assert node.gate.allows(target, len(datagram), self.now)
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
            self.static, network_id("test"), self.gate, rng.randbytes
        )
        self.log: list[EndpointEvent] = []
        self.answers = True
        wire.nodes[self.address] = self

    @property
    def peer(self) -> Peer:
        return Peer(self.address, self.static.public)

    def react(self) -> None:
        for event in self.endpoint.events():
            self.log.append(event)
            if isinstance(event, Asked) and self.answers:
                self.endpoint.answer(event.question, event.body[::-1])

    def heard(self, kind: type[EndpointEvent]) -> list[EndpointEvent]:
        return [event for event in self.log if isinstance(event, kind)]

    def answers_heard(self) -> list[tuple[bytes, float]]:
        return [
            (e.body, round(e.rtt_s, 6)) for e in self.log if isinstance(e, Answered)
        ]


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def alice(wire: Wire) -> Node:
    return Node(wire, "192.0.2.1", 1)


@pytest.fixture
def bob(wire: Wire) -> Node:
    return Node(wire, "192.0.2.2", 2)


def kinds(wire: Wire) -> Iterator[int]:
    return (datagram[0] for _, _, datagram in wire.carried)


def test_a_first_request_is_answered_in_one_round_trip(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"abc", wire.now)
    wire.run(1)
    assert alice.answers_heard() == [(b"cba", 0.1)]
    assert list(kinds(wire)) == [4, 5, 7]


def test_a_peer_known_by_address_alone_answers_after_two_round_trips(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(Peer(bob.address), b"abc", wire.now)
    wire.run(1)
    assert alice.answers_heard() == [(b"cba", 0.2)]
    assert list(kinds(wire))[:4] == [4, 5, 0x0B, 7]
    assert alice.endpoint.session_with(bob.static.public) is not None


def test_an_anonymous_request_leaves_no_session(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request_anonymously(bob.peer, b"abc", wire.now)
    wire.run(1)
    assert alice.answers_heard() == [(b"cba", 0.1)]
    asked = bob.heard(Asked)[0]
    assert isinstance(asked, Asked)
    assert asked.question.static is None
    assert bob.endpoint.statistics()["sessions"] == 0
    assert alice.endpoint.statistics()["sessions"] == 0
    assert list(kinds(wire)) == [4, 5]


def test_both_ask_over_one_session(wire: Wire, alice: Node, bob: Node) -> None:
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    bob.endpoint.request(alice.peer, b"two", wire.now)
    wire.run(1)
    assert alice.answers_heard() == [(b"eno", 0.1)]
    assert bob.answers_heard() == [(b"owt", 0.1)]
    assert list(kinds(wire)).count(4) == 1


def test_a_request_survives_the_loss_of_any_one_datagram(
    wire: Wire, alice: Node, bob: Node
) -> None:
    for lost in range(6):
        fresh = Wire()
        a, b = Node(fresh, "192.0.2.1", 10 + lost), Node(fresh, "192.0.2.2", 2)
        counter = itertools.count()
        fresh.lose = lambda *_, c=counter, n=lost: next(c) == n
        a.endpoint.request(b.peer, b"abc", fresh.now)
        fresh.run(1)
        a.endpoint.request(b.peer, b"xyz", fresh.now)
        fresh.run(4)
        assert [body for body, _ in a.answers_heard()] == [b"cba", b"zyx"], lost
        assert len(b.heard(Asked)) == 2


def test_nobody_there_is_said_after_five_seconds(wire: Wire, alice: Node) -> None:
    nowhere = Peer(Address("192.0.2.9", 1), KeyPair(bytes(range(32))).public)
    request = alice.endpoint.request(nowhere, b"abc", wire.now)
    hidden = alice.endpoint.request_anonymously(nowhere, b"abc", wire.now)
    wire.run(4.9)
    assert alice.log == []
    wire.run(0.2)
    expired = {e.request for e in alice.log if isinstance(e, Expired)}
    assert expired == {request, hidden}
    assert alice.endpoint.statistics()["sessions"] == 0


def test_an_answer_that_comes_later_is_sealed_after_confirmation(
    wire: Wire, alice: Node, bob: Node
) -> None:
    bob.answers = False
    alice.endpoint.request(bob.peer, b"abc", wire.now)
    wire.run(0.3)
    asked = bob.heard(Asked)[0]
    assert isinstance(asked, Asked)
    bob.endpoint.answer(asked.question, b"later")
    wire.run(0.1)
    assert [body for body, _ in alice.answers_heard()] == [b"later"]


def test_keys_are_renewed_while_the_session_is_used(
    wire: Wire, alice: Node, bob: Node
) -> None:
    for _ in range(40):
        alice.endpoint.request(bob.peer, b"ping", wire.now)
        wire.run(10)
    assert len(alice.answers_heard()) == 40
    assert list(kinds(wire)).count(4) == 4  # at 0, 120, 240 and 360 s
    assert bob.endpoint.statistics()["sessions"] == 1


def test_an_unused_session_ends_on_both_sides(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"ping", wire.now)
    wire.run(400)
    assert len(alice.heard(SessionClosed)) == 1
    assert len(bob.heard(SessionClosed)) == 1
    assert list(kinds(wire)).count(4) == 1


def test_a_peer_that_lost_its_keys_is_found_again(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    Node(wire, "192.0.2.2", 2, life=2)  # the same keys, no memory
    alice.endpoint.request(bob.peer, b"two", wire.now)
    wire.run(4)
    assert [body for body, _ in alice.answers_heard()] == [b"eno", b"owt"]


def test_a_peer_that_restarted_asks_and_is_answered(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    again = Node(wire, "192.0.2.1", 1, life=2)
    again.endpoint.request(bob.peer, b"two", wire.now)
    wire.run(1)
    assert again.answers_heard() == [(b"owt", 0.1)]


def test_a_session_follows_its_peer_to_another_address(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    del wire.nodes[alice.address]
    moved_to = Address("198.51.100.7", 4000)
    wire.nodes[moved_to] = alice
    alice.endpoint.request(bob.peer, b"two", wire.now)
    wire.run(1)
    assert [body for body, _ in alice.answers_heard()] == [b"eno", b"owt"]
    assert SessionMoved(alice.static.public, moved_to) in bob.log


def test_a_notice_arrives_once(wire: Wire, alice: Node, bob: Node) -> None:
    assert not alice.endpoint.notify(bob.static.public, b"hello")
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    assert alice.endpoint.notify(bob.static.public, b"hello")
    wire.run(1)
    assert bob.heard(Noticed) == [Noticed(alice.static.public, b"hello")]


def test_replayed_first_messages_and_datagrams_change_nothing(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    for source, target, datagram in tuple(wire.carried):
        if target == bob.address:
            bob.endpoint.receive(datagram, source, wire.now)
    wire.run(1)
    assert len(bob.heard(Asked)) == 1
    assert bob.endpoint.statistics()["handshakes_replayed"] == 1
    assert bob.endpoint.statistics()["datagrams_refused"] == 2


def test_under_load_an_initiator_shows_that_it_receives(
    wire: Wire, alice: Node, bob: Node
) -> None:
    strangers = [Node(wire, f"203.0.113.{n}", 100 + n) for n in range(1, 120)]
    for stranger in strangers:
        stranger.endpoint.request(bob.peer, b"hi", wire.now)
    alice.endpoint.request(bob.peer, b"abc", wire.now)
    wire.run(3)
    assert 6 in kinds(wire)
    assert bob.endpoint.statistics()["handshakes_asked_for_cookie"] > 0
    assert [body for body, _ in alice.answers_heard()] == [b"cba"]
    assert all(len(stranger.answers_heard()) == 1 for stranger in strangers)


def test_nodes_of_different_networks_do_not_talk(wire: Wire, alice: Node) -> None:
    bob = Node(wire, "192.0.2.2", 2)
    bob.endpoint = Endpoint(
        bob.static, network_id("other"), bob.gate, random.Random(5).randbytes
    )
    alice.endpoint.request(bob.peer, b"abc", wire.now)
    wire.run(6)
    assert len(alice.heard(Expired)) == 1
    assert bob.log == []


def test_garbage_is_counted_and_nothing_else(wire: Wire, bob: Node) -> None:
    rng = random.Random(7)
    source = Address("203.0.113.5", 9)
    for number in range(2_000):
        first = bytes((rng.choice((4, 5, 6, 7, 11)),))
        garbage = first + rng.randbytes(rng.randrange(1_200))
        bob.endpoint.receive(garbage, source, wire.now)
        assert bob.endpoint.statistics()["datagrams_refused"] == number + 1
    assert bob.endpoint.messages_to_send() == []
    assert bob.log == []
