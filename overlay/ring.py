"""The ring: which supernodes own which part of the index.

Keys and supernodes sit on one circle of 64 bits. A key is owned by the first eight
seats at or after it (going round), but a seat in the same /16 (IPv6: /32) as one
already taken gives way to the next one that is not. Where there are not enough of
those, as on a LAN, the nearest that gave way own it after all; so with eight supernodes
or fewer all own everything.

    key ----> A     B     C'    D     E ...      C' shares its /16 with A and is passed
              own   own         own   own

A seat's position, 8 bytes:

    offset 0   BLAKE2b-6("pos1" || the address's /24 (IPv6: /48) || r)
    offset 6   bytes 1 and 2 of BLAKE2b-64(public key)

with r = byte 0 of that last hash & 7. So an address has eight places on the ring, and
nobody chooses a better one by making keys: the last two bytes only order the members
of one place, so that pages of the ring never stop among equals.

Two supernodes whose rings differ by a few members disagree on the owners of a key by at
most those few. Pure.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nat.address import Address
from overlay.ask import Peer
from overlay.messages import OWNERS_MAX, Contact
from overlay.records import Descriptor

__all__ = ["MEMBERS_MAX", "Ring", "Seat", "position"]

MEMBERS_MAX: Final = 10_000
# The design's largest network: a million leaves at 1 : 100.
SCAN_MAX: Final = 64
# Seats looked at for diverse owners: 8 times the owners, whatever sits on the ring.
RING_SIZE: Final = 2**64
# Positions are 8 bytes.


@dataclass(frozen=True, slots=True, order=True)
class Seat:
    """One supernode's place on the ring."""

    position: bytes
    static: bytes
    address: Address

    @classmethod
    def of(cls, descriptor: Descriptor) -> Seat:
        """Give the seat of the supernode that this describes."""
        address = descriptor.address
        place = position(address, descriptor.public_key)
        return cls(place, descriptor.dh_public, address)

    @property
    def contact(self) -> Contact:
        """How others are told of it."""
        return Contact.of(self.address, self.static)

    @property
    def peer(self) -> Peer:
        """How it is asked."""
        return Peer(self.address, self.static)


def position(address: Address, public_key: bytes) -> bytes:
    """Give the ring position of a supernode."""
    of_key = hashlib.blake2b(public_key).digest()
    place = b"pos1" + address.prefix(24, 48) + bytes((of_key[0] & 7,))
    return hashlib.blake2b(place, digest_size=6).digest() + of_key[1:3]


class Ring:
    """The supernodes that count, as one node sees them. Iterates in ring order."""

    def __init__(self) -> None:
        self._seats: list[Seat] = []
        self._by_static: dict[bytes, Seat] = {}

    def __len__(self) -> int:
        return len(self._seats)

    def __iter__(self) -> Iterator[Seat]:
        return iter(tuple(self._seats))

    def __contains__(self, static: object) -> bool:
        return static in self._by_static

    def add(self, seat: Seat) -> bool:
        """Seat a supernode, or move it; False if the ring is full."""
        self.remove(seat.static)
        if len(self._seats) >= MEMBERS_MAX:
            return False
        insort(self._seats, seat)
        self._by_static[seat.static] = seat
        return True

    def remove(self, static: bytes) -> None:
        """Take a supernode off the ring, if it is there."""
        seat = self._by_static.pop(static, None)
        if seat is not None:
            del self._seats[bisect_left(self._seats, seat)]

    def owners(self, key: bytes, count: int = OWNERS_MAX) -> tuple[Seat, ...]:
        """Give the owners of a key: `count`, or all there are."""
        return self._owners_from(self._first_at(key), count)

    def page(self, start: bytes, count: int) -> tuple[tuple[Seat, ...], bytes]:
        """Give the first seats at or after `start`, and where the next page starts.

        The second is the `start` of the next page, empty after the last one; it is
        always greater than `start`.
        """
        first = self._first_at(start)
        seats = tuple(self._seats[first : first + count])
        if first + count >= len(self._seats):
            return seats, b""
        following = self._seats[first + count].position
        if following > start:
            return seats, following
        # A whole page of equal positions: somebody made keys to that end. Go on past.
        past = int.from_bytes(start, "big") + 1
        return seats, past.to_bytes(8, "big") if past < RING_SIZE else b""

    def share(self, static: bytes) -> float:
        """Give the part of all keys, 0..1, that a member owns."""
        seat = self._by_static.get(static)
        if seat is None:
            return 0.0
        if len(self._seats) <= OWNERS_MAX:
            return 1.0
        index = bisect_left(self._seats, seat)
        reach = min(SCAN_MAX, len(self._seats))
        owned = sum(
            self._arc_before(first)
            for first in range(index - reach + 1, index + 1)
            if seat in self._owners_from(first, OWNERS_MAX)
        )
        return owned / RING_SIZE

    def _first_at(self, key: bytes) -> int:
        return bisect_left(self._seats, key, key=lambda seat: seat.position)

    def _owners_from(self, first: int, count: int) -> tuple[Seat, ...]:
        chosen: list[Seat] = []
        passed: list[Seat] = []
        networks: set[bytes] = set()
        for index in range(first, first + min(SCAN_MAX, len(self._seats))):
            seat = self._seats[index % len(self._seats)]
            network = seat.address.prefix(16, 32)
            (passed if network in networks else chosen).append(seat)
            networks.add(network)
            if len(chosen) == count:
                break
        return tuple(chosen + passed)[:count]

    def _arc_before(self, index: int) -> int:
        """Give how many keys have the seat at this index as the first after them."""
        here, before = (
            int.from_bytes(self._seats[at % len(self._seats)].position, "big")
            for at in (index, index - 1)
        )
        return (here - before) % RING_SIZE
