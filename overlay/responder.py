"""Answering first messages: what a stranger must show before it costs us anything.

    HS1 --> mac1 (2 us) --> under load: mac2 of a cookie --> Noise (200 us)
        --> IK: timestamp greater than any before of that key --> `Arrival`
        --> XX: HS2 at once, a half-open entry for 5 s --> HS3 --> `Completed`

The responder keeps nothing for IK and NK: what to answer, and whether to have a
session, is the endpoint's matter. Sans-IO: raises `WireError` for what is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from nat.address import Address
from nat.errors import WireError
from overlay import handshake
from overlay.cookies import CookieJar, UnderLoad
from overlay.dial import Local
from overlay.envelope import Envelope, EnvelopeKind, decode_early
from overlay.handshake import Completion, Initiation, Reply, Response
from overlay.noise import Handshake, Pattern
from overlay.seal import Transport
from overlay.tai64n import GreatestTimestamps

__all__ = ["Arrival", "Completed", "Responder"]

HALF_OPEN_MAX: Final = 256
# XX handshakes between message 1 and 3: at 100 a second without cookies, 2.5 s of them.
HALF_OPEN_S: Final = 5.0
# As long as an initiator tries.


@dataclass(frozen=True, slots=True)
class Arrival:
    """Message 1 of IK or NK was right; `write_reply` gives the HS2.

    `static` is the initiator's key, None in NK. `request` rode in the message.
    """

    handshake: Handshake
    message: Initiation
    initiation_bytes: int
    source: Address
    static: bytes | None
    request: Envelope | None

    def room_bytes(self) -> int:
        """Give how long an answer inside the HS2 may be."""
        return self.initiation_bytes - RESPONSE_FRAME_BYTES

    def write_reply(
        self, our_static: bytes, our_index: int, answer: bytes | None
    ) -> tuple[bytes, Transport]:
        """Give the HS2 and the keys; seal nothing before they are confirmed."""
        payload = handshake.encode_payload(Reply(0, answer))
        noise = self.handshake.write_message(payload)
        response = Response(our_index, self.message.sender_index, noise)
        datagram = handshake.encode_response(
            response, our_static, self.initiation_bytes
        )
        return datagram, Transport(self.handshake.split(), self.message.sender_index)


RESPONSE_FRAME_BYTES: Final = handshake.RESPONSE_OVERHEAD_BYTES + 32 + 16 + 16
# Around an answer in an HS2: frame, ephemeral key, tag, msgpack of `Reply`.


@dataclass(frozen=True, slots=True)
class Completed:
    """Message 3 of XX was right: these are the keys, and whose."""

    transport: Transport
    our_index: int
    static: bytes


@dataclass(frozen=True, slots=True)
class _HalfOpen:
    handshake: Handshake
    source: Address
    their_index: int
    ends_at: float


class Responder:
    """The answering half of a node's handshakes; lives as long as the node."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._cookies = CookieJar(local.random_bytes)
        self._load = UnderLoad()
        self._timestamps = GreatestTimestamps()
        self._half_open: dict[int, _HalfOpen] = {}
        self._half_open_dropped = 0
        self._cookies_asked = 0
        self._to_send: list[tuple[Address, bytes]] = []

    def receive_initiation(
        self, datagram: bytes, message: Initiation, source: Address, now: float
    ) -> Arrival | None:
        """Take an HS1; None if it was answered here. Raises `WireError`."""
        is_xx = message.pattern is Pattern.XX
        static = None if is_xx else self._local.static.public
        handshake.verify_mac1(datagram, static)
        self._load.count(now)
        packed_source = source.pack()
        if self._load.at(now) and not self._cookies.valid_mac2(
            datagram, packed_source, now
        ):
            self._cookies_asked += 1
            reply = self._cookies.reply_to(
                datagram, message, static, packed_source, now
            )
            self._to_send.append((source, handshake.encode_cookie_reply(reply)))
            return None
        answered = Handshake(
            message.pattern,
            initiator=False,
            prologue=self._local.prologue,
            ephemeral=self._local.random_bytes(32),
            static=self._local.static,
        )
        payload = answered.read_message(message.noise)
        if is_xx:
            self._answer_xx(answered, message, len(datagram), source, now)
            return None
        opening = handshake.decode_opening(payload)
        their_static = answered.remote_static
        if their_static is not None and not self._timestamps.accept(
            their_static, opening.timestamp
        ):
            raise WireError("a first message that was sent before")
        request = decode_early(opening.request, EnvelopeKind.REQUEST)
        return Arrival(answered, message, len(datagram), source, their_static, request)

    def receive_completion(
        self, datagram: bytes, message: Completion, source: Address
    ) -> Completed:
        """Take an HS3; it must come from where the HS2 went. Raises `WireError`."""
        handshake.verify_mac1(datagram, None)
        half = self._half_open.get(message.receiver_index)
        if half is None or half.their_index != message.sender_index:
            raise WireError("a third message without the two before")
        if half.source != source:
            raise WireError(f"a third message from {source}, not from {half.source}")
        half.handshake.read_message(message.noise)
        static = half.handshake.remote_static
        assert static is not None
        del self._half_open[message.receiver_index]
        transport = Transport(half.handshake.split(), half.their_index)
        return Completed(transport, message.receiver_index, static)

    def handle_timeout(self, now: float) -> None:
        """Forget half-open handshakes that were not completed."""
        while now >= self.next_timeout():
            del self._half_open[next(iter(self._half_open))]

    def next_timeout(self) -> float:
        """Give the instant at which the oldest half-open handshake ends."""
        for half in self._half_open.values():
            return half.ends_at
        return math.inf

    def messages_to_send(self) -> list[tuple[Address, bytes]]:
        """Drain the datagrams to send."""
        to_send, self._to_send = self._to_send, []
        return to_send

    def statistics(self) -> dict[str, int]:
        """Give the counts of what was turned away."""
        return {
            "handshakes_replayed": self._timestamps.refused,
            "handshakes_asked_for_cookie": self._cookies_asked,
            "handshakes_half_open": len(self._half_open),
            "handshakes_half_open_dropped": self._half_open_dropped,
        }

    def _answer_xx(
        self,
        answered: Handshake,
        message: Initiation,
        initiation_bytes: int,
        source: Address,
        now: float,
    ) -> None:
        noise = answered.write_message(handshake.encode_payload(Reply(0)))
        index = self._local.take_index()
        response = Response(index, message.sender_index, noise)
        datagram = handshake.encode_response(response, None, initiation_bytes)
        self._to_send.append((source, datagram))
        if len(self._half_open) >= HALF_OPEN_MAX:
            del self._half_open[next(iter(self._half_open))]
            self._half_open_dropped += 1
        self._half_open[index] = _HalfOpen(
            answered, source, message.sender_index, now + HALF_OPEN_S
        )
