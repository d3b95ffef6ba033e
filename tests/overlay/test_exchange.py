"""Requests, answers and notices between two exchanges over a line that loses."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from overlay.envelope import Envelope, EnvelopeKind
from overlay.exchange import (
    ASKED_MAX,
    FIRST_RETRY_S,
    GIVE_UP_S,
    HEARD_MAX,
    HEARD_S,
    AnswerReceived,
    Exchange,
    NoticeReceived,
    RequestExpired,
    RequestReceived,
)

START = 1_700_000_000.0


@pytest.fixture
def asker() -> Exchange:
    return Exchange(7)


@pytest.fixture
def answerer() -> Exchange:
    return Exchange(900)


def carry(source: Exchange, target: Exchange, now: float) -> list[Envelope]:
    """Hand over all that one side has to say."""
    envelopes = source.messages_to_send()
    for each in envelopes:
        target.receive(each, now)
    return envelopes


def repetitions(exchange: Exchange, now: float, until: float) -> list[float]:
    """Give how long after `now` something is said again."""
    said = []
    while (at := exchange.next_timeout()) < until:
        exchange.handle_timeout(at)
        assert exchange.next_timeout() > at
        said += [round(at - now, 3) for _ in exchange.messages_to_send()]
    return said


def test_a_request_is_heard_once_and_its_answer_once(
    asker: Exchange, answerer: Exchange
) -> None:
    number = asker.request(b"how are you", START)
    carry(asker, answerer, START + 0.05)
    assert answerer.events() == [RequestReceived(number, b"how are you")]
    answerer.answer(number, b"well")
    carry(answerer, asker, START + 0.1)
    (answered,) = asker.events()
    assert isinstance(answered, AnswerReceived)
    assert (answered.number, answered.body) == (number, b"well")
    assert answered.rtt_s == pytest.approx(0.1, abs=1e-6)
    assert asker.requests_under_way == 0
    assert asker.next_timeout() == math.inf


def test_a_request_is_repeated_with_doubling_pauses_and_given_up_after_five_seconds(
    asker: Exchange,
) -> None:
    number = asker.request(b"anybody", START)
    assert len(asker.messages_to_send()) == 1
    assert repetitions(asker, START, math.inf) == [0.5, 1.5, 3.5]
    assert asker.events() == [RequestExpired(number)]
    assert asker.next_timeout() == math.inf


def test_the_first_pause_is_twice_the_round_trip_once_that_is_known(
    asker: Exchange, answerer: Exchange
) -> None:
    number = asker.request(b"one", START)
    carry(asker, answerer, START)
    answerer.answer(number, b"1")
    carry(answerer, asker, START + 0.3)
    assert asker.rtt_s == pytest.approx(0.3, abs=1e-6)
    later = START + 10
    asker.request(b"two", later)
    asker.messages_to_send()
    assert repetitions(asker, later, math.inf) == [0.6, 1.8, 4.2]


def test_pauses_are_not_below_a_tenth_of_a_second(
    asker: Exchange, answerer: Exchange
) -> None:
    number = asker.request(b"one", START)
    carry(asker, answerer, START)
    answerer.answer(number, b"1")
    carry(answerer, asker, START + 0.001)
    asker.request(b"two", START)
    assert asker.next_timeout() == pytest.approx(START + 0.1, abs=1e-6)


def test_the_round_trip_is_smoothed(asker: Exchange, answerer: Exchange) -> None:
    for rtt_s in (0.1, 0.5):
        number = asker.request(b"?", START)
        carry(asker, answerer, START)
        answerer.answer(number, b"!")
        carry(answerer, asker, START + rtt_s)
    assert asker.rtt_s == pytest.approx(0.1 + 0.4 / 8, abs=1e-6)


def test_a_request_that_was_repeated_tells_no_round_trip(
    asker: Exchange, answerer: Exchange
) -> None:
    number = asker.request(b"?", START)
    asker.messages_to_send()  # lost
    asker.handle_timeout(START + FIRST_RETRY_S)
    carry(asker, answerer, START + 0.55)
    answerer.answer(number, b"!")
    carry(answerer, asker, START + 0.6)
    (answered,) = asker.events()
    assert isinstance(answered, AnswerReceived)
    assert answered.rtt_s == pytest.approx(0.6, abs=1e-6)
    assert asker.rtt_s is None


def test_a_request_that_waited_for_the_line_tells_no_round_trip(
    asker: Exchange, answerer: Exchange
) -> None:
    number = asker.request(b"?", START)
    asker.messages_to_send()  # no keys yet
    asker.begin_again(START + 0.3)
    carry(asker, answerer, START + 0.35)
    answerer.answer(number, b"!")
    carry(answerer, asker, START + 0.4)
    assert asker.rtt_s is None


def test_a_repetition_is_answered_with_the_same_answer(
    asker: Exchange, answerer: Exchange
) -> None:
    number = asker.request(b"?", START)
    carry(asker, answerer, START)
    answerer.answer(number, b"first")
    answerer.answer(number, b"second")
    answerer.messages_to_send()  # lost
    asker.handle_timeout(START + FIRST_RETRY_S)
    carry(asker, answerer, START + 0.6)
    assert answerer.repetitions_heard == 1
    assert answerer.events() == [RequestReceived(number, b"?")]
    carry(answerer, asker, START + 0.7)
    (answered,) = asker.events()
    assert isinstance(answered, AnswerReceived)
    assert answered.body == b"first"


def test_a_repetition_before_the_answer_is_ready_is_only_counted(
    asker: Exchange, answerer: Exchange
) -> None:
    asker.request(b"?", START)
    carry(asker, answerer, START)
    asker.handle_timeout(START + FIRST_RETRY_S)
    carry(asker, answerer, START + FIRST_RETRY_S)
    assert answerer.messages_to_send() == []
    assert answerer.repetitions_heard == 1


def test_an_answer_to_what_was_not_asked_is_nothing(asker: Exchange) -> None:
    asker.receive(Envelope(EnvelopeKind.ANSWER, 3, b"unasked"), START)
    asker.answer(55, b"nobody asked")
    assert asker.events() == []
    assert asker.messages_to_send() == []


def test_a_notice_is_said_once(asker: Exchange, answerer: Exchange) -> None:
    asker.notify(b"by the way")
    assert len(carry(asker, answerer, START)) == 1
    assert answerer.events() == [NoticeReceived(b"by the way")]
    assert asker.next_timeout() == math.inf


def test_one_request_more_than_the_limit_fails_at_once(asker: Exchange) -> None:
    for _ in range(ASKED_MAX):
        asker.request(b"?", START)
    assert asker.events() == []
    number = asker.request(b"?", START)
    assert asker.events() == [RequestExpired(number)]
    assert asker.requests_under_way == ASKED_MAX
    assert len(asker.messages_to_send()) == ASKED_MAX


def test_as_many_requests_are_remembered_as_the_limit_says(
    answerer: Exchange,
) -> None:
    for number in range(HEARD_MAX + 1):
        answerer.receive(Envelope(EnvelopeKind.REQUEST, number, b""), START)
    assert len(answerer.events()) == HEARD_MAX + 1
    answerer.receive(Envelope(EnvelopeKind.REQUEST, HEARD_MAX, b""), START)
    assert answerer.events() == []
    answerer.receive(Envelope(EnvelopeKind.REQUEST, 0, b""), START)
    assert answerer.events() == [RequestReceived(0, b"")]
    assert len(answerer._heard) == HEARD_MAX


def test_what_was_heard_is_forgotten_once_nobody_repeats_it_any_more(
    answerer: Exchange,
) -> None:
    for second in range(1_000):
        request = Envelope(EnvelopeKind.REQUEST, second, b"ping")
        answerer.receive(request, START + second)
        answerer.answer(second, b"pong")
    assert len(answerer._heard) == HEARD_S
    answerer.handle_timeout(START + 999 + HEARD_S)
    assert len(answerer._heard) == 0
    answerer.answer(999, b"late")
    assert len(answerer.messages_to_send()) == 1_000


def test_all_requests_can_be_given_up_at_once(asker: Exchange) -> None:
    numbers = [asker.request(b"?", START) for _ in range(3)]
    asker.fail_all()
    assert asker.events() == [RequestExpired(number) for number in numbers]
    assert asker.next_timeout() == math.inf


def test_numbers_go_round() -> None:
    exchange = Exchange(2**32 - 1)
    assert [exchange.request(b"", START) for _ in range(2)] == [2**32 - 1, 0]
    assert Exchange(2**32 + 5).request(b"", START) == 5


class Conversation(RuleBasedStateMachine):
    """Two exchanges, a line that loses, doubles and reorders, and a peer that lies."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.sides = (Exchange(7), Exchange(7))
        self.line: list[tuple[int, Envelope]] = []
        self.asked: list[dict[int, float]] = [{}, {}]
        self.ended: list[set[int]] = [set(), set()]
        self.to_answer: list[list[int]] = [[], []]
        self.heard: list[set[int]] = [set(), set()]

    @initialize(seed=st.integers(0, 1_000))
    def begin(self, seed: int) -> None:
        self.random = random.Random(seed)

    @rule(side=st.integers(0, 1))
    def ask(self, side: int) -> None:
        number = self.sides[side].request(b"?", self.now)
        self.asked[side][number] = self.now
        self.drain()

    @rule(side=st.integers(0, 1))
    def answer(self, side: int) -> None:
        if self.to_answer[side]:
            self.sides[side].answer(self.to_answer[side].pop(0), b"!")
            self.drain()

    @rule(side=st.integers(0, 1))
    def notify(self, side: int) -> None:
        self.sides[side].notify(b"~")
        self.drain()

    @rule(fate=st.sampled_from(["deliver", "deliver", "deliver", "lose", "double"]))
    def carry(self, fate: str) -> None:
        if not self.line:
            return
        position = self.random.randrange(len(self.line))
        target, envelope = self.line[position]
        if fate != "double":
            del self.line[position]
        if fate != "lose":
            self.sides[target].receive(envelope, self.now)
            self.drain()

    @rule(
        side=st.integers(0, 1),
        kind=st.sampled_from(EnvelopeKind),
        number=st.integers(0, 2**32 - 1),
    )
    def lie(self, side: int, kind: EnvelopeKind, number: int) -> None:
        if number not in self.asked[side] and number not in self.asked[1 - side]:
            self.sides[side].receive(Envelope(kind, number, b"lie"), self.now)
            self.sides[side].events()
            self.drain()

    @rule(side=st.integers(0, 1))
    def begin_again(self, side: int) -> None:
        self.sides[side].begin_again(self.now)
        self.drain()

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.5, 2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for exchange in self.sides:
            exchange.handle_timeout(self.now)
            assert exchange.next_timeout() > self.now
        self.drain()

    def drain(self) -> None:
        for side, exchange in enumerate(self.sides):
            self.line += [(1 - side, each) for each in exchange.messages_to_send()]
            for event in exchange.events():
                self.take(side, event)
        del self.line[:-200]

    def take(self, side: int, event: object) -> None:
        match event:
            case AnswerReceived(number) | RequestExpired(number):
                assert number in self.asked[side]
                assert number not in self.ended[side], "ended twice"
                self.ended[side].add(number)
            case RequestReceived(number):
                assert number in self.asked[1 - side], "never asked"
                assert number not in self.heard[side], "heard twice"
                self.heard[side].add(number)
                self.to_answer[side].append(number)

    @invariant()
    def nothing_waits_longer_than_it_may(self) -> None:
        for side, exchange in enumerate(self.sides):
            waiting = [
                at
                for number, at in self.asked[side].items()
                if number not in self.ended[side]
            ]
            assert exchange.requests_under_way == len(waiting)
            assert all(self.now < at + GIVE_UP_S for at in waiting)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=40, stateful_step_count=60)
