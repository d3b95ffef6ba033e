"""The relay's data plane: two sessions, one channel between them.

A relay never sends to an address that somebody names. A *channel* has two *legs*, each
the address of a member's live session; what comes from one leg goes to the other,
unchanged, and everything else is dropped and counted. It cannot read what it forwards
(the inner datagrams are sealed end to end). The frame:

    offset 0   09
    offset 1   channel, 8 bytes that only its members can name
    offset 9   inner datagram, at least 1 byte; the whole at most 1,200

Nothing may be appended. The member whose address is None is the relay's own node: its
leg is reached by a function call instead of a socket.

Each direction of a channel has a token bucket; members, hosts, calls, idle time and age
are bounded by `RelayLimits`. Unlike other machines this one has no messages and no
events: `forward` says at once what to send, and a channel that expires is simply gone
(both ends notice within a second, and have another).
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nat.address import Address
from nat.errors import WireError

__all__ = [
    "CHANNEL_BYTES",
    "RELAYED_BYTES_MAX",
    "RELAY_KIND",
    "ChannelReport",
    "Drop",
    "Forward",
    "JoinResult",
    "Relay",
    "RelayLimits",
    "RelayStatistics",
    "decode_relayed",
    "encode_relayed",
]

RELAY_KIND: Final = 0x09
CHANNEL_BYTES: Final = 8
RELAYED_BYTES_MAX: Final = 1_200
# The largest datagram that crosses every network unfragmented.
LEFT_MAX: Final = 1_024
# Members that left whose bucket is remembered; each join request costs 100 bytes.

_HEADER_BYTES: Final = 1 + CHANNEL_BYTES
_LEGS_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What a relay gives away at most."""

    calls_max: int = 20
    # 2 Mbit/s in all, with voice of 32 kbit/s
    channels_per_member_max: int = 16
    # one a call; those that ended a moment ago and pings count, too
    channels_per_host_max: int = 32
    # a household behind one address
    rate_bytes_per_s: int = 8_000
    # a direction: 64 kbit/s, where voice of 32 kbit/s takes 48 with what is around it
    burst_bytes: int = 16_000
    # 2 s of it
    idle_s: float = 60.0
    # a warm path is checked each 2.5 s
    age_s: float = 4 * 3_600.0
    # longer calls join anew


class JoinResult(Enum):
    """What became of a request to join a channel."""

    JOINED_FIRST = "waiting for the other member"
    JOINED_SECOND = "paired: datagrams flow"
    REFUSED_FULL = "the relay carries as many calls as it may"
    REFUSED_TAKEN = "the channel has two other members, or one at the same address"
    REFUSED_LIMIT = "this member or host has as many channels as it may"


class Drop(Enum):
    """Why a datagram was not forwarded."""

    MALFORMED = "no relay frame"
    UNKNOWN_CHANNEL = "no such channel"
    WRONG_SOURCE = "the source is no leg of the channel"
    UNPAIRED = "the other member has not joined yet"
    OVER_RATE = "this direction used up its rate"


@dataclass(frozen=True, slots=True)
class Forward:
    """A datagram to send on; target None is the relay's own node."""

    target: Address | None
    datagram: bytes


@dataclass(frozen=True, slots=True)
class ChannelReport:
    """One channel as the user who runs the relay may see it."""

    channel: bytes
    members: tuple[bytes, ...]
    forwarded_bytes: int
    opened_at: float


@dataclass(frozen=True, slots=True)
class RelayStatistics:
    """Counts since the start: received = forwarded + the sum of dropped."""

    channels: int
    received: int
    forwarded: int
    forwarded_bytes: int
    dropped: dict[Drop, int]
    joined: int
    refused: dict[JoinResult, int]
    expired: int


def encode_relayed(channel: bytes, inner: bytes) -> bytes:
    """Give the frame that carries a datagram through a relay."""
    if len(channel) != CHANNEL_BYTES:
        raise ValueError(f"a channel of {len(channel)} bytes, expected {CHANNEL_BYTES}")
    return bytes((RELAY_KIND,)) + channel + inner


