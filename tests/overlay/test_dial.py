"""Getting a session: tries, cookies, and answers that are not for us."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from nat.address import Address
from nat.errors import WireError
from overlay import handshake
from overlay.cookies import CookieJar
from overlay.dial import COOKIES_MAX, GIVE_UP_S, OPENING_BYTES_MAX, Dial, Local
from overlay.envelope import Envelope, EnvelopeKind, encode_envelope
from overlay.handshake import CookieReply, Initiation, Response
from overlay.noise import KeyPair, Pattern
from overlay.responder import Arrival, Responder
from overlay.seal import Kind

START = 1_700_000_000.0
SOURCE = Address("192.0.2.1", 7000)
REQUEST = encode_envelope(Envelope(EnvelopeKind.REQUEST, 5, b"?"))
ANSWER = encode_envelope(Envelope(EnvelopeKind.ANSWER, 5, b"!"))


def local(seed: int) -> Local:
    rng = random.Random(seed)
    indexes = itertools.count(seed * 100)
    return Local(
        KeyPair(rng.randbytes(32)), b"test", rng.randbytes, lambda: next(indexes)
    )


OURS, THEIRS = local(1), local(2)


def dial(pattern: Pattern = Pattern.IK, request: bytes | None = REQUEST) -> Dial:
    static = None if pattern is Pattern.XX else THEIRS.static.public
    dialled = Dial(local(1), pattern, static, request=request)
    dialled.begin(START)
    return dialled


def arrive(first: bytes) -> Arrival:
    message = handshake.decode(first)
    assert isinstance(message, Initiation)
    arrival = Responder(THEIRS).receive_initiation(first, message, SOURCE, START)
    assert arrival is not None
    return arrival


def take(dialled: Dial, reply: bytes, now: float = START) -> object:
    message = handshake.decode(reply)
    assert isinstance(message, Response | CookieReply)
    return dialled.receive(reply, message, now)


def test_it_tries_four_times_in_five_seconds_and_fails() -> None:
    dialled = dial()
    tried_at = [0.0 for _ in dialled.messages_to_send()]
    while not dialled.failed:
        at = dialled.next_timeout()
        dialled.handle_timeout(at)
        assert dialled.next_timeout() > at
        tried_at += [round(at - START, 3) for _ in dialled.messages_to_send()]
    assert tried_at == [0.0, 0.5, 1.5, 3.5]
    assert at == START + GIVE_UP_S
    assert dialled.next_timeout() == math.inf


@pytest.mark.parametrize("pattern", [Pattern.IK, Pattern.NK])
def test_the_answer_to_any_try_is_taken(pattern: Pattern) -> None:
    dialled = dial(pattern)
    dialled.handle_timeout(START + 0.5)
    dialled.handle_timeout(START + 1.5)
    tries = dialled.messages_to_send()
    assert len(tries) == len(dialled.indexes) == 3
    arrival = arrive(tries[1])
    assert arrival.request == Envelope(EnvelopeKind.REQUEST, 5, b"?")
    reply, transport = arrival.write_reply(THEIRS.static.public, 9, ANSWER)
    message = handshake.decode(reply)
    assert isinstance(message, Response)
    established = dialled.receive(reply, message, START + 1.6)
    assert established is not None
    assert established.rtt_s == pytest.approx(1.1, abs=1e-6)
    assert established.response == Envelope(EnvelopeKind.ANSWER, 5, b"!")
    assert established.their_static == THEIRS.static.public
    sealed = established.transport.seal(Kind.DATA, b"x")
    assert transport.open(sealed)[2] == b"x"
    assert dialled.next_timeout() == math.inf


def test_every_try_is_a_handshake_of_its_own() -> None:
    dialled = dial()
    dialled.handle_timeout(START + 0.5)
    first, second = dialled.messages_to_send()
    assert first[:8] != second[:8]
    assert first[9:41] != second[9:41]  # the ephemeral keys


def test_an_answer_to_nothing_of_ours_is_refused() -> None:
    dialled = dial()
    (first,) = dialled.messages_to_send()
    reply, _ = arrive(first).write_reply(THEIRS.static.public, 9, None)
    for wrong in (
        reply[:5] + b"\xff\xff\xff\xff" + reply[9:],
        reply[:-1] + bytes((reply[-1] ^ 1,)),
        reply[:20] + bytes((reply[20] ^ 1,)) + reply[21:],
    ):
        with pytest.raises(WireError):
            take(dialled, wrong)
    assert take(dialled, reply) is not None


@pytest.mark.parametrize("answer", [b"", b"\x01\0\0", b"\xff" * 9, REQUEST])
def test_what_rides_in_the_answer_must_be_an_answer(answer: bytes) -> None:
    dialled = dial()
    (first,) = dialled.messages_to_send()
    reply, _ = arrive(first).write_reply(THEIRS.static.public, 9, answer)
    for _ in range(2):
        with pytest.raises(WireError):
            take(dialled, reply)
    assert dialled.next_timeout() == START + 0.5


def test_a_cookie_is_used_at_once_and_only_so_many_are_heeded() -> None:
    dialled = dial()
    jar = CookieJar(random.Random(3).randbytes)
    (latest,) = dialled.messages_to_send()
    for number in range(COOKIES_MAX + 1):
        message = handshake.decode(latest)
        assert isinstance(message, Initiation)
        cookie = jar.reply_to(
            latest, message, THEIRS.static.public, SOURCE.pack(), START
        )
        reply = handshake.encode_cookie_reply(cookie)
        if number == COOKIES_MAX:
            with pytest.raises(WireError):
                take(dialled, reply)
            return
        assert take(dialled, reply) is None
        (latest,) = dialled.messages_to_send()
        assert jar.valid_mac2(latest, SOURCE.pack(), START)


def test_no_request_rides_where_the_other_side_is_unknown() -> None:
    (first,) = dial(Pattern.XX).messages_to_send()
    message = handshake.decode(first)
    assert isinstance(message, Initiation)
    assert len(message.noise) == 32


def test_the_longest_request_fits_into_the_longest_first_message() -> None:
    request = encode_envelope(
        Envelope(EnvelopeKind.REQUEST, 1, bytes(OPENING_BYTES_MAX - 5))
    )
    (first,) = dial(request=request).messages_to_send()
    assert len(first) <= handshake.INITIATION_BYTES_MAX
    assert arrive(first).request == Envelope(
        EnvelopeKind.REQUEST, 1, bytes(OPENING_BYTES_MAX - 5)
    )
