"""Noise handshakes IK, NK and XX with 25519, ChaChaPoly and BLAKE2s.

Two nodes exchange two messages (XX: three) and then share two keys and a handshake
hash. The facade of `cryptography` for X25519, and the Noise Protocol Framework
(revision 34) as far as Koe needs it: no pre-shared keys, no fallback.

A pattern is a table: the lines below `SCRIPTS` are the patterns as the framework
writes them. `e` and `s` send an ephemeral or a static key; `es` mixes in the
Diffie-Hellman product of the initiator's `e` and the responder's `s`; every message
ends with its payload.

    IK   <- s        who calls knows whom; both are authenticated
         -> e es s ss
         <- e ee se
    NK   <- s        who calls stays anonymous: look-ups
         -> e es
         <- e ee
    XX               neither knows the other: bootstrap by an address alone
         -> e
         <- e ee s es
         -> s se

Contract: pure. The random bytes of the ephemeral key are handed in, and must never
serve two handshakes. A message that is refused (`WireError`) leaves the handshake as
it was, so a forged answer cannot spoil a handshake whose true answer is under way.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nat.errors import WireError

__all__ = [
    "KEY_BYTES",
    "TAG_BYTES",
    "Handshake",
    "KeyPair",
    "Pattern",
    "TransportKeys",
    "check_public_key",
    "derive",
]

KEY_BYTES: Final = 32
# X25519 keys, private and public; also ChaChaPoly's keys and BLAKE2s's digest.
TAG_BYTES: Final = 16
# What ChaChaPoly adds to whatever it encrypts.

Token: TypeAlias = Literal["e", "s", "ee", "es", "se", "ss"]


class Pattern(IntEnum):
    """Which handshake; the number is the one on the wire."""

    IK = 1
    NK = 2
    XX = 3


@dataclass(frozen=True, slots=True)
class Script:
    """What a pattern prescribes: what is known before, who sends what when."""

    name: bytes
    responder_known: bool
    initiator_anonymous: bool
    messages: tuple[tuple[Token, ...], ...]


SCRIPTS: Final[Mapping[Pattern, Script]] = {
    Pattern.IK: Script(
        b"Noise_IK_25519_ChaChaPoly_BLAKE2s",
        responder_known=True,
        initiator_anonymous=False,
        messages=(("e", "es", "s", "ss"), ("e", "ee", "se")),
    ),
    Pattern.NK: Script(
        b"Noise_NK_25519_ChaChaPoly_BLAKE2s",
        responder_known=True,
        initiator_anonymous=True,
        messages=(("e", "es"), ("e", "ee")),
    ),
    Pattern.XX: Script(
        b"Noise_XX_25519_ChaChaPoly_BLAKE2s",
        responder_known=False,
        initiator_anonymous=False,
        messages=(("e",), ("e", "ee", "s", "es"), ("s", "se")),
    ),
}


class KeyPair:
    """An X25519 key pair, loaded once: loading costs as much as an exchange."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public: Final = self._private.public_key().public_bytes_raw()

    def exchange(self, their_public: bytes) -> bytes:
        """Give the 32-byte shared secret; `WireError` for a key that is no point."""
        try:
            return self._private.exchange(
                X25519PublicKey.from_public_bytes(their_public)
            )
        except ValueError:
            raise WireError("a public key without a secret: low order") from None

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


def check_public_key(public: bytes) -> None:
    """Raise `WireError` for a key of low order: no secret can be made with it."""
    _ANY_KEY.exchange(public)


@dataclass(frozen=True, slots=True)
class TransportKeys:
    """The two 32-byte keys a finished handshake leaves: ours to seal, ours to open."""

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)


