"""The relay: whom it serves, what it forwards, what it refuses and counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nat.address import Address
from nat.errors import WireError
from nat.relay import (
    Drop,
    Forward,
    JoinResult,
    Relay,
    RelayLimits,
    decode_relayed,
    encode_relayed,
)
from tests.golden import read_golden

NOW = 1_700_000_000.0
CHANNEL = b"channel1"
ALICE, BOB, CAROL = b"a" * 32, b"b" * 32, b"c" * 32
AT_ALICE = Address("192.0.2.1", 1_000)
AT_BOB = Address("192.0.2.2", 2_000)
AT_CAROL = Address("192.0.2.3", 3_000)
VOICE = encode_relayed(CHANNEL, b"\x08voice")


def paired(limits: RelayLimits | None = None) -> Relay:
    relay = Relay(limits)
    assert relay.join(CHANNEL, ALICE, AT_ALICE, NOW) is JoinResult.JOINED_FIRST
    assert relay.join(CHANNEL, BOB, AT_BOB, NOW) is JoinResult.JOINED_SECOND
    return relay


def channel(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_the_frame_has_its_frozen_bytes() -> None:
    golden = read_golden("relay.txt")["relayed"]
    assert golden == VOICE
    assert decode_relayed(golden) == (CHANNEL, b"\x08voice")


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=1, max_size=1_191))
def test_what_is_framed_unframes_to_itself(channel: bytes, inner: bytes) -> None:
    assert decode_relayed(encode_relayed(channel, inner)) == (channel, inner)


@pytest.mark.parametrize("length", [0, 1, 8, 9, 1_201])
def test_a_frame_without_content_or_too_long_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        decode_relayed(b"\x09" * length)


@given(st.binary(max_size=40))
def test_garbage_raises_nothing_but_wire_error(garbage: bytes) -> None:
    try:
        channel, inner = decode_relayed(garbage)
    except WireError:
        return
    assert encode_relayed(channel, inner) == garbage


@pytest.mark.parametrize("wrong", [b"", b"7 bytes", b"9 bytes.."])
def test_a_channel_of_another_length_is_a_callers_error(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="8"):
        encode_relayed(wrong, b"x")
    with pytest.raises(ValueError, match="8"):
        Relay().join(wrong, ALICE, AT_ALICE, NOW)


def test_what_comes_from_one_leg_goes_unchanged_to_the_other() -> None:
    relay = paired()
    assert relay.forward(VOICE, AT_ALICE, NOW) == Forward(AT_BOB, VOICE)
    assert relay.forward(VOICE, AT_BOB, NOW) == Forward(AT_ALICE, VOICE)


def test_the_relays_own_node_may_be_a_member() -> None:
    relay = Relay()
    relay.join(CHANNEL, ALICE, AT_ALICE, NOW)
    assert relay.join(CHANNEL, BOB, None, NOW) is JoinResult.JOINED_SECOND
    assert relay.forward(VOICE, AT_ALICE, NOW) == Forward(None, VOICE)
    assert relay.forward_local(VOICE, NOW) == Forward(AT_ALICE, VOICE)


@pytest.mark.parametrize(
    ("datagram", "source", "why"),
    [
        (VOICE[:9], AT_ALICE, Drop.MALFORMED),
        (b"\x08" + VOICE[1:], AT_ALICE, Drop.MALFORMED),
        (encode_relayed(b"channel2", b"x"), AT_ALICE, Drop.UNKNOWN_CHANNEL),
        (VOICE, AT_CAROL, Drop.WRONG_SOURCE),
        (VOICE, Address(AT_ALICE.host, 1_001), Drop.WRONG_SOURCE),
    ],
)
def test_everything_else_is_dropped_and_counted(
    datagram: bytes, source: Address, why: Drop
) -> None:
    relay = paired()
    assert relay.forward(datagram, source, NOW) is None
    dropped = relay.statistics().dropped
    assert dropped == {drop: int(drop is why) for drop in Drop}


def test_nothing_is_forwarded_until_both_have_joined() -> None:
    relay = Relay()
    relay.join(CHANNEL, ALICE, AT_ALICE, NOW)
    assert relay.forward(VOICE, AT_ALICE, NOW) is None
    assert relay.statistics().dropped[Drop.UNPAIRED] == 1


def test_the_own_node_does_not_forward_into_channels_of_others() -> None:
    relay = paired()
    assert relay.forward_local(VOICE, NOW) is None
    assert relay.statistics().dropped[Drop.WRONG_SOURCE] == 1


def test_a_third_member_is_refused() -> None:
    relay = paired()
    assert relay.join(CHANNEL, CAROL, AT_CAROL, NOW) is JoinResult.REFUSED_TAKEN
    assert relay.forward(VOICE, AT_CAROL, NOW) is None
    assert relay.statistics().refused[JoinResult.REFUSED_TAKEN] == 1


@pytest.mark.parametrize("address", [AT_ALICE, None])
def test_two_legs_are_never_at_the_same_address(address: Address | None) -> None:
    relay = Relay()
    relay.join(CHANNEL, ALICE, address, NOW)
    assert relay.join(CHANNEL, BOB, address, NOW) is JoinResult.REFUSED_TAKEN


def test_joining_again_renews_the_address_and_is_no_second_channel() -> None:
    relay = paired()
    for port in range(5):
        moved = Address("192.0.2.9", port)
        assert relay.join(CHANNEL, ALICE, moved, NOW) is JoinResult.JOINED_SECOND
    assert relay.forward(VOICE, AT_BOB, NOW) == Forward(moved, VOICE)
    assert relay.forward(VOICE, AT_ALICE, NOW) is None


def test_a_member_that_moved_is_served_at_its_new_address_only() -> None:
    relay = paired()
    relay.member_moved(ALICE, AT_CAROL)
    assert relay.forward(VOICE, AT_BOB, NOW) == Forward(AT_CAROL, VOICE)
    assert relay.forward(VOICE, AT_ALICE, NOW) is None


def test_a_member_cannot_move_onto_the_other_one() -> None:
    relay = paired()
    relay.member_moved(ALICE, AT_BOB)
    assert relay.forward(VOICE, AT_BOB, NOW) == Forward(AT_ALICE, VOICE)


def test_a_member_that_left_gets_nothing_and_a_channel_without_members_is_gone() -> (
    None
):
    relay = paired()
    relay.leave(CHANNEL, ALICE, NOW)
    assert relay.forward(VOICE, AT_BOB, NOW) is None
    assert relay.statistics().dropped[Drop.UNPAIRED] == 1
    relay.leave(CHANNEL, BOB, NOW)
    relay.leave(CHANNEL, BOB, NOW)
    assert relay.channels() == ()


def test_a_member_whose_session_ended_leaves_all_its_channels() -> None:
    relay = paired()
    relay.join(b"channel2", ALICE, AT_ALICE, NOW)
    relay.drop_member(ALICE, NOW)
    assert [each.members for each in relay.channels()] == [(BOB,)]


def test_a_full_relay_refuses_new_channels_and_keeps_the_old_ones() -> None:
    relay = Relay(RelayLimits(calls_max=2))
    assert relay.load() == 0
    for number in range(3):
        host = Address(f"192.0.2.{number}", 1)
        result = relay.join(channel(number), bytes([number]) * 32, host, NOW)
    assert result is JoinResult.REFUSED_FULL
    assert relay.load() == 1
    assert relay.join(channel(0), BOB, AT_BOB, NOW) is JoinResult.JOINED_SECOND


def test_a_member_has_sixteen_channels_at_most() -> None:
    relay = Relay()
    results = [relay.join(channel(n), ALICE, AT_ALICE, NOW) for n in range(17)]
    assert results[15:] == [JoinResult.JOINED_FIRST, JoinResult.REFUSED_LIMIT]
    relay.leave(channel(0), ALICE, NOW)
    assert relay.join(channel(17), ALICE, AT_ALICE, NOW) is JoinResult.JOINED_FIRST


def test_a_host_has_so_many_channels_at_most_whatever_its_ports_and_keys() -> None:
    relay = Relay(RelayLimits(channels_per_host_max=8))
    results = [
        relay.join(channel(n), bytes([n]) * 32, Address("192.0.2.1", 1_000 + n), NOW)
        for n in range(9)
    ]
    assert results.count(JoinResult.JOINED_FIRST) == 8
    assert results[8] is JoinResult.REFUSED_LIMIT


def test_the_own_node_is_not_limited() -> None:
    relay = Relay()
    results = {relay.join(channel(n), ALICE, None, NOW) for n in range(9)}
    assert results == {JoinResult.JOINED_FIRST}


def test_each_direction_has_a_burst_of_16_kb_and_then_64_kbit_s() -> None:
    relay = paired()
    frame = encode_relayed(CHANNEL, bytes(991))
    sent = [relay.forward(frame, AT_ALICE, NOW) for _ in range(20)]
    assert sum(each is not None for each in sent) == 16
    assert relay.statistics().dropped[Drop.OVER_RATE] == 4
    assert relay.forward(frame, AT_BOB, NOW) is not None
    later = [relay.forward(frame, AT_ALICE, NOW + 1) for _ in range(20)]
    assert sum(each is not None for each in later) == 8


def test_voice_of_32_kbit_s_stays_far_below_the_rate() -> None:
    relay = paired()
    frame = encode_relayed(CHANNEL, bytes(80 + 29))
    for number in range(50 * 60):
        assert relay.forward(frame, AT_ALICE, NOW + number * 0.02) is not None


def test_a_channel_expires_60_s_after_its_last_forwarded_datagram() -> None:
    relay = paired()
    relay.forward(VOICE, AT_ALICE, NOW + 50)
    relay.forward(VOICE, AT_CAROL, NOW + 100)
    assert relay.next_timeout() == NOW + 110
    relay.handle_timeout(NOW + 109.9)
    assert relay.channels()
    relay.handle_timeout(NOW + 110)
    assert not relay.channels()
    assert relay.next_timeout() == math.inf
    assert relay.statistics().expired == 1


def test_a_waiting_member_keeps_its_channel_by_joining_again() -> None:
    relay = Relay()
    relay.join(CHANNEL, ALICE, AT_ALICE, NOW)
    relay.join(CHANNEL, ALICE, AT_ALICE, NOW + 40)
    assert relay.next_timeout() == NOW + 100


def test_a_channel_ends_after_4_hours_however_busy() -> None:
    relay = paired()
    hours_4 = 4 * 3_600
    for at in range(0, hours_4, 50):
        relay.forward(VOICE, AT_ALICE, NOW + at)
        relay.handle_timeout(NOW + at)
    assert relay.channels()
    relay.handle_timeout(NOW + hours_4)
    assert not relay.channels()


MEMBERS = {bytes([n]) * 32: Address(f"192.0.2.{n % 3}", n) for n in range(6)}
members = st.sampled_from(sorted(MEMBERS))
channels = st.sampled_from([channel(n) for n in range(4)])
addresses = st.sampled_from([*MEMBERS.values(), Address("192.0.2.99", 9)])


class AnyOrder(RuleBasedStateMachine):
    """A model that only knows who has joined what, and where."""

    def __init__(self) -> None:
        super().__init__()
        self.relay = Relay(RelayLimits(calls_max=3, channels_per_host_max=3))
        self.now = NOW
        self.legs: dict[bytes, dict[bytes, Address | None]] = {}
        self.forwarded = 0

    @rule(channel=channels, member=members, local=st.booleans())
    def join(self, channel: bytes, member: bytes, local: bool) -> None:
        address = None if local else MEMBERS[member]
        result = self.relay.join(channel, member, address, self.now)
        if result in (JoinResult.JOINED_FIRST, JoinResult.JOINED_SECOND):
            legs = self.legs.setdefault(channel, {})
            legs[member] = address
            assert len(legs) == 1 + (result is JoinResult.JOINED_SECOND)

    @rule(channel=channels, member=members)
    def leave(self, channel: bytes, member: bytes) -> None:
        self.relay.leave(channel, member, self.now)
        self.legs.get(channel, {}).pop(member, None)

    @rule(member=members)
    def drop_member(self, member: bytes) -> None:
        self.relay.drop_member(member, self.now)
        for legs in self.legs.values():
            legs.pop(member, None)

    @rule(member=members, address=addresses)
    def move(self, member: bytes, address: Address) -> None:
        self.relay.member_moved(member, address)
        for legs in self.legs.values():
            if member in legs and address not in legs.values():
                legs[member] = address

    @rule(
        channel=channels,
        source=st.none() | addresses,
        size=st.integers(0, 1_200),
        kind=st.sampled_from([9, 9, 9, 8]),
    )
    def forward(
        self, channel: bytes, source: Address | None, size: int, kind: int
    ) -> None:
        datagram = bytes([kind]) + channel + bytes(size)
        if source is None:
            result = self.relay.forward_local(datagram, self.now)
        else:
            result = self.relay.forward(datagram, source, self.now)
        if result is not None:
            self.forwarded += 1
            assert result.datagram == datagram
            both = list(self.legs[channel].values())
            assert sorted(both, key=str) == sorted([source, result.target], key=str)

    @rule(duration_s=st.sampled_from([0.02, 1.0, 30.0, 60.0, 14_400.0]))
    def wait(self, duration_s: float) -> None:
        self.now += duration_s
        self.relay.handle_timeout(self.now)
        assert self.relay.next_timeout() > self.now
        open_still = {each.channel for each in self.relay.channels()}
        self.legs = {each: self.legs[each] for each in self.legs if each in open_still}

    @invariant()
    def the_counts_add_up(self) -> None:
        counts = self.relay.statistics()
        assert counts.forwarded == self.forwarded
        assert counts.received == counts.forwarded + sum(counts.dropped.values())

    @invariant()
    def the_limits_hold(self) -> None:
        reports = self.relay.channels()
        assert len(reports) <= 3
        assert self.relay.load() == len(reports) / 3
        known = {name: set(legs) for name, legs in self.legs.items() if legs}
        assert {each.channel: set(each.members) for each in reports} == known


AnyOrderTest = AnyOrder.TestCase
AnyOrderTest.settings = settings(deadline=None)


def test_leaving_and_joining_again_does_not_fill_the_bucket() -> None:
    relay = Relay()
    relay.join(channel(1), BOB, AT_BOB, NOW)
    carried = 0
    for _ in range(5):
        relay.join(channel(1), ALICE, AT_ALICE, NOW)
        for _ in range(40):
            datagram = encode_relayed(channel(1), bytes(1_000))
            carried += relay.forward(datagram, AT_ALICE, NOW) is not None
        relay.leave(channel(1), ALICE, NOW)
    assert carried <= 16
