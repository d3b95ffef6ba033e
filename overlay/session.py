"""Two nodes that talk: one peer, its keys over time, and what is asked and answered.

             we ask the first                  keys agreed
    (new) ---------------------> CONNECTING ------------------> OPEN
      |  the peer asked for keys     ^                           |  ^
      '---------> OPEN               '---- keys expired, and ----'  | rekey each 120 s
                   |                       something to say         '---------'
                   '---- silent for 180 s, goodbye, or nobody answers ---> CLOSED

Three sets of keys may live at once (as in WireGuard): `next`, which a peer offered and
has not used yet; `current`, with which we seal; `previous`, for what is still coming.
The side that asked for the keys asks for new ones after 120 s, the other after 150 s,
and none is used after 180 s. We never seal with keys that the peer has not confirmed by
using them. If requests go unanswered the peer may have lost its keys, so we ask for new
ones beside.

The address follows the peer: whatever is authentic and newest says where it is. But a
sender can forge its source, and a sealed datagram does not show that anybody receives
there: an address is *proven* once a handshake went through it both ways, so a peer that
moved is asked for new keys at once (`renew`). Sans-IO; the owner (`overlay.endpoint`)
routes datagrams here by index.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from nat.address import Address
from nat.errors import WireError
from overlay.dial import OPENING_BYTES_MAX, Dial, Established
from overlay.envelope import Envelope, EnvelopeKind, decode_envelope, encode_envelope
from overlay.exchange import Exchange
from overlay.handshake import CookieReply, Response
from overlay.seal import Kind, Transport

__all__ = ["Keys", "Session", "SessionState"]

REKEY_AFTER_S: Final = 120.0
# WireGuard's REKEY_AFTER_TIME.
REKEY_AFTER_AS_RESPONDER_S: Final = 150.0
# Only if the other side did not.
KEYS_EXPIRE_S: Final = 180.0
# WireGuard's REJECT_AFTER_TIME.
CONFIRMED_WITHIN_S: Final = 10.0
# The peer uses new keys at once; a forged first message must not bind memory for long.
STUCK_S: Final = 1.5
# Requests unanswered and nothing heard for as long: ask for new keys beside.
IN_USE_S: Final = 60.0
# Two and a half keepalives: a session not used for longer is left to expire.
UNSENT_MAX: Final = 64
# Answers and notices that wait for the peer to confirm its keys.

DialFactory = Callable[[bytes | None, bytes | None], Dial]


class SessionState(enum.Enum):
    """Where a session is in its life."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class Cause(enum.Enum):
    """What moves a session."""

    KEYS_AGREED = "keys agreed"
    KEYS_EXPIRED = "keys expired"
    ENDED = "ended"


TRANSITIONS: Final[Mapping[SessionState, Mapping[Cause, SessionState]]] = {
    SessionState.CONNECTING: {
        Cause.KEYS_AGREED: SessionState.OPEN,
        Cause.ENDED: SessionState.CLOSED,
    },
    SessionState.OPEN: {
        Cause.KEYS_AGREED: SessionState.OPEN,
        Cause.KEYS_EXPIRED: SessionState.CONNECTING,
        Cause.ENDED: SessionState.CLOSED,
    },
    SessionState.CLOSED: {},
}


@dataclass(frozen=True, slots=True)
class Keys:
    """One agreed set of keys, which side asked for it, and where our half was sent."""

    transport: Transport
    our_index: int
    born_at: float
    asked_by_us: bool
    address: Address


