"""Cookies: under load, a responder works only for those who receive where they say.

A cookie is BLAKE2s-16(key = secret, packed address of the initiator). The responder
keeps nothing per address. Under load it answers HS1 with COOKIE and forgets it; the
initiator opens the cookie and repeats its handshake with a mac2 made with it, for which
it must have received the cookie at the address it sent from.

The cookie travels sealed with the key BLAKE2s("cookie" || S), where S is the static key
of the responder, or 32 zero bytes in XX; and it is bound to the mac1 of the HS1 it
answers, so that nobody who does not see its packets can hand an initiator a false one.

Contract: pure. Random bytes and time are handed in.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable
from typing import Final

from overlay.handshake import (
    MAC_BYTES,
    CookieReply,
    Initiation,
    key_among_knowers,
    mac,
    mac1_of,
)
from overlay.noise import KEY_BYTES
from overlay.seal import XNONCE_BYTES, open_once, seal_once

__all__ = ["CookieJar", "UnderLoad", "open_cookie"]

COOKIE_SECRET_S: Final = 120.0
# A cookie is good for 120 to 240 s; WireGuard renews its secret as often.
HANDSHAKES_PER_S_MAX: Final = 100
# At most 7 % of a core; when more come, their addresses are proved first.


def open_cookie(
    reply: CookieReply, responder_static: bytes | None, mac1: bytes
) -> bytes:
    """Give the cookie in the answer to our HS1 with this mac1. Raises `WireError`.

    It is good for at least 120 s, for every HS1 from the same address to the same
    responder.
    """
    key = key_among_knowers(b"cookie", responder_static)
    return open_once(key, reply.nonce, reply.sealed, mac1)


class CookieJar:
    """A responder's cookies: nothing is kept per address, one secret makes them all.

    The secret is renewed each 120 s when needed, and the one before it still accepted.
    """

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._secret = self._secret_before = random_bytes(KEY_BYTES)
        self._renew_at = 0.0

    def cookie_for(self, address: bytes, now: float) -> bytes:
        """Give the 16-byte cookie of a packed address."""
        self._renew(now)
        return mac(self._secret, address)

    def reply_to(
        self,
        datagram: bytes,
        message: Initiation,
        responder_static: bytes | None,
        address: bytes,
        now: float,
    ) -> CookieReply:
        """Give what answers an HS1 from a packed address."""
        nonce = self._random_bytes(XNONCE_BYTES)
        key = key_among_knowers(b"cookie", responder_static)
        cookie = self.cookie_for(address, now)
        sealed = seal_once(key, nonce, cookie, mac1_of(datagram))
        return CookieReply(message.sender_index, nonce, sealed)

    def valid_mac2(self, datagram: bytes, address: bytes, now: float) -> bool:
        """Tell whether an HS1 proves that its sender receives at this address."""
        self._renew(now)
        body, mac2 = datagram[:-MAC_BYTES], datagram[-MAC_BYTES:]
        return any(
            hmac.compare_digest(mac(mac(secret, address), body), mac2)
            for secret in (self._secret, self._secret_before)
        )

    def _renew(self, now: float) -> None:
        if now < self._renew_at:
            return
        in_time = now < self._renew_at + COOKIE_SECRET_S
        fresh = self._random_bytes(KEY_BYTES)
        self._secret_before = self._secret if in_time else fresh
        self._secret = fresh
        self._renew_at = COOKIE_SECRET_S + (self._renew_at if in_time else now)


class UnderLoad:
    """Whether more than 100 first messages came within the last second."""

    def __init__(self) -> None:
        self._forgotten_at = deque[float](maxlen=HANDSHAKES_PER_S_MAX + 1)

    def count(self, now: float) -> None:
        """Count one first message with a right mac1."""
        self._forgotten_at.append(now + 1.0)

    def at(self, now: float) -> bool:
        """Tell whether cookies are to be asked for now."""
        times = self._forgotten_at
        return len(times) == times.maxlen and now < times[0]
