"""Every ask ends exactly once: answered or failed."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from overlay.ask import Ask, Peer
from overlay.dispatch import Dispatch
from overlay.endpoint_events import Answered, Expired, Question
from overlay.messages import Answer, Done, LookUp, Ping, Pong, Request, encode_body
from tests.overlay.wire import Node, Wire

PONG = Pong(bytes(6), 0.0, 0.0)


class Asker:
    """Keeps how its asks ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[Hashable, Answer | None]] = []

    def messages_to_send(self) -> list[Ask]:
        return []

    def answered(self, tag: Hashable, answer: Answer, rtt_s: float, now: float) -> None:
        self.ends.append((tag, answer))

    def failed(self, tag: Hashable, now: float) -> None:
        self.ends.append((tag, None))


class Bench:
    """Alice dispatches; whatever she is asked herself is answered by `own`."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.alice = Node(self.wire, "192.0.2.1", 1)
        self.bob = Node(self.wire, "192.0.2.2", 2)
        self.asker = Asker()
        self.own: Answer | None = Done()
        self.dispatch = Dispatch(
            self.alice.endpoint,
            self.alice.static.public,
            self.alice.address,
            self._serve,
        )

    def _serve(self, request: Request, question: Question, now: float) -> Answer | None:
        assert question.static == self.alice.static.public
        return self.own

    def ask(self, peer: Peer, tag: str, *, anonymous: bool = False) -> None:
        request: Request = LookUp(bytes(8)) if anonymous else Ping()
        ask = Ask(peer, request, tag, anonymous=anonymous)
        self.dispatch.send(self.asker, ask, self.wire.now)

    def run(self, seconds: float) -> None:
        self.wire.run(seconds)
        for event in self.alice.log:
            if isinstance(event, Answered):
                self.dispatch.answered(event, self.wire.now)
            elif isinstance(event, Expired):
                self.dispatch.expired(event, self.wire.now)
        self.alice.log.clear()
        self.dispatch.hand_over_own(self.wire.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_is_asked_of_ourselves_is_handed_over_in_the_next_round(
    bench: Bench,
) -> None:
    bench.ask(bench.alice.peer, "by key")
    bench.ask(Peer(bench.alice.address), "by address")
    assert bench.asker.ends == []
    bench.own = None
    bench.ask(bench.alice.peer, "later")
    assert bench.dispatch.hand_over_own(bench.wire.now)
    assert bench.asker.ends == [
        ("by key", Done()),
        ("by address", Done()),
        ("later", None),
    ]
    assert not bench.dispatch.hand_over_own(bench.wire.now)
    assert bench.wire.carried == []


@pytest.mark.parametrize("anonymous", [False, True])
def test_an_answer_finds_its_asker(bench: Bench, anonymous: bool) -> None:
    bench.bob.reply = encode_body(PONG)
    bench.ask(bench.bob.peer, "tag", anonymous=anonymous)
    bench.run(1)
    assert bench.asker.ends == [("tag", PONG)]
    bench.run(10)
    assert len(bench.asker.ends) == 1


def test_nonsense_is_a_failure_and_counted(bench: Bench) -> None:
    bench.ask(bench.bob.peer, "tag")  # bob answers with the body reversed
    bench.run(1)
    assert bench.asker.ends == [("tag", None)]
    assert bench.dispatch.answers_refused == 1


def test_silence_is_a_failure(bench: Bench) -> None:
    bench.wire.lose = lambda *_: True
    bench.ask(bench.bob.peer, "tag")
    bench.ask(bench.bob.peer, "hidden", anonymous=True)
    bench.run(6)
    assert sorted(bench.asker.ends, key=str) == [("hidden", None), ("tag", None)]
    assert len(bench.dispatch._under_way) == 0


def test_more_than_the_limit_fail_in_the_next_round(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlay.dispatch.UNDER_WAY_MAX", 2)
    for tag in "abc":
        bench.ask(bench.bob.peer, tag)
    bench.dispatch.hand_over_own(bench.wire.now)
    assert bench.asker.ends == [("c", None)]


def test_an_end_that_nobody_waits_for_is_nothing(bench: Bench) -> None:
    static = bench.bob.static.public
    bench.dispatch.answered(Answered(99, encode_body(PONG), 0.1, static), 0.0)
    bench.dispatch.expired(Expired(99), 0.0)
    assert bench.asker.ends == []
