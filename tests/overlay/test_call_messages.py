"""What the ends of a call say: frozen bytes, round trips, truncations, garbage."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.address import Address
from nat.errors import WireError
from overlay.call_messages import (
    Accept,
    CallBody,
    CallReply,
    CallRequest,
    Candidates,
    EndReason,
    HangUp,
    Offer,
    OfferedRelay,
    Opening,
    Purpose,
    Refuse,
    Reply,
    Ringing,
    Taken,
    UseRelays,
    decode_call_answer,
    decode_call_reply,
    decode_call_request,
    decode_offer,
    decode_opening,
    decode_reply,
    encode_call_body,
    encode_opening,
    encode_reply,
    end_reason,
)
from overlay.messages import Contact
from tests.golden import read_golden

CONTACT = Contact.of(Address("192.0.2.1", 7000), bytes(range(32, 64)))
HOST = "6b0a4c8e 1 udp 2130706431 192.0.2.7 41641 typ host"
REFLEXIVE = "3f2d1c0b 1 udp 1694498815 198.51.100.7 40000 typ srflx"

BODIES: dict[str, CallBody] = {
    "offer": Offer(b"presence", Purpose.VOICE, relay_only=False),
    "ringing": Ringing((OfferedRelay(CONTACT, 0.025),)),
    "refuse": Refuse(EndReason.REFUSED),
    "use_relays": UseRelays((CONTACT,)),
    "accept": Accept((HOST,)),
    "candidates": Candidates((HOST, REFLEXIVE)),
    "hang_up": HangUp(EndReason.HUNG_UP),
    "taken": Taken(),
}
OPENING = Opening(0x01020304, bytes(range(96)))
REPLY = Reply(0x0A0B0C0D, 0x01020304, bytes(range(48)))
GOLDEN = read_golden("call_messages.txt")

DECODERS: dict[Callable[[bytes], CallBody], tuple[type, ...]] = {
    decode_offer: (Offer,),
    decode_call_reply: get_args(CallReply),
    decode_call_request: get_args(CallRequest),
    decode_call_answer: (Taken,),
}


@pytest.mark.parametrize("name", BODIES)
def test_every_decoder_knows_what_it_must_and_nothing_else(name: str) -> None:
    for decode, kinds in DECODERS.items():
        if isinstance(BODIES[name], kinds):
            assert decode(GOLDEN[name]) == BODIES[name]
        else:
            with pytest.raises(WireError):
                decode(GOLDEN[name])


def test_messages_are_the_frozen_bytes() -> None:
    written = {name: encode_call_body(body) for name, body in BODIES.items()}
    written["call_opening"] = encode_opening(OPENING)
    written["call_reply"] = encode_reply(REPLY)
    assert written == GOLDEN


def test_opening_and_reply_read_back_as_they_were_written() -> None:
    assert decode_opening(GOLDEN["call_opening"]) == OPENING
    assert decode_reply(GOLDEN["call_reply"]) == REPLY


@pytest.mark.parametrize("name", BODIES)
def test_no_truncation_of_a_body_is_one(name: str) -> None:
    for decode in DECODERS:
        for length in range(len(GOLDEN[name])):
            with pytest.raises(WireError):
                decode(GOLDEN[name][:length])


@pytest.mark.parametrize("length", range(9))
def test_a_header_cut_short_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        decode_reply(GOLDEN["call_reply"][:length])
    if length < 6:
        with pytest.raises(WireError):
            decode_opening(GOLDEN["call_opening"][:length])


def test_an_opening_of_another_version_is_refused() -> None:
    with pytest.raises(WireError):
        decode_opening(b"\x04\x02" + GOLDEN["call_opening"][2:])


@pytest.mark.parametrize("name", BODIES)
def test_fields_that_a_later_version_appends_are_ignored(name: str) -> None:
    fields = msgspec.msgpack.decode(GOLDEN[name])
    longer = msgspec.msgpack.encode([*fields, {"later": 1}])
    for decode, kinds in DECODERS.items():
        if isinstance(BODIES[name], kinds):
            assert decode(longer) == BODIES[name]


@pytest.mark.parametrize(
    "body",
    [
        UseRelays((CONTACT,) * 4),
        Accept((HOST,) * 9),
        Candidates(("x" * 121,)),
        HangUp(256),
        Refuse(-1),
    ],
    ids=lambda body: type(body).__name__,
)
def test_a_request_beyond_its_limits_is_refused(body: CallRequest) -> None:
    with pytest.raises(WireError):
        decode_call_request(encode_call_body(body))


@pytest.mark.parametrize("rtt_s", [-1.0, float("nan"), 86_401.0])
def test_an_offered_relay_at_an_impossible_distance_is_refused(rtt_s: float) -> None:
    with pytest.raises(WireError):
        decode_call_reply(encode_call_body(Ringing((OfferedRelay(CONTACT, rtt_s),))))


@given(st.sampled_from(list(DECODERS)), st.binary(max_size=1_000))
def test_garbage_raises_nothing_but_wire_error(
    decode: Callable[[bytes], CallBody], garbage: bytes
) -> None:
    try:
        body = decode(garbage)
    except WireError:
        return
    assert decode(encode_call_body(body)) == body


def test_an_end_for_a_reason_we_do_not_know_is_a_failure() -> None:
    assert end_reason(3) is EndReason.BUSY
    assert end_reason(99) is EndReason.FAILED
