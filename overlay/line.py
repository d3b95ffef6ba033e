"""The sealed line between the two ends of a call, whatever carries its datagrams.

    caller                                   callee
      | -- opening: Noise IK 1, Offer -------> |   rings
      | <------- reply: Noise 2, Ringing ----- |   the caller can seal from here on
      | -- data: anything sealed ------------> |   confirmed: the callee can, too
      | <------- data, media ----------------> |

The callee holds back what it has to say until the first sealed datagram proves that it
is the caller who opened the line and not a recording. Both ends then share secrets that
nobody else can derive, the introducer included: names and passwords for the checks of
their paths, and the channel for each relay. Sans-IO; raises `WireError` for what is
wrong with a datagram, which is then as if it had never come.
"""

from __future__ import annotations

import base64
from typing import Final

from nat.checks import Credentials
from nat.errors import WireError
from overlay import handshake, tai64n
from overlay.call_messages import (
    Opening,
    Reply,
    decode_opening,
    decode_reply,
    encode_opening,
    encode_reply,
)
from overlay.dial import Local
from overlay.envelope import decode_envelope, encode_envelope
from overlay.exchange import Exchange
from overlay.noise import Handshake, Pattern, TransportKeys, derive
from overlay.seal import Kind, SealStatistics, Transport

__all__ = ["Line", "Opened"]

CHANNEL_BYTES: Final = 8
# `nat.relay`.
FRAGMENT_BYTES: Final = 6
# 8 ice-chars, 48 bits: names of checks, no secrets.
PASSWORD_BYTES: Final = 18
# 24 ice-chars, 144 bits (RFC 8445 asks for 128).


class Line:
    """One end's half of the line; lives as long as the call."""

    def __init__(self, local: Local, ours: Handshake, index: int) -> None:
        self.index: Final = index
        self.exchange: Final = Exchange(int.from_bytes(local.random_bytes(4), "little"))
        self._handshake = ours
        self._transport: Transport | None = None
        self._keys: TransportKeys | None = None
        self._is_caller = True
        self._confirmed = False
        self._media_received: list[bytes] = []

    @property
    def open(self) -> bool:
        """Whether there are keys, so that secrets can be derived."""
        return self._transport is not None

    @property
    def confirmed(self) -> bool:
        """Whether the other end has shown that it holds the keys."""
        return self._confirmed

    # -- the handshake -----------------------------------------------------------------

    @classmethod
    def call(
        cls, local: Local, their_static: bytes, offer: bytes, now: float
    ) -> tuple[Line, bytes]:
        """Begin as the caller; gives the opening to be carried to the callee."""
        ours = Handshake(
            Pattern.IK,
            initiator=True,
            prologue=local.prologue,
            ephemeral=local.random_bytes(32),
            static=local.static,
            remote_static=their_static,
        )
        opening = handshake.Opening(tai64n.encode(now), 0, offer)
        noise = ours.write_message(handshake.encode_payload(opening))
        line = cls(local, ours, local.take_index())
        return line, encode_opening(Opening(line.index, noise))

    def receive_reply(self, datagram: bytes) -> bytes | None:
        """Take the callee's reply, as the caller; gives its payload."""
        reply = decode_reply(datagram)
        if self._transport is not None or reply.receiver_index != self.index:
            raise WireError("a reply that nobody waits for")
        payload = handshake.decode_reply(self._handshake.read_message(reply.noise))
        self._keys = self._handshake.split()
        self._transport = Transport(self._keys, reply.sender_index)
        self._confirmed = True
        return payload.response

    def reply(self, opened: Opened, payload: bytes) -> bytes:
        """Agree, as the callee; gives the reply to be carried to the caller."""
        assert self._transport is None
        noise = self._handshake.write_message(
            handshake.encode_payload(handshake.Reply(0, payload))
        )
        self._keys = self._handshake.split()
        self._transport = Transport(self._keys, opened.their_index)
        self._is_caller = False
        return encode_reply(Reply(self.index, opened.their_index, noise))

    # -- sealed ------------------------------------------------------------------------

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a sealed datagram; what was asked and answered is in `exchange`."""
        if self._transport is None:
            raise WireError("a sealed datagram before there are keys")
        kind, _, plaintext = self._transport.open(datagram)
        if not self._confirmed:
            self._confirmed = True
            self.exchange.begin_again(now)
        if kind is Kind.MEDIA:
            self._media_received.append(plaintext)
        elif plaintext:
            self.exchange.receive(decode_envelope(plaintext), now)

    def media_received(self) -> list[bytes]:
        """Drain the media that came."""
        received, self._media_received = self._media_received, []
        return received

    def seal_media(self, payload: bytes) -> bytes | None:
        """Give the datagram for a piece of media; None while nothing may be sealed."""
        if self._transport is None or not self._confirmed:
            return None
        return self._transport.seal(Kind.MEDIA, payload)

    def confirm(self) -> bytes:
        """Give an empty datagram that shows the other end that we hold the keys."""
        assert self._transport is not None
        return self._transport.seal(Kind.DATA, b"")

    def messages_to_send(self) -> list[bytes]:
        """Drain the sealed datagrams of the exchange."""
        if self._transport is None or not self._confirmed:
            return []
        return [
            self._transport.seal(Kind.DATA, encode_envelope(envelope))
            for envelope in self.exchange.messages_to_send()
        ]

    # -- shared secrets ----------------------------------------------------------------

    def credentials(self) -> Credentials:
        """Give the names and passwords for the checks of this call's paths."""
        caller_name = _ice_chars(self._secret(b"caller name", FRAGMENT_BYTES))
        caller_word = _ice_chars(self._secret(b"caller password", PASSWORD_BYTES))
        callee_name = _ice_chars(self._secret(b"callee name", FRAGMENT_BYTES))
        callee_word = _ice_chars(self._secret(b"callee password", PASSWORD_BYTES))
        if self._is_caller:
            return Credentials(caller_name, caller_word, callee_name, callee_word)
        return Credentials(callee_name, callee_word, caller_name, caller_word)

    def channel(self, relay_static: bytes) -> bytes:
        """Give the channel of this call on a relay: 8 bytes nobody else can name."""
        return self._secret(b"relay channel" + relay_static, CHANNEL_BYTES)

    def statistics(self) -> SealStatistics | None:
        """Give what was sealed, opened and refused; None before there are keys."""
        return self._transport.statistics() if self._transport else None

    def _secret(self, label: bytes, length: int) -> bytes:
        # Not from the handshake hash: who carried the handshake can compute that.
        assert self._keys is not None
        root = self._keys.send if self._is_caller else self._keys.receive
        return derive(root, label, length)


class Opened:
    """An opening that reached its callee: who calls, since when, with what offer."""

    def __init__(self, local: Local, datagram: bytes) -> None:
        """Read it. Raises `WireError`."""
        opening = decode_opening(datagram)
        theirs = Handshake(
            Pattern.IK,
            initiator=False,
            prologue=local.prologue,
            ephemeral=local.random_bytes(32),
            static=local.static,
        )
        payload = handshake.decode_opening(theirs.read_message(opening.noise))
        if payload.request is None:
            raise WireError("an opening without an offer")
        static = theirs.remote_static
        assert static is not None
        self.their_index: Final = opening.sender_index
        self.their_static: Final = static
        self.timestamp: Final = payload.timestamp
        self.offer: Final = payload.request
        self._handshake = theirs

    def line(self, local: Local) -> Line:
        """Give the callee's half of the line; once."""
        return Line(local, self._handshake, local.take_index())


def _ice_chars(secret: bytes) -> str:
    return base64.b64encode(secret).decode()