class Handshake:
    """One side of one handshake, from its first message to its keys.

    `static` is our static key pair (not needed by the initiator of NK), `remote_static`
    the responder's public key (needed by the initiator of IK and NK), `ephemeral` 32
    fresh random bytes. `remote_static` is None as long as the other side has not shown
    who it is, for ever in the responder of NK.
    """

    def __init__(
        self,
        pattern: Pattern,
        *,
        initiator: bool,
        prologue: bytes,
        ephemeral: bytes,
        static: KeyPair | None = None,
        remote_static: bytes | None = None,
    ) -> None:
        script = SCRIPTS[pattern]
        if static is None and not (initiator and script.initiator_anonymous):
            raise ValueError(f"{pattern.name}: expected our static key, not None")
        if (remote_static is not None) != (initiator and script.responder_known):
            raise ValueError(f"{pattern.name}: {remote_static=} with {initiator=}")
        self.pattern: Final = pattern
        self.remote_static = remote_static
        self._initiator = initiator
        self._script = script
        self._ours = {"e": KeyPair(ephemeral)}
        if static is not None:
            self._ours["s"] = static
        self._remote_ephemeral = b""
        self._messages_done = 0
        self._symmetric = _Symmetric(script.name, prologue)
        if script.responder_known:
            known = remote_static if initiator else self._ours["s"].public
            assert known is not None
            self._symmetric.mix_hash(known)

    @property
    def finished(self) -> bool:
        """Whether the last message has been written or read."""
        return self._messages_done == len(self._script.messages)

    @property
    def hash(self) -> bytes:
        """The 32-byte handshake hash: names this one handshake, and is no secret.

        It is the same on both sides if nobody is between them.
        """
        return self._symmetric.hash

    def write_message(self, payload: bytes = b"") -> bytes:
        """Give the next message. It must be our turn.

        Raises `WireError` if a key of theirs is not one that secrets can be made with.
        """
        assert self._is_our_turn(), "write_message out of turn"
        message = b""
        for token in self._script.messages[self._messages_done]:
            if token == "e":
                public = self._ours["e"].public
                self._symmetric.mix_hash(public)
                message += public
            elif token == "s":
                message += self._symmetric.encrypt(self._ours["s"].public)
            else:
                self._mix_exchange(token)
        message += self._symmetric.encrypt(payload)
        self._messages_done += 1
        return message

    def read_message(self, message: bytes) -> bytes:
        """Give the payload of the next message, which must be theirs.

        Raises `WireError`, and is then as if the message had never come.
        """
        if self.finished or self._is_our_turn():
            raise WireError(f"{self.pattern.name}: a handshake message out of turn")
        before = copy(self._symmetric), self._remote_ephemeral, self.remote_static
        try:
            payload = self._read(message)
        except WireError:
            self._symmetric, self._remote_ephemeral, self.remote_static = before
            raise
        self._messages_done += 1
        return payload

    def split(self) -> TransportKeys:
        """Give the keys of the session. The handshake must be finished."""
        assert self.finished, "split of an unfinished handshake"
        by_initiator, by_responder = self._symmetric.split()
        if self._initiator:
            return TransportKeys(send=by_initiator, receive=by_responder)
        return TransportKeys(send=by_responder, receive=by_initiator)

    def _is_our_turn(self) -> bool:
        return not self.finished and self._initiator == (self._messages_done % 2 == 0)

    def _read(self, message: bytes) -> bytes:
        rest = message
        for token in self._script.messages[self._messages_done]:
            if token == "e":
                self._remote_ephemeral, rest = _cut(rest, KEY_BYTES)
                self._symmetric.mix_hash(self._remote_ephemeral)
            elif token == "s":
                sealed, rest = _cut(rest, KEY_BYTES + TAG_BYTES)
                self.remote_static = self._symmetric.decrypt(sealed)
            else:
                self._mix_exchange(token)
        return self._symmetric.decrypt(rest)

    def _mix_exchange(self, token: Token) -> None:
        """Mix in a product: the initiator's key comes first in the token."""
        ours, theirs = token[:1], token[1:]
        if not self._initiator:
            ours, theirs = theirs, ours
        their_public = self._remote_ephemeral if theirs == "e" else self.remote_static
        assert their_public is not None
        self._symmetric.mix_key(self._ours[ours].exchange(their_public))


def derive(secret: bytes, label: bytes, length: int) -> bytes:
    """Derive `length` (<= 8,160) secret bytes for the purpose `label` from a secret.

    HKDF (RFC 5869) with BLAKE2s, no salt and `label` as info: the key of another kind
    of packet, or the credentials of a call's paths, from a key of its session. Never
    from a handshake hash, which whoever forwarded the messages can compute.
    """
    if length > 255 * KEY_BYTES:
        raise ValueError(f"{length} bytes to derive, expected at most 8160")
    extracted = _hmac(bytes(KEY_BYTES), secret)
    block = output = b""
    for index in range(1, -(-length // KEY_BYTES) + 1):
        block = _hmac(extracted, block + label + bytes((index,)))
        output += block
    return output[:length]


class _Symmetric:
    """The framework's symmetric state: a running hash, a chaining key, a cipher."""

    __slots__ = ("_chaining_key", "_key", "_nonce", "hash")

    def __init__(self, name: bytes, prologue: bytes) -> None:
        self.hash = hashlib.blake2s(name).digest() if len(name) > 32 else name
        self._chaining_key = self.hash
        self._key: bytes | None = None
        self._nonce = 0
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.blake2s(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining_key, self._key = _two_keys(self._chaining_key, secret)
        self._nonce = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = plaintext
        if self._key is not None:
            cipher = ChaCha20Poly1305(self._key)
            ciphertext = cipher.encrypt(self._next_nonce(), plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        plaintext = ciphertext
        if self._key is not None:
            cipher = ChaCha20Poly1305(self._key)
            try:
                plaintext = cipher.decrypt(self._next_nonce(), ciphertext, self.hash)
            except InvalidTag:
                raise WireError("a handshake message that is not authentic") from None
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        return _two_keys(self._chaining_key, b"")

    def _next_nonce(self) -> bytes:
        nonce = struct.pack("<4xQ", self._nonce)
        self._nonce += 1
        return nonce


def _two_keys(chaining_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    extracted = _hmac(chaining_key, secret)
    first = _hmac(extracted, b"\x01")
    return first, _hmac(extracted, first + b"\x02")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.blake2s)


def _cut(message: bytes, length: int) -> tuple[bytes, bytes]:
    if len(message) < length:
        raise WireError(f"a handshake message cut short: {len(message)} of {length}")
    return message[:length], message[length:]


_ANY_KEY: Final = KeyPair(bytes(range(32)))
# Public: it only finds out what an exchange would say.
