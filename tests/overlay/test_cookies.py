"""Cookies for those who receive where they say, and the meter that asks for them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.errors import WireError
from overlay.cookies import (
    COOKIE_SECRET_S,
    HANDSHAKES_PER_S_MAX,
    CookieJar,
    UnderLoad,
    open_cookie,
)
from overlay.handshake import (
    CookieReply,
    Initiation,
    decode,
    encode_cookie_reply,
    encode_initiation,
    mac1_of,
)
from overlay.noise import Pattern
from tests.overlay.test_noise import INITIATOR, RESPONDER

STATIC = RESPONDER.public
INITIATION = Initiation(Pattern.IK, 7, bytes(96))
HERE = bytes((192, 0, 2, 1, 0x1B, 0x58))
THERE = bytes((192, 0, 2, 2, 0x1B, 0x58))
NOW = 1_700_000_000.0


def open_jar() -> CookieJar:
    return CookieJar(random.Random(1).randbytes)


def fetch_cookie(
    jar: CookieJar, static: bytes | None, address: bytes, now: float
) -> bytes:
    """Ask as an initiator does: send HS1, get COOKIE, open it."""
    first = encode_initiation(INITIATION, static)
    datagram = encode_cookie_reply(
        jar.reply_to(first, INITIATION, static, address, now)
    )
    reply = decode(datagram)
    assert isinstance(reply, CookieReply)
    assert reply.receiver_index == INITIATION.sender_index
    return open_cookie(reply, static, mac1_of(first))


def with_cookie(cookie: bytes) -> bytes:
    return encode_initiation(INITIATION, STATIC, cookie=cookie)


@pytest.mark.parametrize("static", [STATIC, None], ids=["IK", "XX"])
def test_a_cookie_reaches_its_initiator_and_is_accepted(static: bytes | None) -> None:
    jar = open_jar()
    cookie = fetch_cookie(jar, static, HERE, NOW)
    assert cookie == jar.cookie_for(HERE, NOW)
    second = encode_initiation(INITIATION, static, cookie=cookie)
    assert jar.valid_mac2(second, HERE, NOW)


def test_a_cookie_is_worth_nothing_elsewhere() -> None:
    jar = open_jar()
    datagram = with_cookie(fetch_cookie(jar, STATIC, HERE, NOW))
    assert not jar.valid_mac2(datagram, THERE, NOW)
    assert not jar.valid_mac2(datagram, HERE[:-1] + b"\0", NOW)


def test_no_cookie_and_a_wrong_one_are_refused() -> None:
    jar = open_jar()
    assert not jar.valid_mac2(encode_initiation(INITIATION, STATIC), HERE, NOW)
    assert not jar.valid_mac2(with_cookie(bytes(16)), HERE, NOW)
    assert not open_jar_of_another().valid_mac2(
        with_cookie(jar.cookie_for(HERE, NOW)), HERE, NOW
    )


def open_jar_of_another() -> CookieJar:
    return CookieJar(random.Random(2).randbytes)


def test_every_flipped_bit_of_the_datagram_spoils_mac2() -> None:
    jar = open_jar()
    datagram = with_cookie(jar.cookie_for(HERE, NOW))
    for bit in range(8 * len(datagram)):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not jar.valid_mac2(bytes(flipped), HERE, NOW)


@given(
    began=st.floats(0, COOKIE_SECRET_S - 1e-3),
    age=st.floats(0, 3 * COOKIE_SECRET_S),
    used_between=st.lists(st.floats(0, 1), max_size=3),
)
def test_a_cookie_is_good_for_120_to_240_s(
    began: float, age: float, used_between: list[float]
) -> None:
    jar = open_jar()
    jar.cookie_for(THERE, NOW)
    datagram = with_cookie(jar.cookie_for(HERE, NOW + began))
    for fraction in sorted(used_between):
        jar.cookie_for(THERE, NOW + began + fraction * age)
    valid = jar.valid_mac2(datagram, HERE, NOW + began + age)
    if age < COOKIE_SECRET_S:
        assert valid
    if age >= 2 * COOKIE_SECRET_S:
        assert not valid


def test_a_cookie_reply_opens_with_all_that_made_it_only() -> None:
    first = encode_initiation(INITIATION, STATIC)
    reply = open_jar().reply_to(first, INITIATION, STATIC, HERE, NOW)
    datagram = encode_cookie_reply(reply)
    with pytest.raises(WireError):
        open_cookie(reply, INITIATOR.public, mac1_of(first))
    with pytest.raises(WireError):
        open_cookie(reply, None, mac1_of(first))
    with pytest.raises(WireError):
        open_cookie(reply, STATIC, bytes(16))
    for bit in range(5 * 8, 8 * len(datagram)):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        tampered = decode(bytes(flipped))
        assert isinstance(tampered, CookieReply)
        with pytest.raises(WireError):
            open_cookie(tampered, STATIC, mac1_of(first))


def test_two_replies_never_share_a_nonce() -> None:
    jar = open_jar()
    first = encode_initiation(INITIATION, STATIC)
    replies = {
        jar.reply_to(first, INITIATION, STATIC, HERE, NOW).nonce for _ in range(100)
    }
    assert len(replies) == 100


def test_a_hundred_handshakes_a_second_are_no_load_and_one_more_is() -> None:
    load = UnderLoad()
    for number in range(HANDSHAKES_PER_S_MAX):
        load.count(NOW + number / 1_000)
    assert not load.at(NOW + 0.1)
    load.count(NOW + 0.1)
    assert load.at(NOW + 0.1)
    assert load.at(NOW + 0.999)
    assert not load.at(NOW + 1.0)


def test_a_steady_99_a_second_are_never_load() -> None:
    load = UnderLoad()
    for number in range(1_000):
        now = number / (HANDSHAKES_PER_S_MAX - 1)
        load.count(now)
        assert not load.at(now)


@given(gaps=st.lists(st.sampled_from([0.0, 0.001, 0.004, 0.01, 0.3]), max_size=400))
def test_load_is_more_than_a_hundred_within_the_last_second(gaps: list[float]) -> None:
    load, times, now = UnderLoad(), list[float](), 0.0
    for gap in gaps:
        now += gap
        times.append(now)
        load.count(now)
        recent = sum(now < then + 1.0 for then in times)
        assert load.at(now) == (recent > HANDSHAKES_PER_S_MAX)
