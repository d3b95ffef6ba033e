"""What a supernode does for others: registrations, introductions, relays, the index."""

from __future__ import annotations

import pytest

from nat.address import Address
from nat.relay import encode_relayed
from overlay.endpoint_events import Question
from overlay.messages import (
    Announce,
    Answer,
    Busy,
    Deliver,
    Done,
    GetSupernodes,
    Introduce,
    Joined,
    JoinRelay,
    LookUp,
    NotFound,
    Ping,
    Pong,
    Refusal,
    Refused,
    Register,
    Registered,
    Request,
    Signal,
    Store,
    Stored,
    Supernodes,
    Value,
)
from overlay.records import id_key, name_key
from overlay.supernode import Delivered, Supernode
from tests.overlay.samples import (
    NOW,
    address,
    claim,
    contact,
    descriptor,
    identity,
    presence,
    randomness,
)

LEAF = Address("203.0.113.1", 40_000)
OTHER = Address("203.0.113.2", 40_000)
INTRODUCTION = bytes(range(16))
CHANNEL = bytes(range(8))


class Bench:
    """One supernode, asked directly."""

    def __init__(self) -> None:
        self.now = NOW
        self.supernode = Supernode(
            identity(0),
            address(0),
            seeds=[],
            client_version="test",
            random_bytes=randomness(1),
            now=NOW,
        )
        self.numbers = 0

    def ask(
        self, request: Request, number: int | None, source: Address = LEAF
    ) -> Answer | None:
        """Let the node with this number ask; None asks anonymously."""
        static = None if number is None else identity(number).dh_public
        self.numbers += 1
        question = Question(static, source, self.numbers, proven=True)
        return self.supernode.serve(request, question, self.now)

    def settle(self) -> list[tuple[int, Answer]]:
        """Carry what it asks itself; give the answers that became ready."""
        for _ in range(10):
            for asker in self.supernode.askers():
                for ask in asker.messages_to_send():
                    us = Question(identity(0).dh_public, address(0), 0, proven=True)
                    if ask.peer.static == identity(0).dh_public:
                        answer = self.supernode.serve(ask.request, us, self.now)
                        assert answer is not None
                        asker.answered(ask.tag, answer, 0.0, self.now)
            self.supernode.settle(self.now)
        return [(q.number, answer) for q, answer in self.supernode.answers()]

    def register(self, number: int, seq: int = 1_000) -> list[tuple[int, Answer]]:
        raw = presence(number, seq).raw
        assert self.ask(Register(raw, b"", publish=True), number) is None
        return self.settle()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_leaf_is_registered_once_its_records_are_with_their_owners(
    bench: Bench,
) -> None:
    register = Register(presence(5).raw, claim(5, "alice").raw, publish=True)
    assert bench.ask(register, 5) is None
    answers = bench.settle()
    assert answers == [(1, Registered(900.0, 1, 1, LEAF.pack()))]
    for key in (id_key(identity(5).public_key), name_key("alice")):
        assert isinstance(bench.ask(LookUp(key), None), Value)


def test_a_standby_home_answers_at_once_and_publishes_nothing(bench: Bench) -> None:
    answer = bench.ask(Register(presence(5).raw, b"", publish=False), 5)
    assert answer == Registered(900.0, 0, 0, LEAF.pack())
    assert bench.settle() == []
    key = id_key(identity(5).public_key)
    assert isinstance(bench.ask(LookUp(key), None), NotFound)


@pytest.mark.parametrize(
    "register",
    [
        Register(b"", b"", publish=True),
        Register(b"\xff" * 40, b"", publish=True),
        Register(presence(6).raw, b"", publish=True),
        Register(presence(5).raw, b"garbage", publish=True),
        Register(presence(5).raw, claim(6, "bob").raw, publish=True),
        Register(descriptor(5).raw, b"", publish=True),
    ],
    ids=[
        "empty",
        "garbage",
        "another's",
        "bad claim",
        "another's claim",
        "no presence",
    ],
)
def test_records_that_are_not_the_askers_are_refused(
    bench: Bench, register: Register
) -> None:
    assert bench.ask(register, 5) == Refused(Refusal.BAD_RECORD)
    assert len(bench.supernode.registry) == 0


