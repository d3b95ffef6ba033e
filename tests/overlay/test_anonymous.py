"""Questions without a name: asked of a liar, asked too often, asked in vain."""

from __future__ import annotations

import math

import pytest

from overlay.endpoint_events import Asked, Expired
from overlay.handshake import INITIATION_BYTES_MAX
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


def test_a_question_is_as_long_as_its_answer_may_be(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request_anonymously(bob.peer, b"?" * 900, wire.now)
    wire.run(1)
    assert [body for body, _ in alice.answers_heard()] == [b"?" * 900]
    question, answer = (len(datagram) for _, _, datagram in wire.carried)
    assert question == INITIATION_BYTES_MAX >= answer


def test_more_questions_than_the_limit_fail_at_once(
    wire: Wire, alice: Node, bob: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlay.anonymous.UNDER_WAY_MAX", 3)
    for _ in range(5):
        alice.endpoint.request_anonymously(bob.peer, b"abc", wire.now)
    wire.flush()
    assert len(alice.heard(Expired)) == 2
    wire.run(1)
    assert len(alice.answers_heard()) == 3
    assert alice.endpoint.next_timeout() == math.inf


def test_a_question_nobody_answers_ends_after_five_seconds(
    wire: Wire, alice: Node, bob: Node
) -> None:
    bob.answers = False
    request = alice.endpoint.request_anonymously(bob.peer, b"abc", wire.now)
    wire.run(4.9)
    assert alice.log == []
    wire.run(0.2)
    assert alice.log == [Expired(request)]
    assert len(bob.heard(Asked)) == 4
    assert alice.endpoint.next_timeout() == math.inf
    assert bob.endpoint.statistics()["sessions"] == 0


def test_under_load_a_question_is_repeated_with_its_cookie(
    wire: Wire, alice: Node, bob: Node
) -> None:
    alice.endpoint.request(bob.peer, b"hello", wire.now)  # so that the gate is open
    wire.run(1)
    for _ in range(150):
        alice.endpoint.request_anonymously(bob.peer, b"abc", wire.now)
    wire.run(0.5)
    assert len(alice.answers_heard()) == 1 + 150
    assert bob.endpoint.statistics()["handshakes_asked_for_cookie"] > 0
