"""Identities and records to test with, the same in every run."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Final

from nat.address import Address
from overlay.ask import Peer
from overlay.identity import Identity
from overlay.messages import Contact
from overlay.records import (
    Claim,
    Descriptor,
    Presence,
    read_claim,
    read_descriptor,
    read_presence,
    sign_claim,
    sign_descriptor,
    sign_presence,
)

NOW: Final = 1_700_000_000.0
# Where the clocks of these tests stand at first.


@cache
def identity(number: int) -> Identity:
    """Give the identity with this number."""
    seed = number.to_bytes(2, "big") * 16
    return Identity(seed, bytes(reversed(seed)))


def address(number: int) -> Address:
    """Give an address in a /16 of its own."""
    return Address(f"{20 + number // 256}.{number % 256}.0.1", 7000)


def peer(number: int) -> Peer:
    """Give the supernode with this number as somebody to ask."""
    return Peer(address(number), identity(number).dh_public)


def contact(number: int) -> Contact:
    """Give the supernode with this number as others are told of it."""
    return Contact.of(address(number), identity(number).dh_public)


def descriptor(
    number: int,
    incarnation: int = int(NOW),
    *,
    issued: int = int(NOW),
    at: Address | None = None,
    dh_public: bytes | None = None,
) -> Descriptor:
    """Give a signed descriptor of the supernode with this number."""
    who = identity(number)
    unsigned = Descriptor(
        public_key=who.public_key,
        dh_public=dh_public or who.dh_public,
        packed_address=(at or address(number)).pack(),
        incarnation=incarnation,
        issued=issued,
        caps=1,
        client_version="0.1.0",
    )
    return read_descriptor(sign_descriptor(who, unsigned))


def presence(
    number: int,
    seq: int = int(NOW) * 1_000,
    *,
    issued: int = int(NOW),
    ttl_s: int = 900,
    homes: tuple[Contact, ...] = (),
) -> Presence:
    """Give a signed presence of the node with this number."""
    who = identity(number)
    unsigned = Presence(
        public_key=who.public_key,
        dh_public=who.dh_public,
        seq=seq,
        issued=issued,
        ttl_s=ttl_s,
        homes=homes,
        caps=0,
        client_version="0.1.0",
    )
    return read_presence(sign_presence(who, unsigned))


def claim(
    number: int,
    name: str,
    seq: int = int(NOW) * 1_000,
    *,
    created: int = int(NOW),
) -> Claim:
    """Give a signed claim of the node with this number."""
    who = identity(number)
    unsigned = Claim(name=name, public_key=who.public_key, created=created, seq=seq)
    return read_claim(sign_claim(who, unsigned))


def randomness(seed: int) -> Callable[[int], bytes]:
    """Give a source of random bytes that repeats itself in every run."""
    return random.Random(seed).randbytes
