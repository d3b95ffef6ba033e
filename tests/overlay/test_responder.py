"""What a stranger must show before it costs a responder anything."""

from __future__ import annotations

import itertools
import random

import pytest

from nat.address import Address
from nat.errors import WireError
from overlay import handshake, tai64n
from overlay.dial import Dial, Local
from overlay.envelope import Envelope, EnvelopeKind, encode_envelope
from overlay.handshake import Completion, Initiation, Response
from overlay.noise import Handshake, KeyPair, Pattern
from overlay.responder import HALF_OPEN_S, Arrival, Responder

NOW = 1_700_000_000.0
SOURCE = Address("192.0.2.1", 7000)
ELSEWHERE = Address("198.51.100.66", 6666)


def local(seed: int) -> Local:
    rng = random.Random(seed)
    indexes = itertools.count(seed * 1_000)
    return Local(
        KeyPair(rng.randbytes(32)), b"test", rng.randbytes, lambda: next(indexes)
    )


THEM = local(1)


@pytest.fixture
def responder() -> Responder:
    return Responder(local(2))


def knock(
    responder: Responder, datagram: bytes, now: float = NOW, source: Address = SOURCE
) -> Arrival | None:
    message = handshake.decode(datagram)
    assert isinstance(message, Initiation)
    return responder.receive_initiation(datagram, message, source, now)


def first(
    pattern: Pattern = Pattern.IK, now: float = NOW, request: bytes | None = None
) -> bytes:
    static = None if pattern is Pattern.XX else local(2).static.public
    dial = Dial(THEM, pattern, static, request=request)
    dial.begin(now)
    (datagram,) = dial.messages_to_send()
    return datagram


def made(payload: bytes) -> bytes:
    """Give a first message whose form is right, with this inside."""
    responder_static = local(2).static.public
    theirs = Handshake(
        Pattern.IK,
        initiator=True,
        prologue=b"test",
        ephemeral=bytes(range(32)),
        static=THEM.static,
        remote_static=responder_static,
    )
    message = Initiation(Pattern.IK, 1, theirs.write_message(payload))
    return handshake.encode_initiation(message, responder_static)


def test_who_is_known_arrives_with_its_key_and_who_is_not_without(
    responder: Responder,
) -> None:
    arrival = knock(responder, first(Pattern.IK))
    assert arrival is not None
    assert arrival.static == THEM.static.public
    anonymous = knock(responder, first(Pattern.NK))
    assert anonymous is not None
    assert anonymous.static is None


def test_the_same_first_message_is_refused_the_second_time(
    responder: Responder,
) -> None:
    datagram = first()
    knock(responder, datagram)
    with pytest.raises(WireError, match="before"):
        knock(responder, datagram, NOW + 1)
    with pytest.raises(WireError):
        knock(responder, first(now=NOW - 1), NOW + 1)
    assert knock(responder, first(now=NOW + 1), NOW + 1) is not None
    assert responder.statistics()["handshakes_replayed"] == 2


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff" * 9,
        handshake.encode_payload(handshake.Reply(0, b"x")),
        handshake.encode_payload(handshake.Opening(bytes(12), 0)),
        handshake.encode_payload(handshake.Opening(tai64n.encode(NOW), 0, b"")),
        handshake.encode_payload(
            handshake.Opening(
                tai64n.encode(NOW),
                0,
                encode_envelope(Envelope(EnvelopeKind.NOTICE, 0, b"")),
            )
        ),
    ],
    ids=["empty", "garbage", "a reply", "no time", "no envelope", "a notice"],
)
def test_what_is_wrong_inside_a_first_message_is_refused(
    responder: Responder, payload: bytes
) -> None:
    with pytest.raises(WireError):
        knock(responder, made(payload))
    assert responder.messages_to_send() == []


def test_a_wrong_mac_costs_no_handshake_and_counts_for_no_load(
    responder: Responder,
) -> None:
    datagram = first()
    wrong = datagram[:-20] + bytes((datagram[-20] ^ 1,)) + datagram[-19:]
    for _ in range(200):
        with pytest.raises(WireError, match="mac1"):
            knock(responder, wrong)
    assert knock(responder, datagram) is not None


def test_under_load_a_cookie_is_answered_and_nothing_kept(responder: Responder) -> None:
    for number in range(100):
        knock(responder, first(Pattern.NK), NOW + number / 1_000)
    assert knock(responder, first(Pattern.NK), NOW + 0.2) is None
    ((target, reply),) = responder.messages_to_send()
    assert target == SOURCE
    assert len(reply) == handshake.COOKIE_REPLY_BYTES
    assert responder.statistics()["handshakes_asked_for_cookie"] == 1
    assert knock(responder, first(Pattern.NK), NOW + 2) is not None


def complete(responder: Responder) -> tuple[Completion, bytes]:
    """Give the third message of a stranger whose first was answered."""
    dial = Dial(THEM, Pattern.XX, None)
    dial.begin(NOW)
    (datagram,) = dial.messages_to_send()
    assert knock(responder, datagram) is None
    ((_, second),) = responder.messages_to_send()
    answer = handshake.decode(second)
    assert isinstance(answer, Response)
    established = dial.receive(second, answer, NOW)
    assert established is not None
    assert established.completion is not None
    message = handshake.decode(established.completion)
    assert isinstance(message, Completion)
    return message, established.completion


def test_a_stranger_is_known_after_its_third_message(responder: Responder) -> None:
    message, datagram = complete(responder)
    completed = responder.receive_completion(datagram, message, SOURCE)
    assert completed.static == THEM.static.public
    assert responder.statistics()["handshakes_half_open"] == 0
    with pytest.raises(WireError):
        responder.receive_completion(datagram, message, SOURCE)


def test_a_third_message_must_come_from_where_the_second_went(
    responder: Responder,
) -> None:
    message, datagram = complete(responder)
    with pytest.raises(WireError, match="not from"):
        responder.receive_completion(datagram, message, ELSEWHERE)
    responder.receive_completion(datagram, message, SOURCE)


def test_a_third_message_with_a_wrong_key_inside_leaves_the_door_open(
    responder: Responder,
) -> None:
    message, datagram = complete(responder)
    noise = message.noise[:-1] + bytes((message.noise[-1] ^ 1,))
    forged = Completion(message.sender_index, message.receiver_index, noise)
    with pytest.raises(WireError):
        responder.receive_completion(
            handshake.encode_completion(forged, None), forged, SOURCE
        )
    responder.receive_completion(datagram, message, SOURCE)


def test_half_open_handshakes_end_after_five_seconds(responder: Responder) -> None:
    message, datagram = complete(responder)
    assert responder.next_timeout() == NOW + HALF_OPEN_S
    responder.handle_timeout(NOW + HALF_OPEN_S)
    with pytest.raises(WireError, match="without"):
        responder.receive_completion(datagram, message, SOURCE)


def test_an_answer_is_never_longer_than_what_it_answers(responder: Responder) -> None:
    request = encode_envelope(Envelope(EnvelopeKind.REQUEST, 1, b"?"))
    datagram = first(request=request)
    arrival = knock(responder, datagram)
    assert arrival is not None
    answer = bytes(arrival.room_bytes())
    reply, _ = arrival.write_reply(local(2).static.public, 9, answer)
    assert len(datagram) - 16 <= len(reply) <= len(datagram)