def decode_relayed(datagram: bytes) -> tuple[bytes, bytes]:
    """Give the channel and the inner datagram. Raises `WireError`."""
    if not _HEADER_BYTES < len(datagram) <= RELAYED_BYTES_MAX:
        raise WireError(f"a relay frame of {len(datagram)} bytes, expected 10..1,200")
    if datagram[0] != RELAY_KIND:
        raise WireError(f"kind {datagram[0]:#04x}, expected {RELAY_KIND:#04x}")
    return datagram[1:_HEADER_BYTES], datagram[_HEADER_BYTES:]


@dataclass(slots=True)
class _Leg:
    """One member's end of a channel, and what may still come in from it."""

    member: bytes
    address: Address | None
    tokens_bytes: float
    filled_at: float

    def take(self, size: int, limits: RelayLimits, now: float) -> bool:
        earned = (now - self.filled_at) * limits.rate_bytes_per_s
        self.tokens_bytes = min(self.tokens_bytes + earned, limits.burst_bytes)
        self.filled_at = now
        if size > self.tokens_bytes:
            return False
        self.tokens_bytes -= size
        return True


@dataclass(slots=True)
class _Channel:
    legs: list[_Leg]
    opened_at: float
    ends_at: float
    idle_at: float
    forwarded_bytes: int = 0

    def leg_of(self, member: bytes) -> _Leg | None:
        return next((leg for leg in self.legs if leg.member == member), None)

    def leg_at(self, address: Address | None) -> _Leg | None:
        return next((leg for leg in self.legs if leg.address == address), None)

    def expires_at(self) -> float:
        return min(self.idle_at, self.ends_at)


