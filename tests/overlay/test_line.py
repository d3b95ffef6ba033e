"""The sealed line between the two ends of a call."""

from __future__ import annotations

import itertools
import random

import pytest

from nat.errors import WireError
from overlay import handshake
from overlay.call_messages import Opening, Reply, encode_opening, encode_reply
from overlay.dial import Local
from overlay.exchange import RequestReceived
from overlay.line import Line, Opened
from overlay.noise import Handshake, KeyPair, Pattern, derive

NOW = 1_700_000_000.0
RELAY = bytes(range(32))


def local(seed: int) -> Local:
    rng = random.Random(seed)
    indexes = itertools.count(seed * 100)
    return Local(
        KeyPair(rng.randbytes(32)), b"test", rng.randbytes, lambda: next(indexes)
    )


CALLER, CALLEE = local(1), local(2)


def lines() -> tuple[Line, Line]:
    """Give both halves of a line that is agreed on, but not yet used."""
    caller, opening = Line.call(CALLER, CALLEE.static.public, b"offer", NOW)
    opened = Opened(CALLEE, opening)
    callee = opened.line(CALLEE)
    assert caller.receive_reply(callee.reply(opened, b"ringing")) == b"ringing"
    return caller, callee


def carry(source: Line, target: Line) -> int:
    datagrams = source.messages_to_send()
    for datagram in datagrams:
        target.receive(datagram, NOW)
    return len(datagrams)


def test_the_callee_learns_who_calls_and_with_what_offer() -> None:
    _, opening = Line.call(CALLER, CALLEE.static.public, b"offer", NOW)
    opened = Opened(CALLEE, opening)
    assert opened.their_static == CALLER.static.public
    assert opened.offer == b"offer"


def test_both_halves_name_the_same_channels_and_each_other() -> None:
    caller, callee = lines()
    assert caller.channel(RELAY) == callee.channel(RELAY)
    assert caller.channel(RELAY) != caller.channel(bytes(32))
    ours, theirs = caller.credentials(), callee.credentials()
    assert ours.our_fragment == theirs.their_fragment
    assert ours.our_password == theirs.their_password
    assert ours.their_fragment == theirs.our_fragment
    assert ours.their_password == theirs.our_password
    assert ours.our_password != ours.their_password


def test_two_calls_between_the_same_two_share_nothing() -> None:
    first, _ = lines()
    second, _ = lines()
    assert first.channel(RELAY) != second.channel(RELAY)
    assert first.credentials() != second.credentials()


def test_who_carried_the_handshake_cannot_name_the_channel() -> None:
    caller, _ = lines()
    known = caller._handshake.hash  # whoever saw both messages can compute it
    assert derive(known, b"relay channel" + RELAY, 8) != caller.channel(RELAY)


def test_the_callee_says_nothing_before_the_caller_has_shown_its_keys() -> None:
    caller, callee = lines()
    callee.exchange.request(b"hello", NOW)
    assert callee.messages_to_send() == []
    assert callee.seal_media(b"voice") is None
    callee.receive(caller.confirm(), NOW)
    assert callee.confirmed
    assert carry(callee, caller) >= 1
    (event,) = caller.exchange.events()
    assert isinstance(event, RequestReceived)
    assert callee.seal_media(b"voice") is not None


def test_voice_and_words_come_through() -> None:
    caller, callee = lines()
    voice = caller.seal_media(b"voice")
    assert voice is not None
    callee.receive(voice, NOW)
    assert callee.media_received() == [b"voice"]
    assert callee.media_received() == []
    counts = callee.statistics()
    assert counts is not None
    assert counts.opened == 1


def test_before_the_reply_there_are_no_keys() -> None:
    caller, _ = Line.call(CALLER, CALLEE.static.public, b"offer", NOW)
    assert not caller.open
    assert caller.seal_media(b"voice") is None
    assert caller.messages_to_send() == []
    assert caller.statistics() is None
    with pytest.raises(WireError):
        caller.receive(b"\x07" + bytes(60), NOW)


def test_only_one_reply_counts_and_only_the_right_one() -> None:
    caller, opening = Line.call(CALLER, CALLEE.static.public, b"offer", NOW)
    opened = Opened(CALLEE, opening)
    callee = opened.line(CALLEE)
    reply = callee.reply(opened, b"ringing")
    for wrong in (b"", reply[:-1], reply[:5] + b"\xff" * 4 + reply[9:], opening):
        with pytest.raises(WireError):
            caller.receive_reply(wrong)
    assert caller.receive_reply(reply) == b"ringing"
    with pytest.raises(WireError):
        caller.receive_reply(reply)


def test_a_reply_with_nonsense_inside_ends_nothing_but_itself() -> None:
    caller, opening = Line.call(CALLER, CALLEE.static.public, b"offer", NOW)
    opened = Opened(CALLEE, opening)
    noise = opened._handshake.write_message(b"\xff nonsense")
    for _ in range(2):
        with pytest.raises(WireError):
            caller.receive_reply(encode_reply(Reply(5, caller.index, noise)))
    assert not caller.open


@pytest.mark.parametrize(
    "inside",
    [
        b"",
        b"\xff",
        handshake.encode_payload(handshake.Opening(bytes(12), 0, b"offer")),
        handshake.encode_payload(handshake.Reply(0, b"offer")),
    ],
    ids=["empty", "garbage", "no time", "no opening"],
)
def test_an_opening_with_nonsense_inside_is_none(inside: bytes) -> None:
    ours = Handshake(
        Pattern.IK,
        initiator=True,
        prologue=CALLER.prologue,
        ephemeral=bytes(range(32)),
        static=CALLER.static,
        remote_static=CALLEE.static.public,
    )
    opening = encode_opening(Opening(1, ours.write_message(inside)))
    with pytest.raises(WireError):
        Opened(CALLEE, opening)


def test_an_opening_for_somebody_else_or_of_another_network_is_none() -> None:
    _, opening = Line.call(CALLER, CALLER.static.public, b"offer", NOW)
    with pytest.raises(WireError):
        Opened(CALLEE, opening)
    _, opening = Line.call(CALLER, CALLEE.static.public, b"offer", NOW)
    other = Local(
        CALLEE.static, b"other network", CALLEE.random_bytes, CALLEE.take_index
    )
    with pytest.raises(WireError):
        Opened(other, opening)
