"""Who a node is: an Ed25519 key that signs, and an X25519 key for its sessions.

The Ed25519 public key *is* the identity. The X25519 key is separate, so that it can be
replaced while the identity stays; a signed record ties the two together. The facade of
PyNaCl for Ed25519.

Every signature is over `domain || payload`, where the domain names the kind of record
and ends with a zero byte (`b"koe/1/presence\\0"`), so that no record can be passed off
as one of another kind.

The *short id* is what people read: `k7m3-q9xt-2b5z`, 60 bits as twelve characters of
the alphabet `0123456789abcdefghjkmnpqrstvwxyz` (digits and lower-case letters without
i, l, o and u; each stands for its place, 0..31):

    characters 1..11   the first 55 bits of BLAKE2b-8(public key), big-endian
    character 12       the check character

The check character makes the polynomial c1 y^11 + c2 y^10 + ... + c12, whose
coefficients are the twelve values, vanish at y = x over the field
GF(32) = GF(2)[x] / (x^5 + x^2 + 1). So every single wrong character and every exchange
of two characters is noticed, and other mistakes 31 times in 32.

The *safety number* of two people is what they read to each other once: 60 digits, the
same on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NewType

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from nat.errors import WireError
from overlay.noise import KeyPair

__all__ = [
    "ALPHABET",
    "PUBLIC_KEY_BYTES",
    "SEED_BYTES",
    "SIGNATURE_BYTES",
    "Identity",
    "ShortId",
    "parse_short_id",
    "safety_number",
    "short_id",
    "verify",
]

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
LOOKALIKES: Final = str.maketrans("ilo", "110", "-")
# What people write for 1 and 0, and the hyphens, which only help the eye.
SHORT_ID_CHARACTERS: Final = 12

ShortId = NewType("ShortId", str)
"""A short id in its one canonical form, hyphens included."""


class Identity:
    """One node's own keys, for as long as its key file lasts."""

    __slots__ = ("_dh_seed", "_signing_key", "dh", "public_key")

    def __init__(self, signing_seed: bytes, dh_seed: bytes) -> None:
        for seed in (signing_seed, dh_seed):
            if len(seed) != SEED_BYTES:
                raise ValueError(f"a seed of {len(seed)} bytes, expected 32")
        self._signing_key = SigningKey(signing_seed)
        self._dh_seed = dh_seed
        self.public_key: Final = bytes(self._signing_key.verify_key)
        self.dh: Final = KeyPair(dh_seed)

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes]) -> Identity:
        """Make a new identity."""
        return cls(random_bytes(SEED_BYTES), random_bytes(SEED_BYTES))

    @property
    def dh_public(self) -> bytes:
        """The public half of the key that sessions are made with."""
        return self.dh.public

    def seeds(self) -> tuple[bytes, bytes]:
        """Give the secrets: the signing seed and the seed of the session key."""
        return bytes(self._signing_key), self._dh_seed

    def sign(self, domain: bytes, payload: bytes) -> bytes:
        """Give the 64-byte signature of a payload as a record of this domain."""
        return self._signing_key.sign(domain + payload).signature

    def __repr__(self) -> str:
        return f"Identity({short_id(self.public_key)})"


def verify(public_key: bytes, domain: bytes, payload: bytes, signature: bytes) -> None:
    """Return if `public_key` signed the payload in this domain, else `WireError`."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise WireError(
            f"a key of {len(public_key)} bytes and a signature of {len(signature)}, "
            "expected 32 and 64"
        )
    try:
        VerifyKey(public_key).verify(domain + payload, signature)
    except BadSignatureError:
        raise WireError(f"a signature that is not {public_key.hex()}'s") from None


def short_id(public_key: bytes) -> ShortId:
    """Give the short id of a public key."""
    digest = hashlib.blake2b(public_key, digest_size=8).digest()
    bits = int.from_bytes(digest, "big") >> (64 - 55)
    values = [bits >> (50 - 5 * place) & 31 for place in range(11)]
    values.append(_evaluate([*values, 0]))
    return _grouped("".join(ALPHABET[value] for value in values))


def parse_short_id(text: str) -> ShortId:
    """Read a short id as people type it: any case, hyphens or none, o for 0, l for 1.

    Raises `ValueError` that says what was expected, or that something is mistyped.
    """
    plain = text.strip().lower().translate(LOOKALIKES)
    if len(plain) != SHORT_ID_CHARACTERS or not set(plain) <= set(ALPHABET):
        raise ValueError(f"{text!r}: expected a short id such as k7m3-q9xt-2b5z")
    if _evaluate([ALPHABET.index(character) for character in plain]) != 0:
        raise ValueError(f"{text!r} is mistyped: its last character does not fit")
    return _grouped(plain)


def safety_number(public_key: bytes, other_public_key: bytes) -> str:
    """Give the 60 digits, in groups of 5, that two people compare; order is no matter.

    Each group is 5 bytes of BLAKE2b-64(lesser key || greater key) modulo 100,000.
    """
    digest = hashlib.blake2b(b"".join(sorted((public_key, other_public_key)))).digest()
    groups = [int.from_bytes(digest[at : at + 5], "big") for at in range(0, 60, 5)]
    return " ".join(f"{group % 100_000:05}" for group in groups)


def _evaluate(values: list[int]) -> int:
    """Evaluate the polynomial with these coefficients over GF(32) at x, by Horner."""
    result = 0
    for value in values:
        doubled = result << 1
        result = (doubled ^ 0b100101 if doubled & 0b100000 else doubled) ^ value
    return result


def _grouped(plain: str) -> ShortId:
    return ShortId("-".join((plain[:4], plain[4:8], plain[8:])))