class Relay:
    """All channels of one relay; lives as long as its node is willing to relay."""

    def __init__(self, limits: RelayLimits | None = None) -> None:
        self._limits = limits if limits is not None else RelayLimits()
        self._channels: dict[bytes, _Channel] = {}
        self._left: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        self._received = 0
        self._forwarded = 0
        self._forwarded_bytes = 0
        self._joined = 0
        self._expired = 0
        self._dropped: Counter[Drop] = Counter()
        self._refused: Counter[JoinResult] = Counter()

    def join(
        self, channel: bytes, member: bytes, address: Address | None, now: float
    ) -> JoinResult:
        """Give a member its leg of a channel, which is opened if there is none.

        `member` is the static key of a session, `address` that session's
        address (None: our own node). Joining again is harmless: it renews the address
        and the idle time.
        """
        if len(channel) != CHANNEL_BYTES:
            raise ValueError(
                f"channel {channel.hex()!r}, expected {CHANNEL_BYTES} bytes"
            )
        refusal = self._refusal(channel, member, address)
        if refusal is not None:
            self._refused[refusal] += 1
            return refusal
        opened = self._channels.get(channel)
        if opened is None:
            opened = self._channels[channel] = _Channel(
                [], now, now + self._limits.age_s, now
            )
        opened.idle_at = now + self._limits.idle_s
        leg = opened.leg_of(member)
        if leg is not None:
            leg.address = address
        else:
            tokens_bytes, filled_at = self._left.pop(
                member, (self._limits.burst_bytes, now)
            )
            leg = _Leg(member, address, tokens_bytes, filled_at)
            opened.legs.append(leg)
            self._joined += 1
        paired = len(opened.legs) == _LEGS_MAX
        return JoinResult.JOINED_SECOND if paired else JoinResult.JOINED_FIRST

    def leave(self, channel: bytes, member: bytes, now: float) -> None:
        """Take a member's leg away; a channel without legs is gone."""
        opened = self._channels.get(channel)
        if opened is None:
            return
        leg = opened.leg_of(member)
        if leg is not None:
            # Leaving and joining again must not fill the bucket.
            self._left[member] = (leg.tokens_bytes, leg.filled_at)
            opened.legs.remove(leg)
            if len(self._left) > LEFT_MAX:
                self._left.popitem(last=False)
        if not opened.legs:
            del self._channels[channel]

    def serves(self, member: bytes) -> bool:
        """Whether a member has a leg of any channel."""
        return any(leg.member == member for _, _, leg in self._legs())

    def member_moved(self, member: bytes, address: Address) -> None:
        """A member's session was authenticated at another address."""
        for _, opened, leg in self._legs():
            if leg.member == member and opened.leg_at(address) is None:
                leg.address = address

    def drop_member(self, member: bytes, now: float) -> None:
        """A member's session ended: it leaves all its channels."""
        for channel in list(self._channels):
            self.leave(channel, member, now)

    def forward(self, datagram: bytes, source: Address, now: float) -> Forward | None:
        """Say where a frame from the network goes; None: dropped and counted."""
        return self._forward(datagram, source, now)

    def forward_local(self, datagram: bytes, now: float) -> Forward | None:
        """Say where a frame of our own node goes; None: dropped and counted."""
        return self._forward(datagram, None, now)

    def handle_timeout(self, now: float) -> None:
        """Close the channels that were idle or open for too long."""
        for channel, opened in list(self._channels.items()):
            if now >= opened.expires_at():
                del self._channels[channel]
                self._expired += 1
        assert self.next_timeout() > now

    def next_timeout(self) -> float:
        """Give the instant at which the next channel expires."""
        return min(
            (each.expires_at() for each in self._channels.values()), default=math.inf
        )

    def load(self) -> float:
        """Give the share of the calls this relay may carry that it does carry: 0..1."""
        return len(self._channels) / self._limits.calls_max

    def channels(self) -> tuple[ChannelReport, ...]:
        """Give every channel, oldest first."""
        return tuple(
            ChannelReport(
                channel,
                tuple(leg.member for leg in opened.legs),
                opened.forwarded_bytes,
                opened.opened_at,
            )
            for channel, opened in self._channels.items()
        )

    def statistics(self) -> RelayStatistics:
        """Give the counts; those of drops and refusals hold every reason."""
        return RelayStatistics(
            channels=len(self._channels),
            received=self._received,
            forwarded=self._forwarded,
            forwarded_bytes=self._forwarded_bytes,
            dropped={drop: self._dropped[drop] for drop in Drop},
            joined=self._joined,
            refused={
                result: self._refused[result]
                for result in JoinResult
                if result.name.startswith("REFUSED")
            },
            expired=self._expired,
        )

    def _refusal(
        self, channel: bytes, member: bytes, address: Address | None
    ) -> JoinResult | None:
        opened = self._channels.get(channel)
        if opened is not None:
            others = [leg for leg in opened.legs if leg.member != member]
            if len(others) == _LEGS_MAX or any(
                leg.address == address for leg in others
            ):
                return JoinResult.REFUSED_TAKEN
            if len(others) < len(opened.legs):
                return None  # its own leg, renewed
        elif len(self._channels) >= self._limits.calls_max:
            return JoinResult.REFUSED_FULL
        if address is not None and self._exceeds(member, address):
            return JoinResult.REFUSED_LIMIT
        return None

    def _exceeds(self, member: bytes, address: Address) -> bool:
        """Tell whether one more channel is too many; our own node's are not limited."""
        of_member = {each for each, _, leg in self._legs() if leg.member == member}
        of_host = {
            each
            for each, _, leg in self._legs()
            if leg.address is not None and leg.address.host == address.host
        }
        return (
            len(of_member) >= self._limits.channels_per_member_max
            or len(of_host) >= self._limits.channels_per_host_max
        )

    def _legs(self) -> Iterator[tuple[bytes, _Channel, _Leg]]:
        for channel, opened in self._channels.items():
            for leg in opened.legs:
                yield channel, opened, leg

    def _forward(
        self, datagram: bytes, source: Address | None, now: float
    ) -> Forward | None:
        self._received += 1
        routed = self._route(datagram, source, now)
        if isinstance(routed, Drop):
            self._dropped[routed] += 1
            return None
        self._forwarded += 1
        self._forwarded_bytes += len(datagram)
        return Forward(routed.address, datagram)

    def _route(
        self, datagram: bytes, source: Address | None, now: float
    ) -> _Leg | Drop:
        """Give the leg a datagram leaves by, or why it does not."""
        try:
            channel, _ = decode_relayed(datagram)
        except WireError:
            return Drop.MALFORMED
        opened = self._channels.get(channel)
        if opened is None:
            return Drop.UNKNOWN_CHANNEL
        entry = opened.leg_at(source)
        if entry is None:
            return Drop.WRONG_SOURCE
        if len(opened.legs) < _LEGS_MAX:
            return Drop.UNPAIRED
        if not entry.take(len(datagram), self._limits, now):
            return Drop.OVER_RATE
        opened.idle_at = now + self._limits.idle_s
        opened.forwarded_bytes += len(datagram)
        first, second = opened.legs
        return second if entry is first else first
