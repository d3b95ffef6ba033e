"""What nodes say to each other: frozen bytes, round trips, truncations, garbage."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.address import Address
from nat.errors import WireError
from overlay.envelope import (
    ENVELOPE_BYTES_MAX,
    Envelope,
    EnvelopeKind,
    decode_envelope,
    encode_envelope,
)
from overlay.messages import (
    PAYLOAD_BYTES_MAX,
    Announce,
    Answer,
    Body,
    Busy,
    Contact,
    Deliver,
    Done,
    GetSupernodes,
    Goodbye,
    Introduce,
    Joined,
    JoinRelay,
    LeaveRelay,
    LookUp,
    NotFound,
    Notice,
    Ping,
    Pong,
    Referral,
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
    decode_answer,
    decode_notice,
    decode_request,
    encode_body,
)
from tests.golden import read_golden

KEY = bytes(range(8))
CHANNEL = bytes(range(8, 16))
INTRODUCTION = bytes(range(16))
IDENTITY = bytes(range(32))
CONTACT = Contact.of(Address("192.0.2.1", 7000), bytes(range(32, 64)))
CONTACT_IPV6 = Contact.of(Address("2001:db8::1", 7001), bytes(range(64, 96)))
OBSERVED = Address("198.51.100.7", 40_000).pack()

REQUESTS: dict[str, Request] = {
    "ping": Ping(),
    "get_supernodes": GetSupernodes(KEY),
    "announce": Announce((b"descriptor 1", b"descriptor 2")),
    "register": Register(b"presence", b"claim", publish=True),
    "store": Store((b"claim", b"presence")),
    "look_up": LookUp(KEY),
    "introduce": Introduce(INTRODUCTION, IDENTITY, b"payload"),
    "deliver": Deliver(INTRODUCTION, b"payload"),
    "join_relay": JoinRelay(CHANNEL),
}
ANSWERS: dict[str, Answer] = {
    "pong": Pong(OBSERVED, 0.5, 0.25, at_home=True),
    "supernodes": Supernodes((b"descriptor 1", b"descriptor 2"), KEY, 12),
    "supernodes_last_page": Supernodes((), b"", 12),
    "done": Done(),
    "registered": Registered(900.0, 5, 8, OBSERVED),
    "stored": Stored(2),
    "value": Value((b"claim", b"presence")),
    "referral": Referral((CONTACT, CONTACT_IPV6)),
    "not_found": NotFound((CONTACT,)),
    "joined": Joined(paired=True),
    "busy": Busy(7.5, (CONTACT,)),
    "refused": Refused(Refusal.NOT_A_SUPERNODE),
}
NOTICES: dict[str, Notice] = {
    "signal": Signal(INTRODUCTION, b"payload"),
    "leave_relay": LeaveRelay(CHANNEL),
    "goodbye": Goodbye(),
}
BODIES: dict[str, Body] = REQUESTS | ANSWERS | NOTICES
ENVELOPE = Envelope(EnvelopeKind.ANSWER, 0x01020304, b"\x91\x06")
GOLDEN = read_golden("messages.txt")
DECODERS: tuple[Callable[[bytes], Body], ...] = (
    decode_request,
    decode_answer,
    decode_notice,
)


def decoder_of(name: str) -> Callable[[bytes], Body]:
    """Give the decoder that must know this body."""
    if name in REQUESTS:
        return decode_request
    return decode_answer if name in ANSWERS else decode_notice


def test_every_kind_of_body_is_frozen() -> None:
    for kinds, samples in ((Request, REQUESTS), (Answer, ANSWERS), (Notice, NOTICES)):
        assert {type(sample) for sample in samples.values()} == set(get_args(kinds))


def test_messages_are_the_frozen_bytes() -> None:
    written = {name: encode_body(body) for name, body in BODIES.items()}
    written["envelope"] = encode_envelope(ENVELOPE)
    assert written == GOLDEN


@pytest.mark.parametrize("name", BODIES)
def test_a_body_reads_back_as_it_was_written(name: str) -> None:
    assert decoder_of(name)(GOLDEN[name]) == BODIES[name]


@pytest.mark.parametrize("name", BODIES)
def test_only_the_decoder_of_its_own_kind_knows_a_body(name: str) -> None:
    for decode in DECODERS:
        if decode is not decoder_of(name):
            with pytest.raises(WireError):
                decode(GOLDEN[name])


@pytest.mark.parametrize("name", BODIES)
def test_no_truncation_of_a_body_is_one(name: str) -> None:
    for length in range(len(GOLDEN[name])):
        with pytest.raises(WireError):
            decoder_of(name)(GOLDEN[name][:length])


@pytest.mark.parametrize("name", BODIES)
def test_fields_that_a_later_version_appends_are_ignored(name: str) -> None:
    fields = msgspec.msgpack.decode(GOLDEN[name])
    longer = msgspec.msgpack.encode([*fields, {"later": 1}, b"more"])
    assert decoder_of(name)(longer) == BODIES[name]


@pytest.mark.parametrize("decode", DECODERS)
def test_an_unknown_tag_is_refused(decode: Callable[[bytes], Body]) -> None:
    with pytest.raises(WireError, match="no body"):
        decode(msgspec.msgpack.encode([99]))


@given(st.sampled_from(DECODERS), st.binary(max_size=ENVELOPE_BYTES_MAX))
def test_garbage_raises_nothing_but_wire_error(
    decode: Callable[[bytes], Body], garbage: bytes
) -> None:
    try:
        body = decode(garbage)
    except WireError:
        return
    assert decode(encode_body(body)) == body


@given(st.sampled_from(sorted(BODIES)), st.data())
def test_a_body_with_wrong_bytes_raises_nothing_but_wire_error(
    name: str, data: st.DataObject
) -> None:
    damaged = bytearray(GOLDEN[name])
    for _ in range(data.draw(st.integers(1, 4))):
        offset = data.draw(st.integers(0, len(damaged) - 1))
        damaged[offset] = data.draw(st.integers(0, 255))
    try:
        body = decoder_of(name)(bytes(damaged))
    except WireError:
        return
    assert decoder_of(name)(encode_body(body)) == body


@pytest.mark.parametrize(
    "body",
    [
        GetSupernodes(bytes(7)),
        LookUp(bytes(9)),
        JoinRelay(b""),
        Announce((b"",) * 7),
        Store((bytes(421),)),
        Introduce(bytes(15), IDENTITY, b""),
        Introduce(INTRODUCTION, bytes(31), b""),
        Introduce(INTRODUCTION, IDENTITY, bytes(PAYLOAD_BYTES_MAX + 1)),
        Deliver(INTRODUCTION, bytes(PAYLOAD_BYTES_MAX + 1)),
    ],
    ids=lambda body: type(body).__name__,
)
def test_a_request_beyond_its_limits_is_refused(body: Request) -> None:
    with pytest.raises(WireError):
        decode_request(encode_body(body))


@pytest.mark.parametrize(
    "body",
    [
        Pong(bytes(5), 0, 0),
        Pong(OBSERVED, -1, 0),
        Pong(OBSERVED, 0, float("nan")),
        Supernodes((), bytes(9), 0),
        Stored(-1),
        Referral((CONTACT,) * 9),
        NotFound((Contact(OBSERVED, bytes(31)),)),
        Busy(86_401, ()),
        Refused(256),
    ],
    ids=lambda body: type(body).__name__,
)
def test_an_answer_beyond_its_limits_is_refused(body: Answer) -> None:
    with pytest.raises(WireError):
        decode_answer(encode_body(body))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(WireError):
        decode_request(b"\x91" * 1_100)


def test_text_that_is_none_is_refused() -> None:
    with pytest.raises(WireError):
        decode_request(b"\x92\x03\xa8" + b"\xff" * 8)


def test_a_contact_with_an_address_of_no_family_is_noticed_when_it_is_used() -> None:
    with pytest.raises(WireError):
        _ = Contact(bytes(7), bytes(32)).address
    assert CONTACT_IPV6.address == Address("2001:db8::1", 7001)


def test_the_longest_introduction_fits_its_envelope() -> None:
    longest = Introduce(INTRODUCTION, IDENTITY, bytes(PAYLOAD_BYTES_MAX))
    envelope = Envelope(EnvelopeKind.REQUEST, 2**32 - 1, encode_body(longest))
    assert len(encode_envelope(envelope)) <= ENVELOPE_BYTES_MAX


@given(
    st.sampled_from(EnvelopeKind),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=ENVELOPE_BYTES_MAX),
)
def test_an_envelope_reads_back_as_it_was_written(
    kind: EnvelopeKind, number: int, body: bytes
) -> None:
    envelope = Envelope(kind, number, body)
    assert decode_envelope(encode_envelope(envelope)) == envelope


@pytest.mark.parametrize("length", range(5))
def test_an_envelope_without_its_whole_header_is_refused(length: int) -> None:
    with pytest.raises(WireError, match="bytes, expected 5"):
        decode_envelope(bytes(length))


@given(st.integers(3, 255), st.binary(min_size=4, max_size=40))
def test_an_envelope_of_an_unknown_kind_is_refused(kind: int, rest: bytes) -> None:
    with pytest.raises(WireError, match="of kind"):
        decode_envelope(bytes((kind,)) + rest)
