"""Getting a session: first messages, repeated until one is answered.

    begin -- HS1 --> ... 0.5 s ... -- HS1' --> ... 1 s ... -- HS1'' --> ... failed
                |                        |
              HS2: established        COOKIE: HS1 again at once, with its mac2

Noise IK to a peer whose static key is known, XX to one known by address alone, NK to
ask without saying who asks. Each try is a handshake of its own, with its own ephemeral
key, index and timestamp, and an answer to any of them is taken. A request may ride in
message 1 (not in XX): it must be idempotent. Sans-IO.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nat.errors import WireError
from overlay import handshake, tai64n
from overlay.cookies import open_cookie
from overlay.envelope import Envelope, EnvelopeKind, decode_early
from overlay.handshake import Completion, CookieReply, Initiation, Opening, Response
from overlay.noise import Handshake, KeyPair, Pattern
from overlay.seal import Transport

__all__ = ["OPENING_BYTES_MAX", "Dial", "Established", "Local"]

FIRST_RETRY_S: Final = 0.5
# Longer than the round trip of nine tenths of all paths; doubles with each try.
GIVE_UP_S: Final = 5.0
# Four tries: at 0, 0.5, 1.5 and 3.5 s.
OPENING_BYTES_MAX: Final = 1_000
# A request that fits into an HS1 of 1,200 bytes: 41 of frame, 96 of Noise IK, 27 of
# `Opening`, the rest to spare.
COOKIES_MAX: Final = 2
# Cookie replies heeded in one dial: they cost us a handshake each.


@dataclass(frozen=True, slots=True)
class Local:
    """What every handshake of a node shares."""

    static: KeyPair
    prologue: bytes
    random_bytes: Callable[[int], bytes]
    take_index: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Established:
    """A handshake that was answered.

    `completion` (XX) is to be sent before anything else; `response` is the answer to
    the request that rode in message 1, if it came.
    """

    transport: Transport
    our_index: int
    their_static: bytes
    rtt_s: float
    response: Envelope | None
    completion: bytes | None


@dataclass(frozen=True, slots=True)
class _Try:
    handshake: Handshake
    mac1: bytes
    sent_at: float


class Dial:
    """One attempt to get a session with one peer; ends established or failed."""

    def __init__(
        self,
        local: Local,
        pattern: Pattern,
        their_static: bytes | None,
        *,
        request: bytes | None = None,
        size: int = handshake.INITIATION_BYTES_MIN,
    ) -> None:
        assert (their_static is None) == (pattern is Pattern.XX)
        assert request is None or len(request) <= OPENING_BYTES_MAX
        self._local = local
        self._pattern = pattern
        self._their_static = their_static
        self._request = request if pattern is not Pattern.XX else None
        self._size = size
        self._tries: dict[int, _Try] = {}
        self._pause_s = FIRST_RETRY_S
        self._retry_at = math.inf
        self._fails_at = math.inf
        self._cookies_heeded = 0
        self._to_send: list[bytes] = []
        self.failed = False

    @property
    def indexes(self) -> tuple[int, ...]:
        """The indexes under which an answer may come."""
        return tuple(self._tries)

    def begin(self, now: float) -> None:
        """Send the first HS1."""
        self._fails_at = now + GIVE_UP_S
        self._retry_at = now + self._pause_s
        self._try(now, cookie=None)

    def receive(
        self, datagram: bytes, message: Response | CookieReply, now: float
    ) -> Established | None:
        """Take an answer to one of our tries. Raises `WireError`."""
        tried = self._tries.get(message.receiver_index)
        if tried is None:
            raise WireError("an answer to a handshake that is over")
        if isinstance(message, CookieReply):
            self._heed_cookie(message, tried, now)
            return None
        handshake.verify_mac1(datagram, self._their_static)
        payload = tried.handshake.read_message(message.noise)
        early = handshake.decode_reply(payload).response
        response = decode_early(early, EnvelopeKind.ANSWER)
        completion = None
        if not tried.handshake.finished:
            noise = tried.handshake.write_message()
            completion = handshake.encode_completion(
                Completion(message.receiver_index, message.sender_index, noise), None
            )
        static = tried.handshake.remote_static
        assert static is not None
        self._retry_at = self._fails_at = math.inf
        return Established(
            Transport(tried.handshake.split(), message.sender_index),
            message.receiver_index,
            static,
            now - tried.sent_at,
            response,
            completion,
        )

    def handle_timeout(self, now: float) -> None:
        """Try again, or give up."""
        if now >= self._fails_at:
            self.failed = True
            self._fails_at = self._retry_at = math.inf
        elif now >= self._retry_at:
            self._pause_s *= 2
            self._retry_at = now + self._pause_s
            self._try(now, cookie=None)
            self.failed = self._fails_at <= now

    def next_timeout(self) -> float:
        """Give the instant of the next try, or of giving up."""
        return min(self._retry_at, self._fails_at)

    def messages_to_send(self) -> list[bytes]:
        """Drain the datagrams to send."""
        to_send, self._to_send = self._to_send, []
        return to_send

    def _try(self, now: float, cookie: bytes | None) -> None:
        try:
            self._send_first(now, cookie)
        except WireError:  # no secret can be made with their key: nobody has it
            self._retry_at, self._fails_at = math.inf, now

    def _send_first(self, now: float, cookie: bytes | None) -> None:
        local = self._local
        tried = Handshake(
            self._pattern,
            initiator=True,
            prologue=local.prologue,
            ephemeral=local.random_bytes(32),
            static=None if self._pattern is Pattern.NK else local.static,
            remote_static=self._their_static,
        )
        payload = b""
        if self._pattern is not Pattern.XX:
            opening = Opening(tai64n.encode(now), 0, self._request)
            payload = handshake.encode_payload(opening)
        index = local.take_index()
        datagram = handshake.encode_initiation(
            Initiation(self._pattern, index, tried.write_message(payload)),
            self._their_static,
            size=self._size,
            cookie=cookie,
        )
        self._tries[index] = _Try(tried, handshake.mac1_of(datagram), now)
        self._to_send.append(datagram)

    def _heed_cookie(self, reply: CookieReply, tried: _Try, now: float) -> None:
        if self._cookies_heeded >= COOKIES_MAX:
            raise WireError("more cookie replies than heeded")
        cookie = open_cookie(reply, self._their_static, tried.mac1)
        self._cookies_heeded += 1
        self._try(now, cookie)