@pytest.mark.parametrize(
    "request_",
    [
        Register(presence(5).raw, b"", publish=True),
        Introduce(INTRODUCTION, bytes(32), b""),
        JoinRelay(CHANNEL),
        Store((presence(5).raw,)),
    ],
)
def test_who_does_not_say_who_asks_may_only_read(
    bench: Bench, request_: Request
) -> None:
    assert bench.ask(request_, None) == Refused(Refusal.NOT_FOR_YOU)
    assert isinstance(bench.ask(GetSupernodes(bytes(8)), None), Supernodes)
    assert isinstance(bench.ask(LookUp(bytes(8)), None), NotFound)
    assert bench.ask(Announce((descriptor(3).raw,)), None) == Done()


def test_only_supernodes_of_the_ring_store(bench: Bench) -> None:
    store = Store((presence(5).raw,))
    assert bench.ask(store, 5) == Refused(Refusal.NOT_A_SUPERNODE)
    assert len(bench.supernode.index.keys()) == 0
    bench.ask(Announce((descriptor(3).raw,)), 3, address(3))
    assert bench.ask(store, 3, address(3)) == Stored(1)
    assert bench.ask(Store((b"no",)), 3, address(3)) == Refused(Refusal.BAD_RECORD)


def test_what_only_nodes_answer_is_not_understood(bench: Bench) -> None:
    assert bench.ask(Deliver(INTRODUCTION, b""), 5) == Refused(Refusal.NOT_UNDERSTOOD)


def test_a_ping_tells_the_loads_and_whether_one_is_at_home_here(bench: Bench) -> None:
    bench.register(5)
    assert bench.ask(Ping(), 5) == Pong(LEAF.pack(), 1 / 750, 0.0, at_home=True)
    assert bench.ask(Ping(), 6) == Pong(LEAF.pack(), 1 / 750, 0.0, at_home=False)


def test_a_full_home_is_busy_for_new_leaves_and_names_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.supernode.registry, "_max", 2)
    bench.ask(Announce((descriptor(3).raw, descriptor(4).raw)), 3, address(3))
    bench.register(5)
    bench.register(6)
    answer = bench.ask(Register(presence(7).raw, b"", publish=True), 7)
    assert isinstance(answer, Busy)
    assert 5.0 <= answer.retry_after_s <= 30.0
    assert answer.alternatives == (contact(3),)  # of 4 nobody has heard
    renewed = presence(5, seq=int(NOW) * 1_000 + 9).raw
    assert bench.ask(Register(renewed, b"", publish=False), 5) is not None
    assert bench.supernode.statistics()["registrations_refused"] == 1


def test_a_leaf_that_registers_again_before_the_answer_gets_both_answers(
    bench: Bench,
) -> None:
    first = presence(5, seq=1_000)
    second = presence(5, seq=2_000)
    assert bench.ask(Register(first.raw, b"", publish=True), 5) is None
    bench.supernode.settle(NOW)  # it is being published
    assert bench.ask(Register(second.raw, b"", publish=True), 5) is None
    assert {number for number, _ in bench.settle()} == {1, 2}


def test_a_leaf_whose_clock_went_back_is_answered_too(bench: Bench) -> None:
    bench.register(5, seq=2_000)
    answers = bench.register(5, seq=1_000)
    assert len(answers) == 1


def test_registrations_that_wait_are_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlay.supernode.WAITING_MAX", 3)
    for number in range(5, 12):
        bench.ask(Register(presence(number).raw, b"", publish=True), number)
        assert len(bench.supernode._waiting) <= 3


def test_an_introduction_goes_to_the_leaf_and_signals_both_ways(bench: Bench) -> None:
    bench.register(5)
    target = identity(5).public_key
    introduce = Introduce(INTRODUCTION, target, b"opening")
    assert bench.ask(introduce, 6, OTHER) == Done()
    (ask,) = bench.supernode.messages_to_send()
    assert ask.request == Deliver(INTRODUCTION, b"opening")
    assert (ask.peer.static, ask.peer.address) == (identity(5).dh_public, LEAF)
    caller, callee = identity(6).dh_public, identity(5).dh_public
    signal = Signal(INTRODUCTION, b"hello")
    bench.supernode.receive_signal(signal, caller, NOW)
    bench.supernode.receive_signal(signal, callee, NOW)
    assert bench.supernode.notices() == [(callee, signal), (caller, signal)]


def test_a_third_party_cannot_use_an_introduction(bench: Bench) -> None:
    bench.register(5)
    bench.ask(Introduce(INTRODUCTION, identity(5).public_key, b""), 6)
    signal = Signal(INTRODUCTION, b"intrude")
    bench.supernode.receive_signal(signal, identity(7).dh_public, NOW)
    assert bench.supernode.notices() == []
    assert bench.supernode.statistics()["signals_dropped"] == 1
    taken = bench.ask(Introduce(INTRODUCTION, identity(5).public_key, b""), 7)
    assert isinstance(taken, Busy)


