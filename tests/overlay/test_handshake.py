"""The handshake's datagrams and payloads: frozen bytes, round trips, garbage."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.errors import WireError
from overlay import tai64n
from overlay.handshake import (
    COOKIE_REPLY_BYTES,
    INITIATION_BYTES_MAX,
    INITIATION_BYTES_MIN,
    INITIATION_OVERHEAD_BYTES,
    RESPONSE_OVERHEAD_BYTES,
    Completion,
    CookieReply,
    HandshakeDatagram,
    Initiation,
    Opening,
    Reply,
    Response,
    decode,
    decode_opening,
    decode_reply,
    encode_completion,
    encode_cookie_reply,
    encode_initiation,
    encode_payload,
    encode_response,
    mac1_of,
    network_id,
    prologue,
    verify_mac1,
)
from overlay.noise import Pattern
from tests.golden import read_golden
from tests.overlay.test_noise import RESPONDER, open_handshake

STATIC = RESPONDER.public
COOKIE = bytes(range(0xC0, 0xD0))
INITIATION = Initiation(Pattern.IK, 0x01020304, bytes(range(96)))
RESPONSE = Response(0x0A0B0C0D, 0x01020304, bytes(range(48)))
COMPLETION = Completion(0x01020304, 0x0A0B0C0D, bytes(range(64)))
COOKIE_REPLY = CookieReply(0x01020304, bytes(range(24)), bytes(range(32)))
OPENING = Opening(tai64n.encode(1_700_000_000.25), 5, b"request")
REPLY = Reply(5, b"response")

indexes = st.integers(0, 2**32 - 1)


def frozen() -> dict[str, bytes]:
    """Make all that `tests/golden/handshake.txt` holds."""
    return {
        "hs1": encode_initiation(INITIATION, STATIC),
        "hs1_with_cookie": encode_initiation(INITIATION, STATIC, cookie=COOKIE),
        "hs1_of_xx": encode_initiation(
            Initiation(Pattern.XX, 0x01020304, bytes(range(32))), None
        ),
        "hs2": encode_response(RESPONSE, STATIC, INITIATION_BYTES_MIN),
        "hs3": encode_completion(COMPLETION, None),
        "cookie_reply": encode_cookie_reply(COOKIE_REPLY),
        "opening": encode_payload(OPENING),
        "opening_without_request": encode_payload(Opening(OPENING.timestamp, 0)),
        "reply": encode_payload(REPLY),
        "reply_without_response": encode_payload(Reply(0)),
        "prologue": prologue(network_id("koe")),
    }


@pytest.mark.parametrize("name", frozen())
def test_the_bytes_are_the_frozen_ones(name: str) -> None:
    assert frozen()[name].hex() == read_golden("handshake.txt")[name].hex()


datagrams = pytest.mark.parametrize(
    ("datagram", "message"),
    [
        (encode_initiation(INITIATION, STATIC), INITIATION),
        (encode_response(RESPONSE, STATIC, INITIATION_BYTES_MIN), RESPONSE),
        (encode_completion(COMPLETION, STATIC), COMPLETION),
        (encode_cookie_reply(COOKIE_REPLY), COOKIE_REPLY),
    ],
    ids=["hs1", "hs2", "hs3", "cookie"],
)


@datagrams
def test_a_datagram_is_read_back(datagram: bytes, message: HandshakeDatagram) -> None:
    assert decode(datagram) == message


@given(
    pattern=st.sampled_from(Pattern),
    index=indexes,
    noise=st.binary(max_size=INITIATION_BYTES_MAX - INITIATION_OVERHEAD_BYTES),
    size=st.integers(0, INITIATION_BYTES_MAX),
    cookie=st.none() | st.binary(min_size=16, max_size=16),
)
def test_a_first_message_is_read_back_and_has_the_size_wished(
    pattern: Pattern, index: int, noise: bytes, size: int, cookie: bytes | None
) -> None:
    size = max(size, INITIATION_BYTES_MIN)
    message = Initiation(pattern, index, noise)
    datagram = encode_initiation(message, STATIC, size=size, cookie=cookie)
    assert len(datagram) == max(size, len(noise) + INITIATION_OVERHEAD_BYTES)
    assert decode(datagram) == message
    verify_mac1(datagram, STATIC)


@given(sender=indexes, receiver=indexes, noise=st.binary(max_size=400))
def test_an_answer_is_read_back(sender: int, receiver: int, noise: bytes) -> None:
    response = Response(sender, receiver, noise)
    datagram = encode_response(response, STATIC, INITIATION_BYTES_MIN)
    assert len(datagram) == len(noise) + RESPONSE_OVERHEAD_BYTES
    assert decode(datagram) == response
    verify_mac1(datagram, STATIC)


@pytest.mark.parametrize("length", [1_160, 2_000, 70_000])
def test_a_first_message_longer_than_a_datagram_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="expected 512 to 1200"):
        encode_initiation(replace(INITIATION, noise=bytes(length)), STATIC)


def test_a_first_message_can_be_too_short_only_by_wish() -> None:
    with pytest.raises(ValueError, match="expected 512 to 1200"):
        encode_initiation(INITIATION, STATIC, size=511)


def test_an_answer_is_never_longer_than_what_it_answers() -> None:
    longest = replace(RESPONSE, noise=bytes(512 - RESPONSE_OVERHEAD_BYTES))
    assert len(encode_response(longest, STATIC, 512)) == 512
    longer = replace(RESPONSE, noise=longest.noise + b"\0")
    with pytest.raises(ValueError, match="513 bytes in answer to 512"):
        encode_response(longer, STATIC, 512)


def test_a_cookie_reply_is_shorter_than_any_first_message() -> None:
    assert len(encode_cookie_reply(COOKIE_REPLY)) == COOKIE_REPLY_BYTES
    assert COOKIE_REPLY_BYTES < INITIATION_BYTES_MIN


@pytest.mark.parametrize(
    ("datagram", "shortest"),
    [
        (encode_initiation(INITIATION, STATIC), INITIATION_BYTES_MIN),
        (
            encode_response(RESPONSE, STATIC, INITIATION_BYTES_MIN),
            RESPONSE_OVERHEAD_BYTES,
        ),
        (encode_completion(COMPLETION, STATIC), RESPONSE_OVERHEAD_BYTES),
        (encode_cookie_reply(COOKIE_REPLY), COOKIE_REPLY_BYTES),
    ],
    ids=["hs1", "hs2", "hs3", "cookie"],
)
def test_every_truncation_is_refused(datagram: bytes, shortest: int) -> None:
    for length in range(len(datagram)):
        truncated = datagram[:length]
        if length < shortest:
            with pytest.raises(WireError):
                decode(truncated)
        else:
            decode(truncated)
            with pytest.raises(WireError):
                verify_mac1(truncated, STATIC)


def receive(datagram: bytes) -> HandshakeDatagram:
    """Read a datagram as a responder does."""
    message = decode(datagram)
    verify_mac1(datagram, STATIC)
    return message


@pytest.mark.parametrize(
    ("datagram", "protected"),
    [
        (encode_initiation(INITIATION, STATIC, cookie=COOKIE), 512 - 16),
        (encode_response(RESPONSE, STATIC, INITIATION_BYTES_MIN), 73),
        (encode_completion(COMPLETION, STATIC), 89),
    ],
    ids=["hs1", "hs2", "hs3"],
)
def test_every_flipped_bit_up_to_mac1_is_noticed(
    datagram: bytes, protected: int
) -> None:
    for bit in range(8 * protected):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            receive(bytes(flipped))


def test_mac1_is_for_one_responder() -> None:
    datagram = encode_initiation(INITIATION, STATIC)
    verify_mac1(datagram, STATIC)
    for other in (bytes(range(32)), None):
        with pytest.raises(WireError, match="mac1"):
            verify_mac1(datagram, other)


def test_mac1_does_not_depend_on_the_cookie() -> None:
    plain = encode_initiation(INITIATION, STATIC)
    with_cookie = encode_initiation(INITIATION, STATIC, cookie=COOKIE)
    assert mac1_of(plain) == mac1_of(with_cookie) == plain[-32:-16]
    assert plain[-16:] == bytes(16) != with_cookie[-16:]


@pytest.mark.parametrize(
    ("offset", "value"),
    [(1, 0), (1, 2), (2, 0), (2, 4), (8, 0xFF)],
    ids=["version 0", "version 2", "pattern 0", "pattern 4", "noise too long"],
)
def test_a_first_message_unlike_ours_is_refused(offset: int, value: int) -> None:
    datagram = bytearray(encode_initiation(INITIATION, STATIC))
    datagram[offset] = value
    with pytest.raises(WireError):
        decode(bytes(datagram))


def test_a_first_message_longer_than_any_of_ours_is_refused() -> None:
    datagram = encode_initiation(INITIATION, STATIC, size=INITIATION_BYTES_MAX)
    with pytest.raises(WireError):
        decode(datagram + b"\0")


def test_padding_is_not_looked_at() -> None:
    datagram = bytearray(encode_initiation(INITIATION, STATIC))
    datagram[9 + 96] = 1
    assert decode(bytes(datagram)) == INITIATION


def test_what_follows_a_cookie_reply_is_ignored() -> None:
    assert decode(encode_cookie_reply(COOKIE_REPLY) + b"more") == COOKIE_REPLY


@given(
    first=st.sampled_from([b"", b"\x04", b"\x04\x01\x01", b"\x05", b"\x06", b"\x0b"]),
    garbage=st.binary(max_size=700),
    zeros=st.sampled_from([0, 600]),
)
def test_garbage_is_refused_or_has_the_form_of_a_message(
    first: bytes, garbage: bytes, zeros: int
) -> None:
    datagram = first + garbage + bytes(zeros)
    try:
        message = decode(datagram)
    except WireError:
        return
    assert datagram[0] in (0x04, 0x05, 0x06, 0x0B)
    if not isinstance(message, CookieReply):
        with pytest.raises(WireError):
            verify_mac1(datagram, STATIC)


@given(first=st.integers(0, 255).filter(lambda first: first not in (4, 5, 6, 11)))
def test_another_first_byte_is_no_handshake(first: int) -> None:
    with pytest.raises(WireError, match="first byte"):
        decode(bytes((first,)) + bytes(600))


@pytest.mark.parametrize("pattern", [Pattern.IK, Pattern.NK], ids=lambda p: p.name)
def test_a_whole_handshake_fits_its_datagrams(pattern: Pattern) -> None:
    initiator, responder = open_handshake(pattern)
    first = encode_initiation(
        Initiation(pattern, 1, initiator.write_message(encode_payload(OPENING))), STATIC
    )
    initiation = decode(first)
    assert isinstance(initiation, Initiation)
    assert decode_opening(responder.read_message(initiation.noise)) == OPENING
    noise = responder.write_message(encode_payload(REPLY))
    second = encode_response(Response(2, 1, noise), STATIC, len(first))
    response = decode(second)
    assert isinstance(response, Response)
    assert decode_reply(initiator.read_message(response.noise)) == REPLY
    assert initiator.hash == responder.hash


@given(
    now=st.floats(0, 2**40),
    features=st.integers(0, 2**64 - 1),
    request=st.none() | st.binary(max_size=900),
)
def test_payloads_are_read_back(
    now: float, features: int, request: bytes | None
) -> None:
    opening = Opening(tai64n.encode(now), features, request)
    assert decode_opening(encode_payload(opening)) == opening
    reply = Reply(features, request)
    assert decode_reply(encode_payload(reply)) == reply


def test_fields_that_later_versions_append_are_ignored() -> None:
    opening = msgspec.msgpack.encode([OPENING.timestamp, 5, b"request", "new"])
    assert decode_opening(opening) == OPENING
    assert decode_reply(msgspec.msgpack.encode([5, b"response", {}])) == REPLY


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [OPENING.timestamp],
        [OPENING.timestamp, -1],
        [OPENING.timestamp, True],
        [OPENING.timestamp, 1.0],
        [OPENING.timestamp, 1, "text"],
        [OPENING.timestamp[:11], 1],
        [bytes(12), 1],
        {"timestamp": OPENING.timestamp, "features": 1},
        None,
    ],
    ids=repr,
)
def test_an_opening_of_another_shape_is_refused(fields: object) -> None:
    with pytest.raises(WireError):
        decode_opening(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("fields", [[], [-1], [1, 2], [None], 7], ids=repr)
def test_a_reply_of_another_shape_is_refused(fields: object) -> None:
    with pytest.raises(WireError):
        decode_reply(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize("payload", [encode_payload(OPENING), encode_payload(REPLY)])
def test_every_truncated_payload_is_refused(payload: bytes) -> None:
    for length in range(len(payload)):
        with pytest.raises(WireError):
            decode_opening(payload[:length])
        with pytest.raises(WireError):
            decode_reply(payload[:length])


@given(payload=st.binary(max_size=100))
def test_a_garbage_payload_raises_nothing_else(payload: bytes) -> None:
    for mangled in (payload, b"\x91" * 2_000 + payload, b"\xd9\x04" + payload):
        for read in (decode_opening, decode_reply):
            try:
                read(mangled)
            except WireError:
                continue


def test_networks_have_different_prologues() -> None:
    assert prologue(bytes(range(8))) == b"koe/1" + bytes(range(8))
    assert network_id("koe") != network_id("koe2")
    with pytest.raises(ValueError, match="expected 8"):
        prologue(bytes(7))
