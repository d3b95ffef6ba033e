"""All sessions of a node: who asks, who answers, and what strangers can do."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import pytest

from nat.address import Address
from overlay import handshake
from overlay.ask import Peer
from overlay.dial import Local
from overlay.endpoint import Endpoint
from overlay.endpoint_events import (
    Asked,
    Expired,
    Noticed,
    SessionClosed,
    SessionMoved,
)
from overlay.handshake import network_id, prologue
from overlay.noise import KeyPair
from overlay.responder import Responder
from tests.overlay.wire import Node, Wire


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
    assert asked.question.static is None
    assert bob.endpoint.statistics()["sessions"] == 0
    assert alice.endpoint.statistics()["sessions"] == 0
    assert list(kinds(wire)) == [4, 5]


def test_what_may_not_be_early_waits_for_the_session(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"not early", wire.now)
    wire.run(1)
    assert alice.answers_heard() == [(b"ylrae ton", 0.2)]
    (asked,) = bob.heard(Asked)
    assert isinstance(asked, Asked)
    assert asked.question.proven


def test_what_may_not_be_early_is_not_asked_anonymously(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request_anonymously(bob.peer, b"not early", wire.now)
    wire.run(6)
    assert bob.heard(Asked) == []
    assert len(alice.heard(Expired)) == 1


def test_an_early_request_has_an_unproven_source(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"early", wire.now)
    wire.run(1)
    (asked,) = bob.heard(Asked)
    assert isinstance(asked, Asked)
    assert not asked.question.proven


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
    assert {each.request for each in alice.heard(Expired)} == {request, hidden}
    assert alice.endpoint.statistics()["sessions"] == 0


def test_an_answer_that_comes_later_is_sealed_after_confirmation(
    wire: Wire, alice: Node, bob: Node
) -> None:
    bob.answers = False
    alice.endpoint.request(bob.peer, b"abc", wire.now)
    wire.run(0.3)
    asked = bob.heard(Asked)[0]
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
        bob.static,
        network_id("other"),
        bob.gate,
        random.Random(5).randbytes,
        may_be_early=lambda _: True,
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


VICTIM = Address("198.51.100.66", 6666)


def test_a_source_forged_into_a_sealed_datagram_is_sent_no_more_than_came(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    alice.endpoint.request(bob.peer, b"two", wire.now)
    (_, datagram), *_ = alice.endpoint.messages_to_send()
    bob.gate.heard(VICTIM, len(datagram), wire.now)
    bob.endpoint.receive(datagram, VICTIM, wire.now)
    wire.flush()
    assert not bob.gate.is_validated(VICTIM, wire.now)
    wire.run(10)
    sent = [each for _, target, each in wire.carried if target == VICTIM]
    begun = [each for each in sent if each[0] == 4]
    assert 1 <= len(begun) <= 8
    assert sum(map(len, sent)) - sum(map(len, begun)) <= len(datagram)


def test_a_peer_that_moved_is_asked_for_new_keys_where_it_is_now(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    del wire.nodes[alice.address]
    moved_to = Address("198.51.100.7", 4000)
    wire.nodes[moved_to] = alice
    alice.endpoint.request(bob.peer, b"two", wire.now)
    wire.run(0.1)
    assert not bob.gate.is_validated(moved_to, wire.now)
    wire.run(0.1)
    assert bob.gate.is_validated(moved_to, wire.now)
    assert list(kinds(wire)).count(4) == 2
    bob.endpoint.request(alice.peer, b"a long question" * 60, wire.now)
    wire.run(0.2)
    assert len(bob.answers_heard()) == 1
    assert wire.refused == 0


def test_a_third_message_from_elsewhere_than_the_first_is_refused(
    wire: Wire, alice: Node, bob: Node
) -> None:
    wire.lose = lambda datagram, *_: datagram[0] == 0x0B
    alice.endpoint.request(Peer(bob.address), b"abc", wire.now)
    wire.run(0.2)
    held = [datagram for _, _, datagram in wire.carried if datagram[0] == 0x0B]
    refused = bob.endpoint.statistics()["datagrams_refused"]
    bob.endpoint.receive(held[0], VICTIM, wire.now)
    assert not bob.gate.is_validated(VICTIM, wire.now)
    assert bob.endpoint.statistics()["datagrams_refused"] == refused + 1
    bob.endpoint.receive(held[0], alice.address, wire.now)
    assert bob.gate.is_validated(alice.address, wire.now)


def test_a_second_message_from_elsewhere_validates_nothing(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"abc", wire.now)
    alice.endpoint.request_anonymously(bob.peer, b"abc", wire.now)
    for _, datagram in alice.endpoint.messages_to_send():
        bob.endpoint.receive(datagram, alice.address, wire.now)
    bob.react()
    for _, datagram in bob.endpoint.messages_to_send():
        alice.endpoint.receive(datagram, VICTIM, wire.now)
    alice.react()
    assert len(alice.answers_heard()) == 2
    assert not alice.gate.is_validated(VICTIM, wire.now)


def test_a_session_that_a_forger_opened_is_not_taken_for_whom_it_names(
    wire: Wire, alice: Node, bob: Node
) -> None:
    mallory = Node(wire, "203.0.113.9", 66)
    mallory.endpoint.request(alice.peer, b"hi", wire.now)
    (_, first), *_ = mallory.endpoint.messages_to_send()
    alice.endpoint.receive(first, bob.address, wire.now)
    wire.flush()
    alice.endpoint.request(Peer(bob.address), b"abc", wire.now)
    wire.run(1)
    assert [body for body, _ in alice.answers_heard()] == [b"cba"]
    assert len(bob.heard(Asked)) == 1
    assert mallory.heard(Asked) == []


class Liar:
    """Answers first messages rightly, with whatever it wants inside."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.local = Local(
            KeyPair(rng.randbytes(32)),
            prologue(network_id("test")),
            rng.randbytes,
            lambda: rng.getrandbits(32),
        )
        self.address = Address("192.0.2.66", 7000)
        self.peer = Peer(self.address, self.local.static.public)
        self.responder = Responder(self.local)

    def reply(self, first: bytes, answer: bytes, now: float) -> bytes:
        message = handshake.decode(first)
        assert isinstance(message, handshake.Initiation)
        source = Address("192.0.2.1", 7000)
        arrival = self.responder.receive_initiation(first, message, source, now)
        assert arrival is not None
        return arrival.write_reply(self.local.static.public, 7, answer)[0]


