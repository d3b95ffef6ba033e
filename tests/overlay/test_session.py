"""One session: keys that come, are renewed and expire; addresses that are proven."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nat.address import Address
from nat.errors import WireError
from overlay import handshake
from overlay.dial import Dial, Local
from overlay.exchange import (
    AnswerReceived,
    NoticeReceived,
    RequestExpired,
    RequestReceived,
)
from overlay.handshake import CookieReply, Initiation, Response
from overlay.noise import KeyPair, Pattern
from overlay.responder import Responder
from overlay.seal import Kind, header_of
from overlay.session import (
    CONFIRMED_WITHIN_S,
    KEYS_EXPIRE_S,
    REKEY_AFTER_AS_RESPONDER_S,
    REKEY_AFTER_S,
    STUCK_S,
    TRANSITIONS,
    Cause,
    Keys,
    Session,
    SessionState,
)

START = 1_700_000_000.0
ALICE = Address("192.0.2.1", 7000)
BOB = Address("192.0.2.2", 7000)


@dataclass
class End:
    """One end: its session, and the responder that makes it when it is called."""

    seed: int
    address: Address
    session: Session | None = None
    said: list[object] = field(default_factory=list)
    answers: bool = True

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.counter = itertools.count(self.seed * 1_000)
        self.static = KeyPair(self.random.randbytes(32))
        self.local = Local(
            self.static,
            handshake.prologue(handshake.network_id("test")),
            self.random.randbytes,
            lambda: next(self.counter),
        )
        self.responder = Responder(self.local)

    def open(self, address: Address, static: bytes | None, now: float) -> Session:
        self.session = Session(address, static, self.dial, self.seed, now)
        return self.session

    def dial(self, static: bytes | None, request: bytes | None) -> Dial:
        pattern = Pattern.XX if static is None else Pattern.IK
        return Dial(self.local, pattern, static, request=request)

    def receive(
        self, datagram: bytes, source: Address, now: float
    ) -> list[tuple[Address, bytes]]:
        """Take a datagram; gives what the responder answers at once."""
        if datagram[0] in (Kind.DATA, Kind.MEDIA):
            if self.session is None:
                raise WireError("no session")
            index = header_of(datagram).receiver_index
            self.session.receive_sealed(datagram, index, source, now)
            return []
        message = handshake.decode(datagram)
        match message:
            case Initiation():
                arrival = self.responder.receive_initiation(
                    datagram, message, source, now
                )
                if arrival is None:
                    return self.responder.messages_to_send()
                index = next(self.counter)
                reply, transport = arrival.write_reply(self.static.public, index, None)
                if self.session is None or self.session.state is SessionState.CLOSED:
                    self.open(source, arrival.static, now)
                assert self.session is not None
                keys = Keys(transport, index, now, False, source)
                self.session.await_confirmation(keys, now)
                if arrival.request is not None:
                    self.session.exchange.receive(arrival.request, now)
                return [(source, reply)]
            case Response() | CookieReply():
                assert self.session is not None
                self.session.receive_response(datagram, message, source, now)
            case _:
                done = self.responder.receive_completion(datagram, message, source)
                if self.session is None:
                    self.open(source, done.static, now)
                assert self.session is not None
                keys = Keys(done.transport, done.our_index, now, False, source)
                self.session.await_confirmation(keys, now)
        return []

    def react(self) -> None:
        if self.session is None:
            return
        for event in self.session.exchange.events():
            self.said.append(event)
            if isinstance(event, RequestReceived) and self.answers:
                self.session.exchange.answer(event.number, event.body[::-1])

    def heard(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.said)


class Pair:
    """Alice, who calls, and Bob; datagrams take no time unless they are held back."""

    def __init__(self) -> None:
        self.now = START
        self.alice = End(1, ALICE)
        self.bob = End(2, BOB)
        self.carried: list[bytes] = []
        self.deaf: set[Address] = set()

    @property
    def ends(self) -> tuple[End, End]:
        return self.alice, self.bob

    def connect(self) -> tuple[Session, Session]:
        """Give both sessions once they are open and confirmed."""
        session = self.alice.open(BOB, self.bob.static.public, self.now)
        session.request(b"hi", self.now)
        self.settle()
        assert self.bob.session is not None
        assert session.confirmed
        assert self.bob.session.confirmed
        return session, self.bob.session

    def settle(self) -> None:
        for _ in range(20):
            if not self._round():
                return
        raise AssertionError("they do not come to rest")

    def _round(self) -> bool:
        moved = False
        for end in self.ends:
            end.react()
            if end.session is None:
                continue
            queue = [(end, d) for _, d in end.session.messages_to_send()]
            while queue:
                moved = True
                sender, datagram = queue.pop(0)
                self.carried.append(datagram)
                other = self.bob if sender is self.alice else self.alice
                if other.address in self.deaf:
                    continue
                try:
                    replies = other.receive(datagram, sender.address, self.now)
                except WireError:
                    continue
                queue += [(other, reply) for _, reply in replies]
        return moved

    def run(self, seconds: float) -> None:
        end_at = self.now + seconds
        while True:
            self.settle()
            at = min(
                [e.session.next_timeout() for e in self.ends if e.session] + [end_at]
            )
            if at >= end_at:
                self.now = end_at
                return
            self.now = max(self.now, at)
            for end in self.ends:
                if end.session is not None:
                    end.session.handle_timeout(self.now)
                    assert end.session.next_timeout() > self.now

    def handshakes(self) -> int:
        return sum(datagram[0] == 4 for datagram in self.carried)


def is_in(session: Session, state: SessionState) -> bool:
    return session.state is state


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_request_rides_in_the_first_message_and_opens_the_session(
    pair: Pair,
) -> None:
    alice, bob = pair.connect()
    assert (alice.state, bob.state) == (SessionState.OPEN, SessionState.OPEN)
    assert pair.alice.heard(AnswerReceived) == 1
    assert pair.bob.heard(RequestReceived) == 1
    assert [d[0] for d in pair.carried][:2] == [4, 5]
    assert alice.proven == BOB
    assert bob.proven == ALICE


def test_a_peer_known_by_its_address_alone_is_learnt(pair: Pair) -> None:
    session = pair.alice.open(BOB, None, pair.now)
    session.request(b"hi", pair.now)
    pair.settle()
    assert session.static == pair.bob.static.public
    assert session.proven == BOB
    assert pair.alice.heard(AnswerReceived) == 1


def test_a_request_too_long_for_the_first_message_follows_it(pair: Pair) -> None:
    session = pair.alice.open(BOB, pair.bob.static.public, pair.now)
    session.request(bytes(1_000), pair.now)
    pair.settle()
    assert pair.alice.heard(AnswerReceived) == 1
    assert max(map(len, pair.carried)) == 29 + 5 + 1_000


def test_nobody_there_closes_the_session_after_five_seconds(pair: Pair) -> None:
    session = pair.alice.open(BOB, pair.bob.static.public, pair.now)
    pair.deaf = {BOB}
    session.request(b"hi", pair.now)
    pair.run(4.9)
    assert is_in(session, SessionState.CONNECTING)
    pair.run(0.2)
    assert is_in(session, SessionState.CLOSED)
    assert pair.alice.heard(RequestExpired) == 1
    assert session.next_timeout() == math.inf
    assert pair.handshakes() == 4


def test_who_asked_for_keys_renews_them_after_two_minutes(pair: Pair) -> None:
    alice, _ = pair.connect()
    pair.run(REKEY_AFTER_S - 1)
    alice.request(b"still", pair.now)
    pair.run(0.5)
    assert pair.handshakes() == 1
    pair.run(1)
    assert pair.handshakes() == 2
    assert is_in(alice, SessionState.OPEN)


def test_the_other_side_renews_them_half_a_minute_later_if_nobody_did(
    pair: Pair,
) -> None:
    _, bob = pair.connect()
    alice = pair.alice.session
    pair.alice.session = None  # it neither hears nor says anything
    pair.run(REKEY_AFTER_AS_RESPONDER_S - 1)
    bob._used_at = pair.now
    pair.run(2)
    assert pair.handshakes() == 2
    assert alice is not None


def test_an_unused_session_is_left_to_expire(pair: Pair) -> None:
    alice, bob = pair.connect()
    pair.run(KEYS_EXPIRE_S - 1)
    assert (alice.state, bob.state) == (SessionState.OPEN, SessionState.OPEN)
    pair.run(2)
    assert (alice.state, bob.state) == (SessionState.CLOSED, SessionState.CLOSED)
    assert pair.handshakes() == 1


def test_keys_that_expire_while_something_is_asked_are_replaced(pair: Pair) -> None:
    alice, _ = pair.connect()
    pair.run(KEYS_EXPIRE_S - 1)
    pair.deaf = {BOB}
    alice.request(b"are you there", pair.now)
    pair.run(1.2)
    assert is_in(alice, SessionState.CONNECTING)
    pair.deaf = set()
    pair.run(3)
    assert is_in(alice, SessionState.OPEN)
    assert pair.alice.heard(AnswerReceived) == 2


def test_keys_that_are_offered_but_never_used_are_forgotten(pair: Pair) -> None:
    pair.deaf = {ALICE}
    session = pair.alice.open(BOB, pair.bob.static.public, pair.now)
    session.request(b"hi", pair.now)
    pair.settle()
    bob = pair.bob.session
    assert bob is not None
    assert is_in(bob, SessionState.OPEN)
    assert not bob.confirmed
    pair.run(CONFIRMED_WITHIN_S + 6)
    assert is_in(bob, SessionState.CLOSED)


def test_nothing_is_sealed_before_the_peer_has_used_the_keys(pair: Pair) -> None:
    pair.deaf = {ALICE}
    session = pair.alice.open(BOB, pair.bob.static.public, pair.now)
    session.request(b"hi", pair.now)
    pair.settle()
    bob = pair.bob.session
    assert bob is not None
    bob.request(b"and you", pair.now)
    bob.exchange.notify(b"and more")
    assert bob.messages_to_send() == []
    pair.deaf = set()
    pair.run(3)
    assert pair.bob.heard(AnswerReceived) == 1
    assert pair.alice.heard(NoticeReceived) == 1


def test_keys_confirmed_after_the_older_ones_expired_open_the_session(
    pair: Pair,
) -> None:
    alice, bob = pair.connect()
    pair.run(KEYS_EXPIRE_S - 2)
    alice.renew(pair.now)
    (_, first), *_ = alice.messages_to_send()
    ((_, second),) = pair.bob.receive(first, ALICE, pair.now)
    pair.now += 3
    bob.handle_timeout(pair.now)
    assert is_in(bob, SessionState.CONNECTING)
    message = handshake.decode(second)
    assert isinstance(message, Response)
    alice.receive_response(second, message, BOB, pair.now)
    pair.settle()
    assert bob.confirmed
    assert is_in(bob, SessionState.OPEN)


def test_unanswered_requests_make_it_ask_for_new_keys(pair: Pair) -> None:
    alice, _ = pair.connect()
    pair.run(10)
    pair.bob.session = None  # it has lost its memory
    alice.request(b"hello", pair.now)
    pair.run(STUCK_S - 0.1)
    assert pair.handshakes() == 1
    pair.run(0.2)
    assert pair.handshakes() == 2
    pair.run(2)
    assert pair.alice.heard(AnswerReceived) == 2
    assert is_in(alice, SessionState.OPEN)


def test_what_was_sealed_with_the_previous_keys_still_counts(pair: Pair) -> None:
    alice, _ = pair.connect()
    alice.exchange.notify(b"late")
    late = alice.messages_to_send()
    pair.now += 1
    alice.renew(pair.now)
    pair.settle()
    for _, datagram in late:
        pair.bob.receive(datagram, ALICE, pair.now)
    pair.bob.react()
    assert pair.bob.heard(NoticeReceived) == 1


def test_what_waits_to_be_said_survives_new_keys(pair: Pair) -> None:
    alice, _ = pair.connect()
    pair.now += 1
    alice.renew(pair.now)
    (_, first), *_ = alice.messages_to_send()
    ((_, second),) = pair.bob.receive(first, ALICE, pair.now)
    alice.exchange.notify(b"by the way")
    message = handshake.decode(second)
    assert isinstance(message, Response)
    alice.receive_response(second, message, BOB, pair.now)
    pair.settle()
    assert pair.bob.heard(NoticeReceived) == 1


def test_a_datagram_is_opened_once_and_not_after_it_was_changed(pair: Pair) -> None:
    alice, bob = pair.connect()
    alice.exchange.notify(b"once")
    ((_, datagram),) = alice.messages_to_send()
    tampered = datagram[:-1] + bytes((datagram[-1] ^ 1,))
    with pytest.raises(WireError):
        pair.bob.receive(tampered, ALICE, pair.now)
    pair.bob.receive(datagram, ALICE, pair.now)
    with pytest.raises(WireError):
        pair.bob.receive(datagram, ALICE, pair.now)
    counts = [each.statistics() for each in bob.transports()]
    assert sum(count.tampered for count in counts) == 1
    assert sum(count.replayed for count in counts) == 1


def test_media_has_no_place_between_nodes(pair: Pair) -> None:
    alice, _ = pair.connect()
    (transport,) = alice.transports()
    with pytest.raises(WireError, match="media"):
        pair.bob.receive(transport.seal(Kind.MEDIA, b"la"), ALICE, pair.now)


def test_the_address_follows_the_newest_datagram_but_is_not_proven_by_it(
    pair: Pair,
) -> None:
    alice, bob = pair.connect()
    elsewhere = Address("198.51.100.1", 1)
    alice.exchange.notify(b"one")
    alice.exchange.notify(b"two")
    (_, older), (_, newer) = alice.messages_to_send()
    pair.bob.receive(newer, elsewhere, pair.now)
    assert bob.address == elsewhere
    assert bob.proven == ALICE
    pair.bob.receive(older, ALICE, pair.now)
    assert bob.address == elsewhere


def test_every_state_is_reached_and_every_cause_used() -> None:
    reached = {state for moves in TRANSITIONS.values() for state in moves.values()}
    assert reached | {SessionState.CONNECTING} == set(SessionState)
    assert {cause for moves in TRANSITIONS.values() for cause in moves} == set(Cause)


class TwoSessions(RuleBasedStateMachine):
    """Two ends on a line that does everything, and somebody who repeats and damages."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()
        self.line: list[tuple[End, bytes]] = []
        self.heap: list[bytes] = []
        self.sealed: dict[bytes, bytes] = {}
        self.pair.alice.open(BOB, self.pair.bob.static.public, START)

    @rule(side=st.integers(0, 1), size=st.sampled_from([0, 10, 600, 1_100]))
    def ask(self, side: int, size: int) -> None:
        session = self.pair.ends[side].session
        if session is not None and session.state is not SessionState.CLOSED:
            session.request(bytes(size), self.pair.now)

    @rule(side=st.integers(0, 1))
    def notify(self, side: int) -> None:
        session = self.pair.ends[side].session
        if session is not None:
            session.exchange.notify(b"~")

    @rule(side=st.integers(0, 1))
    def renew(self, side: int) -> None:
        session = self.pair.ends[side].session
        if session is not None and session.state is SessionState.OPEN:
            session.renew(self.pair.now)

    @rule(position=st.integers(0, 50), fate=st.sampled_from("ddddlx"))
    def carry(self, position: int, fate: str) -> None:
        self.drain()
        if not self.line:
            return
        target, datagram = self.line.pop(position % len(self.line))
        if fate == "l":
            return
        if fate == "x":
            at = position % len(datagram)
            datagram = datagram[:at] + bytes((datagram[at] ^ 4,)) + datagram[at + 1 :]
        self.arrive(target, datagram)

    @rule()
    def carry_all(self) -> None:
        for _ in range(4):
            self.drain()
            line, self.line = self.line, []
            for target, datagram in line:
                self.arrive(target, datagram)

    @rule(side=st.integers(0, 1), position=st.integers(0, 200))
    def replay(self, side: int, position: int) -> None:
        if self.heap:
            self.arrive(self.pair.ends[side], self.heap[position % len(self.heap)])

    @rule(seconds=st.sampled_from([0.01, 0.6, 2.0, 30.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.pair.now += seconds
        for end in self.pair.ends:
            if end.session is not None:
                end.session.handle_timeout(self.pair.now)

    @rule(side=st.integers(0, 1))
    def close(self, side: int) -> None:
        session = self.pair.ends[side].session
        if session is not None:
            session.close()

    @rule()
    def call_anew(self) -> None:
        alice = self.pair.alice
        if alice.session is None or alice.session.state is SessionState.CLOSED:
            alice.open(BOB, self.pair.bob.static.public, self.pair.now)

    def arrive(self, target: End, datagram: bytes) -> None:
        source = ALICE if target is self.pair.bob else BOB
        try:
            replies = target.receive(datagram, source, self.pair.now)
        except WireError:
            return
        finally:
            target.react()
        other = self.pair.alice if target is self.pair.bob else self.pair.bob
        self.line += [(other, reply) for _, reply in replies]

    def drain(self) -> None:
        for end in self.pair.ends:
            end.react()
            other = self.pair.bob if end is self.pair.alice else self.pair.alice
            if end.session is None:
                continue
            for _, datagram in end.session.messages_to_send():
                if datagram[0] == Kind.DATA:
                    earlier = self.sealed.setdefault(datagram[:13], datagram)
                    assert earlier == datagram, "a counter sealed twice"
                self.line.append((other, datagram))
                self.heap.append(datagram)
        del self.line[:-100]

    @invariant()
    def time_goes_on(self) -> None:
        for end in self.pair.ends:
            if end.session is not None:
                end.session.handle_timeout(self.pair.now)
                assert end.session.next_timeout() > self.pair.now

    @invariant()
    def closed_is_closed(self) -> None:
        for end in self.pair.ends:
            session = end.session
            if session is not None and session.state is SessionState.CLOSED:
                assert not session.indexes()
                assert session.next_timeout() == math.inf
                assert session.exchange.requests_under_way == 0

    @invariant()
    def keys_are_three_at_most(self) -> None:
        for end in self.pair.ends:
            if end.session is not None:
                assert len(end.session.transports()) <= 3


TestTwoSessions = TwoSessions.TestCase
TestTwoSessions.settings = settings(max_examples=30, stateful_step_count=50)