def test_nobody_is_introduced_to_who_is_not_here(bench: Bench) -> None:
    introduce = Introduce(INTRODUCTION, identity(5).public_key, b"")
    assert bench.ask(introduce, 6) == Refused(Refusal.NOT_HERE)
    assert len(bench.supernode.introductions) == 0


def test_what_is_for_our_own_node_is_delivered_to_it(bench: Bench) -> None:
    introduce = Introduce(INTRODUCTION, identity(0).public_key, b"opening")
    assert bench.ask(introduce, 6) == Done()
    signal = Signal(INTRODUCTION, b"hello")
    bench.supernode.receive_signal(signal, identity(6).dh_public, NOW)
    assert bench.supernode.events() == [
        Delivered(INTRODUCTION, b"opening", is_opening=True),
        Delivered(INTRODUCTION, b"hello", is_opening=False),
    ]


def test_two_members_of_a_channel_are_joined_and_a_third_is_not(bench: Bench) -> None:
    assert bench.ask(JoinRelay(CHANNEL), 5, LEAF) == Joined(paired=False)
    assert bench.ask(JoinRelay(CHANNEL), 6, OTHER) == Joined(paired=True)
    third = bench.ask(JoinRelay(CHANNEL), 7, Address("203.0.113.3", 1))
    assert third == Refused(Refusal.CHANNEL_TAKEN)
    frame = encode_relayed(CHANNEL, b"voice")
    forward = bench.supernode.forward(frame, LEAF, NOW)
    assert forward is not None
    assert forward.target == OTHER


def test_who_has_as_many_channels_as_it_may_is_told_busy(bench: Bench) -> None:
    for number in range(16):
        bench.ask(JoinRelay(bytes(7) + bytes((number,))), 5)
    assert isinstance(bench.ask(JoinRelay(bytes(7) + b"\x99"), 5), Busy)


def test_a_leaf_that_left_is_forgotten_and_its_channels_closed(bench: Bench) -> None:
    bench.register(5)
    bench.ask(JoinRelay(CHANNEL), 5)
    bench.supernode.peer_left(identity(5).dh_public, NOW)
    assert bench.supernode.statistics()["leaves"] == 0
    assert bench.supernode.statistics()["relay_channels"] == 0


def test_a_leaf_that_moved_is_relayed_to_where_it_is(bench: Bench) -> None:
    bench.ask(JoinRelay(CHANNEL), 5, LEAF)
    bench.ask(JoinRelay(CHANNEL), 6, OTHER)
    elsewhere = Address("198.51.100.9", 9)
    bench.supernode.peer_moved(identity(5).dh_public, elsewhere)
    forward = bench.supernode.forward(encode_relayed(CHANNEL, b"x"), OTHER, NOW)
    assert forward is not None
    assert forward.target == elsewhere


def test_what_is_not_renewed_is_forgotten_in_time(bench: Bench) -> None:
    bench.register(5)
    bench.ask(Introduce(INTRODUCTION, identity(5).public_key, b""), 6)
    bench.ask(JoinRelay(CHANNEL), 6)
    for seconds, leaves, introductions, channels in (
        (59.0, 1, 1, 1),
        (61.0, 1, 1, 0),
        (121.0, 1, 0, 0),
        (901.0, 0, 0, 0),
    ):
        bench.now = NOW + seconds
        bench.supernode.handle_timeout(bench.now)
        assert bench.supernode.next_timeout() > bench.now
        counts = bench.supernode.statistics()
        assert counts["leaves"] == leaves
        assert counts["introductions"] == introductions
        assert counts["relay_channels"] == channels
    assert counts["records"] == 0


def test_a_delivery_that_failed_is_counted(bench: Bench) -> None:
    bench.register(5)
    bench.ask(Introduce(INTRODUCTION, identity(5).public_key, b""), 6)
    (ask,) = bench.supernode.messages_to_send()
    bench.supernode.failed(ask.tag, NOW)
    assert bench.supernode.statistics()["signals_dropped"] == 1


def test_leaves_members_and_who_relays_here_are_needed(bench: Bench) -> None:
    assert not bench.supernode.needs(identity(5).dh_public)
    bench.register(5)
    assert bench.supernode.needs(identity(5).dh_public)
    bench.ask(Announce((descriptor(3).raw,)), 3, address(3))
    assert bench.supernode.needs(identity(3).dh_public)
    bench.ask(JoinRelay(CHANNEL), 6)
    assert bench.supernode.needs(identity(6).dh_public)