@pytest.mark.parametrize("answer", [b"", b"\x01", b"\xff" * 20, b"\0" * 5, b"\2" * 9])
def test_an_answer_in_the_second_message_that_is_none_is_like_no_second_message(
    wire: Wire, alice: Node, answer: bytes
) -> None:
    liar = Liar(66)
    requests = {
        alice.endpoint.request(liar.peer, b"abc", wire.now),
        alice.endpoint.request_anonymously(liar.peer, b"abc", wire.now),
    }
    for _, first in alice.endpoint.messages_to_send():
        reply = liar.reply(first, answer, wire.now)
        alice.endpoint.receive(reply, liar.address, wire.now)
        alice.endpoint.receive(reply, liar.address, wire.now)
    assert alice.endpoint.statistics()["datagrams_refused"] == 4
    wire.run(6)
    assert {each.request for each in alice.heard(Expired)} == requests
    assert alice.endpoint.statistics()["sessions"] == 0


def test_a_peer_is_not_gone_as_long_as_one_of_two_sessions_with_it_lives(
    wire: Wire, alice: Node, bob: Node
) -> None:
    elsewhere = Address("192.0.2.3", 7000)
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(1)
    wire.nodes[elsewhere] = wire.nodes.pop(bob.address)  # another way to bob
    alice.endpoint.request(Peer(elsewhere), b"two", wire.now)
    wire.run(1)
    assert alice.endpoint.statistics()["sessions"] == 2
    for _ in range(20):
        alice.endpoint.request(Peer(elsewhere), b"ping", wire.now)
        wire.run(10)
    assert alice.endpoint.statistics()["sessions"] == 1
    assert alice.heard(SessionClosed) == []
    assert alice.endpoint.notify(bob.static.public, b"still there")


def test_a_goodbye_ends_what_was_asked(wire: Wire, alice: Node, bob: Node) -> None:
    bob.answers = False
    alice.endpoint.request(bob.peer, b"one", wire.now)
    wire.run(0.3)
    request = alice.endpoint.request(bob.peer, b"two", wire.now)
    alice.endpoint.close(bob.static.public)
    wire.flush()
    assert Expired(request) in alice.log
    assert alice.heard(SessionClosed) == [SessionClosed(bob.static.public)]
    assert alice.endpoint.session_with(bob.static.public) is None
    assert alice.endpoint.next_timeout() == math.inf


def test_everyone_with_a_session_can_be_told_at_once(
    wire: Wire, alice: Node, bob: Node
) -> None:
    carol = Node(wire, "192.0.2.3", 3)
    for friend in (bob, carol):
        alice.endpoint.request(friend.peer, b"hi", wire.now)
    wire.run(1)
    alice.endpoint.notify_all(b"bye")
    wire.run(1)
    for friend in (bob, carol):
        assert friend.heard(Noticed) == [Noticed(alice.static.public, b"bye")]


def test_the_longest_idle_session_makes_room_for_another(
    wire: Wire, alice: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlay.session_table.SESSIONS_MAX", 3)
    friends = [Node(wire, f"203.0.113.{n}", 100 + n) for n in range(1, 6)]
    for friend in friends:
        alice.endpoint.request(friend.peer, b"hi", wire.now)
        wire.run(1)
    assert len(alice.answers_heard()) == 5
    assert alice.endpoint.statistics()["sessions"] == 3
    assert alice.endpoint.statistics()["sessions_dropped"] == 2
    gone = [SessionClosed(friend.static.public) for friend in friends[:2]]
    assert alice.heard(SessionClosed) == gone


def test_needed_sessions_make_room_for_nobody(
    wire: Wire, alice: Node, bob: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlay.session_table.SESSIONS_MAX", 3)
    alice.endpoint.is_needed = lambda static: static == bob.static.public
    alice.endpoint.request(bob.peer, b"hi", wire.now)
    wire.run(1)
    for number in range(1, 6):
        friend = Node(wire, f"203.0.113.{number}", 100 + number)
        alice.endpoint.request(friend.peer, b"hi", wire.now)
        wire.run(1)
    assert alice.endpoint.session_with(bob.static.public) is not None
    assert alice.endpoint.statistics()["sessions"] == 3


def test_half_open_handshakes_are_bounded_and_end(
    wire: Wire, alice: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlay.responder.HALF_OPEN_MAX", 5)
    wire.lose = lambda datagram, *_: datagram[0] == 0x0B
    for number in range(8):
        stranger = Node(wire, f"203.0.113.{number}", 100 + number)
        stranger.endpoint.request(Peer(alice.address), b"hi", wire.now)
    wire.run(0.3)
    assert alice.endpoint.statistics()["handshakes_half_open"] == 5
    assert alice.endpoint.statistics()["handshakes_half_open_dropped"] == 3
    wire.lose = lambda *_: True
    wire.run(10)
    assert alice.endpoint.statistics()["handshakes_half_open"] == 0