class Session:
    """What we share with one peer, from the first handshake to the last word.

    `new_dial(their_static, request)` makes the attempt to agree on keys; `first_number`
    starts our requests' numbers.
    """

    def __init__(
        self,
        address: Address,
        static: bytes | None,
        new_dial: DialFactory,
        first_number: int,
        now: float,
    ) -> None:
        self.address = address
        self.static = static
        self.exchange: Final = Exchange(first_number)
        self._state = SessionState.CONNECTING
        self._new_dial = new_dial
        self._dial: Dial | None = None
        self._dialled = address
        self._proven: Address | None = None
        self._next: Keys | None = None
        self._current: Keys | None = None
        self._previous: Keys | None = None
        self._used_at = now
        self._stuck_at = math.inf
        self._unsent: list[Envelope] = []
        self._to_send: list[tuple[Address, bytes]] = []

    @property
    def state(self) -> SessionState:
        """Whether the session is connecting, open or closed."""
        return self._state

    @property
    def confirmed(self) -> bool:
        """Whether the peer has shown that it holds the keys we seal with."""
        return self._current is not None

    @property
    def proven(self) -> Address | None:
        """The address at which the peer last showed that it receives."""
        return self._proven

    def indexes(self) -> set[int]:
        """Give the indexes under which datagrams for this session may come."""
        indexes = {keys.our_index for keys in self._all_keys()}
        return indexes.union(self._dial.indexes) if self._dial else indexes

    @property
    def used_at(self) -> float:
        """Give the instant at which something was last heard or asked."""
        return self._used_at

    def transports(self) -> list[Transport]:
        """Give the keys in use, for their counts."""
        return [keys.transport for keys in self._all_keys()]

    # -- local wishes ------------------------------------------------------------------

    def request(self, body: bytes, now: float) -> int:
        """Ask the peer; gives the number that the answer will carry."""
        self._used_at = now
        number = self.exchange.request(body, now)
        if self._stuck_at == math.inf:
            self._stuck_at = now + STUCK_S
        if self._current is None and self._dial is None and self._next is None:
            self._begin_dial(now)
        return number

    def renew(self, now: float) -> None:
        """Ask for new keys where the peer is now, unless that is under way."""
        if self._dial is None:
            self._begin_dial(now)

    def close(self) -> None:
        """End the session here; requests under way fail."""
        if self._state is not SessionState.CLOSED:
            self._move(Cause.ENDED)
            self.exchange.fail_all()
            self._dial = self._next = self._current = self._previous = None

    # -- what the peer sends -----------------------------------------------------------

    def await_confirmation(self, keys: Keys, now: float) -> None:
        """Hold keys that the peer asked for, until it uses them."""
        self._used_at = now
        if self._current is None:
            self.address = keys.address
        self._next = keys
        if self._state is SessionState.CONNECTING:
            self._move(Cause.KEYS_AGREED)

    def receive_response(
        self,
        datagram: bytes,
        message: Response | CookieReply,
        source: Address,
        now: float,
    ) -> Established | None:
        """Take the answer to our dial. Raises `WireError`."""
        if self._dial is None:
            raise WireError("an answer to a handshake that is over")
        established = self._dial.receive(datagram, message, now)
        if established is not None:
            if source == self._dialled:
                self._proven = source
            self._adopt(established, now)
        return established

    def receive_sealed(
        self, datagram: bytes, index: int, source: Address, now: float
    ) -> bool:
        """Take a DATA datagram; True if it moved the peer here. Raises `WireError`."""
        keys = self._keys_of(index)
        newest_before = keys.transport.newest(Kind.DATA)
        kind, counter, plaintext = keys.transport.open(datagram)
        if kind is not Kind.DATA:
            raise WireError("media in a session between nodes")
        if keys is self._next:
            self._confirm(keys, source, now)
        self._used_at = now
        self._stuck_at = math.inf
        moved = counter > newest_before and source != self.address
        if moved:
            self.address = source
        if plaintext:
            self.exchange.receive(decode_envelope(plaintext), now)
        return moved

    def take_answer(self, number: int, bytes_max: int) -> bytes | None:
        """Give the answer to an early request, if it is there and not too long."""
        self._unsent.extend(self.exchange.messages_to_send())
        for position, envelope in enumerate(self._unsent):
            is_it = envelope.kind is EnvelopeKind.ANSWER and envelope.number == number
            encoded = encode_envelope(envelope) if is_it else b""
            if is_it and len(encoded) <= bytes_max:
                del self._unsent[position]
                return encoded
        return None

    # -- time --------------------------------------------------------------------------

    def handle_timeout(self, now: float) -> None:
        """Repeat, renew, expire."""
        self.exchange.handle_timeout(now)
        self._expire_keys(now)
        if self._dial is not None:
            self._dial.handle_timeout(now)
            if self._dial.failed:
                self._dial = None
                self._after_failed_dial()
        if self._state is SessionState.CLOSED:
            return
        if now >= self._stuck_at:
            waiting = self.exchange.requests_under_way > 0
            self._stuck_at = now + STUCK_S if waiting else math.inf
            if waiting and self._dial is None:
                self._begin_dial(now)
        if now >= self._rekey_at() and self._dial is None:
            self._begin_dial(now)
        if self._dial is None and not any(self._all_keys()):
            self.close()

    def next_timeout(self) -> float:
        """Give the instant at which `handle_timeout` has something to do."""
        if self._state is SessionState.CLOSED:
            return math.inf
        held = (self._current, self._previous)
        expiries = [keys.born_at + KEYS_EXPIRE_S for keys in held if keys is not None]
        if self._next is not None:
            expiries.append(self._next.born_at + CONFIRMED_WITHIN_S)
        dial_at = self._dial.next_timeout() if self._dial else self._rekey_at()
        return min(self.exchange.next_timeout(), dial_at, self._stuck_at, *expiries)

    def messages_to_send(self) -> list[tuple[Address, bytes]]:
        """Drain the datagrams to send, and where they go."""
        if self._dial is not None:
            first = self._dial.messages_to_send()
            self._to_send.extend((self._dialled, datagram) for datagram in first)
        self._unsent.extend(self.exchange.messages_to_send())
        if self._current is not None:
            for envelope in self._unsent:
                self._seal(encode_envelope(envelope))
            self._unsent.clear()
        else:
            # Requests are repeated once there are keys; the rest has no second time.
            waiting = [e for e in self._unsent if e.kind is not EnvelopeKind.REQUEST]
            self._unsent = waiting[-UNSENT_MAX:]
        to_send, self._to_send = self._to_send, []
        return to_send

    # -- inside ------------------------------------------------------------------------

    def _move(self, cause: Cause) -> None:
        self._state = TRANSITIONS[self._state][cause]

    def _seal(self, plaintext: bytes) -> None:
        assert self._current is not None
        sealed = self._current.transport.seal(Kind.DATA, plaintext)
        self._to_send.append((self.address, sealed))

    def _begin_dial(self, now: float) -> None:
        early = None
        if self._current is None:
            early = self._early_request()
        self._dial = self._new_dial(self.static, early)
        self._dialled = self.address
        self._dial.begin(now)

    def _early_request(self) -> bytes | None:
        for envelope in self.exchange.messages_to_send():
            if envelope.kind is EnvelopeKind.REQUEST:
                encoded = encode_envelope(envelope)
                return encoded if len(encoded) <= OPENING_BYTES_MAX else None
        return None

    def _adopt(self, established: Established, now: float) -> None:
        self._dial = None
        self.static = established.their_static
        self._used_at = now
        self._stuck_at = math.inf
        self._previous = self._current or self._previous
        self._current = Keys(
            established.transport,
            established.our_index,
            now,
            asked_by_us=True,
            address=self._dialled,
        )
        if self._state is SessionState.CONNECTING:
            self._move(Cause.KEYS_AGREED)
        if established.completion is not None:
            self._to_send.append((self._dialled, established.completion))
        if established.response is not None:
            self.exchange.receive(established.response, now)
        self._seal(b"")  # confirms the keys, so that the peer may use them, too
        held = self.exchange.messages_to_send()  # requests are repeated anyway
        self._unsent.extend(e for e in held if e.kind is not EnvelopeKind.REQUEST)
        self.exchange.begin_again(now)

    def _confirm(self, keys: Keys, source: Address, now: float) -> None:
        """Use the keys that the peer has just used itself."""
        self._previous, self._current, self._next = self._current, keys, None
        if source == keys.address:
            self._proven = source
        if self._state is SessionState.CONNECTING:
            self._move(Cause.KEYS_AGREED)
        self.exchange.begin_again(now)

    def _after_failed_dial(self) -> None:
        """Nobody answers: without keys that is the end, with keys they may still do."""
        if self._current is None and self._next is None:
            self.close()

    def _expire_keys(self, now: float) -> None:
        self._next = _unless_older(self._next, CONFIRMED_WITHIN_S, now)
        self._previous = _unless_older(self._previous, KEYS_EXPIRE_S, now)
        had_keys = self._current is not None
        self._current = _unless_older(self._current, KEYS_EXPIRE_S, now)
        if had_keys and self._current is None and self._state is SessionState.OPEN:
            self._move(Cause.KEYS_EXPIRED)
            if self.exchange.requests_under_way and self._dial is None:
                self._begin_dial(now)

    def _rekey_at(self) -> float:
        """Give when to ask for new keys; never for a session that nobody uses."""
        if self._current is None:
            return math.inf
        keys = self._current
        life_s = REKEY_AFTER_S if keys.asked_by_us else REKEY_AFTER_AS_RESPONDER_S
        rekey_at = keys.born_at + life_s
        return rekey_at if self._used_at + IN_USE_S >= rekey_at else math.inf

    def _all_keys(self) -> list[Keys]:
        held = (self._next, self._current, self._previous)
        return [keys for keys in held if keys is not None]

    def _keys_of(self, index: int) -> Keys:
        for keys in self._all_keys():
            if keys.our_index == index:
                return keys
        raise WireError("a datagram for keys that are gone")


def _unless_older(keys: Keys | None, life_s: float, now: float) -> Keys | None:
    return keys if keys is not None and now < keys.born_at + life_s else None
