"""Sealed datagrams: what a session sends once its handshake is done.

    offset 0    kind, 1 byte: 07 DATA, 08 MEDIA
    offset 1    the receiver's index of the session, 4 bytes, little-endian
    offset 5    counter, 8 bytes, little-endian: 0, 1, 2, ... per kind and direction
    offset 13   ChaCha20-Poly1305 of the plaintext, 16 bytes longer than it is; nonce
                = 4 zero bytes || counter, associated data = the 13 bytes before it

DATA is sealed with the handshake's own keys, MEDIA with `derive(key, b"media", 32)`, so
that each kind has its own counters, and voice need not wait for anything.

A receiver opens first and asks the replay window then: only authentic counters move it.
It takes datagrams out of order as long as they are less than 1,024 behind the newest
(the idea of RFC 6479), each of them once. The facade of `cryptography` for AEAD, and of
PyNaCl for XChaCha20-Poly1305, whose nonce may be random.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl import bindings
from nacl.exceptions import CryptoError

from nat.errors import WireError
from overlay.noise import KEY_BYTES, TAG_BYTES, TransportKeys, derive

__all__ = [
    "SEAL_BYTES",
    "XNONCE_BYTES",
    "Admission",
    "Header",
    "Kind",
    "Opener",
    "ReplayWindow",
    "SealStatistics",
    "Sealer",
    "Transport",
    "header_of",
    "open_once",
    "seal_once",
]

HEADER: Final = struct.Struct("<BIQ")
NONCE_PREFIX: Final = bytes(4)
SEAL_BYTES: Final = HEADER.size + TAG_BYTES
# How much longer a sealed datagram is than its plaintext: 29.
REPLAY_WINDOW: Final = 1024
# 20 s of voice at 50 packets/s: more than any path reorders by.
COUNTER_LIMIT: Final = 2**63
# Never reached: at 1,000 datagrams a second it takes 292 million years.
XNONCE_BYTES: Final = 24


class Kind(IntEnum):
    """What a sealed datagram carries; the number is its first byte."""

    DATA = 0x07
    MEDIA = 0x08


class Header(NamedTuple):
    """The readable part of a sealed datagram. Nothing in it is authentic yet."""

    kind: Kind
    receiver_index: int
    counter: int


KINDS: Final[Mapping[int, Kind]] = {kind.value: kind for kind in Kind}
# A look-up is ten times as fast as calling the enum, and this is done per packet.


def header_of(datagram: bytes) -> Header:
    """Read the header, for finding the session. Raises `WireError`."""
    if len(datagram) < SEAL_BYTES:
        raise WireError(f"a sealed datagram of {len(datagram)} bytes, expected >= 29")
    kind, index, counter = HEADER.unpack_from(datagram)
    if kind not in KINDS or counter >= COUNTER_LIMIT:
        raise WireError(
            f"kind {kind:#04x} with counter {counter} is no sealed datagram"
        )
    return Header(KINDS[kind], index, counter)


class Sealer:
    """One kind of one direction of one session, at the sending end."""

    __slots__ = ("_cipher", "_kind", "_their_index", "counter")

    def __init__(self, kind: Kind, their_index: int, key: bytes) -> None:
        self._kind = kind
        self._their_index = their_index
        self._cipher = ChaCha20Poly1305(key)
        self.counter = 0
        """The counter of the next datagram: as many have been sealed."""

    def seal(self, plaintext: bytes) -> bytes:
        """Give the datagram, 29 bytes longer than the plaintext.

        Raises `OverflowError` rather than use a counter past the limit.
        """
        if self.counter >= COUNTER_LIMIT:
            raise OverflowError(f"all {COUNTER_LIMIT} counters of a key are used up")
        header = HEADER.pack(self._kind, self._their_index, self.counter)
        self.counter += 1
        nonce = NONCE_PREFIX + header[5:]
        return header + self._cipher.encrypt(nonce, plaintext, header)


class Opener:
    """One kind of one direction of one session, at the receiving end."""

    __slots__ = ("_cipher", "tampered", "window")

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self.window: Final = ReplayWindow()
        self.tampered = 0

    def open(self, datagram: bytes, counter: int) -> bytes:
        """Give the plaintext of a datagram whose header has been read.

        Raises `WireError` if it is not authentic, came before, or comes too late.
        """
        header = datagram[: HEADER.size]
        nonce = NONCE_PREFIX + header[5:]
        try:
            plaintext = self._cipher.decrypt(nonce, datagram[HEADER.size :], header)
        except InvalidTag:
            self.tampered += 1
            raise WireError("a sealed datagram that is not authentic") from None
        admission = self.window.admit(counter)
        if admission is Admission.REPLAYED or admission is Admission.TOO_OLD:
            raise WireError(f"counter {counter}: {admission.name.lower()}")
        return plaintext


class Admission(IntEnum):
    """What a replay window thinks of a counter."""

    NEWEST = auto()
    REORDERED = auto()
    REPLAYED = auto()
    TOO_OLD = auto()


class ReplayWindow:
    """Which of the last `size` counters have come. Lives as long as its key.

    Bit i of the bitmap is set if the counter `newest - i` has come.
    """

    __slots__ = ("_bitmap", "_mask", "_size", "counts", "newest")

    def __init__(self, size: int = REPLAY_WINDOW) -> None:
        self._size = size
        self._mask = (1 << size) - 1
        self._bitmap = 0
        self.newest = -1
        self.counts = dict.fromkeys(Admission, 0)

    def admit(self, counter: int) -> Admission:
        """Judge the counter of an authentic datagram, and remember it."""
        admission = self._judge(counter)
        self.counts[admission] += 1
        return admission

    def _judge(self, counter: int) -> Admission:
        behind = self.newest - counter
        if behind < 0:
            ahead = min(-behind, self._size)
            self._bitmap = (self._bitmap << ahead | 1) & self._mask
            self.newest = counter
            return Admission.NEWEST
        if behind >= self._size:
            return Admission.TOO_OLD
        if self._bitmap >> behind & 1:
            return Admission.REPLAYED
        self._bitmap |= 1 << behind
        return Admission.REORDERED


@dataclass(frozen=True, slots=True)
class SealStatistics:
    """What a session sealed, opened and refused, both kinds together."""

    sealed: int
    opened: int
    reordered: int
    """Opened, but after a newer one: counted in `opened` too."""
    tampered: int
    replayed: int
    too_old: int


class Transport:
    """Both directions and both kinds of one established session."""

    __slots__ = ("_openers", "_sealers")

    def __init__(self, keys: TransportKeys, their_index: int) -> None:
        self._sealers = {
            kind: Sealer(kind, their_index, _key_of(kind, keys.send)) for kind in Kind
        }
        self._openers = {kind: Opener(_key_of(kind, keys.receive)) for kind in Kind}

    def seal(self, kind: Kind, plaintext: bytes) -> bytes:
        """Give the datagram, 29 bytes longer than the plaintext."""
        return self._sealers[kind].seal(plaintext)

    def open(self, datagram: bytes) -> tuple[Kind, int, bytes]:
        """Give kind, counter and plaintext of a datagram of this session.

        Raises `WireError`, and counts why if it had the form of one.
        """
        kind, _, counter = header_of(datagram)
        return kind, counter, self._openers[kind].open(datagram, counter)

    def newest(self, kind: Kind) -> int:
        """Give the greatest counter opened so far, -1 if none: roaming needs it."""
        return self._openers[kind].window.newest

    def statistics(self) -> SealStatistics:
        """Give the counts so far."""
        windows = [opener.window.counts for opener in self._openers.values()]
        reordered = sum(counts[Admission.REORDERED] for counts in windows)
        return SealStatistics(
            sealed=sum(sealer.counter for sealer in self._sealers.values()),
            opened=sum(counts[Admission.NEWEST] for counts in windows) + reordered,
            reordered=reordered,
            tampered=sum(opener.tampered for opener in self._openers.values()),
            replayed=sum(counts[Admission.REPLAYED] for counts in windows),
            too_old=sum(counts[Admission.TOO_OLD] for counts in windows),
        )


def seal_once(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Seal with XChaCha20-Poly1305 under a 24-byte nonce that may be random."""
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        plaintext, associated, nonce, key
    )


def open_once(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Open what `seal_once` sealed. Raises `WireError`."""
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed, associated, nonce, key
        )
    except (CryptoError, ValueError):
        raise WireError("a sealed message that is not authentic") from None


def _key_of(kind: Kind, direction_key: bytes) -> bytes:
    if kind is Kind.DATA:
        return direction_key
    return derive(direction_key, b"media", KEY_BYTES)
