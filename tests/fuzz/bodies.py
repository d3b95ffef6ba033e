"""Bodies of every kind with the most awkward values that an insider could write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

import msgspec

from nat.address import Address
from overlay.identity import Identity
from overlay.messages import Contact
from overlay.records import (
    Claim,
    Descriptor,
    Presence,
    sign_claim,
    sign_descriptor,
    sign_presence,
)

__all__ = ["Bodies"]

NUMBERS: Final = (-1, 0, 1, 255, 256, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1)
FLOATS: Final = (
    0.0,
    -0.0,
    -1.0,
    1e-300,
    0.5,
    1.0,
    86_400.0,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
)
LENGTHS: Final = (0, 1, 5, 6, 7, 8, 9, 16, 17, 18, 19, 31, 32, 33, 64, 419, 421, 1_000)
HOSTS: Final = (
    "0.0.0.0",
    "127.0.0.1",
    "255.255.255.255",
    "224.0.0.1",
    "10.0.0.1",
    "::",
    "::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "2001:db8::1",
)
REQUESTS: Final[Mapping[int, str]] = {
    1: "",
    3: "k",
    5: "R",
    7: "rrb",
    9: "R",
    11: "k",
    15: "iSp",
    16: "ip",
    18: "c",
}
ANSWERS: Final[Mapping[int, str]] = {
    2: "aff",
    4: "Rkn",
    6: "",
    8: "fnna",
    10: "n",
    12: "R",
    13: "C",
    14: "C",
    19: "b",
    21: "fC",
    22: "n",
}
NOTICES: Final[Mapping[int, str]] = {17: "ip", 20: "c", 23: ""}
IN_CALLS: Final[Mapping[int, str]] = {
    64: "rnb",
    65: "O",
    66: "n",
    67: "C",
    68: "T",
    69: "T",
    70: "n",
    71: "",
}
# By tag; a letter for each field, see `Bodies._field`.


class Bodies:
    """What one insider writes. It knows some of the keys and names of its world."""

    def __init__(self, random: Random, insider: Identity, now: float) -> None:
        self._random = random
        self._insider = insider
        self._now = now
        self.known_bytes: list[bytes] = []
        """Keys, ids, channels, records and payloads that were seen."""
        self.addresses: list[Address] = []
        self._fields: dict[str, Callable[[], object]] = {
            "a": lambda: self.address().pack(),
            "b": lambda: self._random.choice((True, False, 2, None)),
            "c": lambda: self._bytes(8),
            "f": lambda: self._random.choice((*FLOATS, *NUMBERS)),
            "i": lambda: self._bytes(16),
            "k": lambda: self._bytes(8),
            "n": lambda: self._random.choice((*NUMBERS, *range(12))),
            "p": lambda: self._payload(),
            "r": lambda: self.record(),
            "C": lambda: self._several(self._contact, 9),
            "O": lambda: self._several(lambda: [self._contact(), self._float()], 4),
            "R": lambda: self._several(self.record, 7),
            "S": lambda: self._bytes(32),
            "T": lambda: self._several(self._candidate, 9),
        }

    def request(self) -> bytes:
        """Give the body of a request."""
        return self._body(REQUESTS)

    def answer(self) -> bytes:
        """Give the body of an answer."""
        return self._body(ANSWERS)

    def notice(self) -> bytes:
        """Give the body of a notice."""
        return self._body(NOTICES)

    def in_call(self) -> bytes:
        """Give the body of something said in a call."""
        return self._body(IN_CALLS)

    def any(self) -> bytes:
        """Give a body of any kind, or none."""
        kinds = (self.request, self.answer, self.notice, self.in_call)
        if self._random.random() < 0.1:
            return self._random.randbytes(self._random.choice(LENGTHS))
        return self._random.choice(kinds)()

    def address(self) -> Address:
        """Give an address: of somebody here, or of nobody."""
        if self.addresses and self._random.random() < 0.6:
            return self._random.choice(self.addresses)
        port = self._random.choice((0, 1, 53, 7_000, 65_535))
        return Address(self._random.choice(HOSTS), port)

    def record(self) -> bytes:
        """Give a record: seen, or signed by the insider with awkward fields."""
        lot = self._random.random()
        if lot < 0.3:
            return self._payload()
        who, number = self._insider, self._random.choice
        seq = number((0, 1, int(self._now), int(self._now * 1_000), 2**63 - 1))
        issued = number((0, int(self._now), int(self._now) + 86_000, 2**40))
        if lot < 0.5:
            name = number(("abc", "alice", "a" * 32, "leaf1"))
            return sign_claim(
                who,
                Claim(name=name, public_key=who.public_key, created=issued, seq=seq),
            )
        dh_public = number((who.dh_public, who.dh_public, self._bytes(32, exact=True)))
        if lot < 0.75:
            descriptor = Descriptor(
                public_key=who.public_key,
                dh_public=dh_public,
                packed_address=self.address().pack(),
                incarnation=seq,
                issued=issued,
                caps=number((0, 1, 2**32 - 1)),
                client_version="",
            )
            return sign_descriptor(who, descriptor)
        presence = Presence(
            public_key=who.public_key,
            dh_public=dh_public,
            seq=seq,
            issued=issued,
            ttl_s=number((1, 900, 3_600)),
            homes=tuple(
                Contact.of(self.address(), self._bytes(32, exact=True))
                for _ in range(number((0, 1, 3)))
            ),
            caps=0,
            client_version="~" * 16,
        )
        return sign_presence(who, presence)

    def _body(self, kinds: Mapping[int, str]) -> bytes:
        tag = self._random.choice(tuple(kinds))
        fields = [self._fields[letter]() for letter in kinds[tag]]
        lot = self._random.random()
        if lot < 0.05 and fields:
            fields[self._random.randrange(len(fields))] = self._nonsense()
        elif lot < 0.08:
            fields = fields[:-1]
        elif lot < 0.1:
            fields.append(self._nonsense())
        return msgspec.msgpack.encode([tag, *fields])

    def _nonsense(self) -> object:
        return self._random.choice(
            (
                None,
                "é" * 40,
                b"\xff" * 33,
                [[[]]],
                {"a": 1},
                -1,
                2**64 - 1,
                0.5,
                [0] * 99,
            )
        )

    def _bytes(self, length: int, *, exact: bool = False) -> bytes:
        known = [each for each in self.known_bytes if len(each) == length]
        if known and self._random.random() < 0.7:
            return self._random.choice(known)
        lengths = (length,) if exact else (length, length, length, *LENGTHS[:8])
        return self._random.randbytes(self._random.choice(lengths))

    def _payload(self) -> bytes:
        if self.known_bytes and self._random.random() < 0.7:
            return self._random.choice(self.known_bytes)
        return self._random.randbytes(self._random.choice(LENGTHS))

    def _several(self, one: Callable[[], object], count_max: int) -> list[object]:
        count = self._random.choice((0, 1, 1, 2, 3, count_max))
        return [one() for _ in range(count)]

    def _contact(self) -> list[object]:
        return [self.address().pack(), self._bytes(32)]

    def _float(self) -> float:
        return self._random.choice(FLOATS)

    def _candidate(self) -> str:
        address = self.address()
        kind = self._random.choice(("host", "srflx", "prflx", "relay", "x"))
        priority = self._random.choice((0, 1, 2**31 - 1, 2**31, 10**9))
        return f"a 1 udp {priority} {address.host} {address.port} typ {kind}"
