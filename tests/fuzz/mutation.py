"""Bytes that are almost right: what a hostile sender makes of real messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

__all__ = ["mutate", "some_bytes"]

BYTES_MAX: Final = 1_500
EXTREMES: Final = (
    0x00,
    0x01,
    0x7F,
    0x80,
    0x90,
    0x9F,
    0xC0,
    0xC1,
    0xDC,
    0xDD,
    0xFE,
    0xFF,
)
# Ends of ranges, and the first bytes of msgpack's arrays, nil and reserved.


def mutate(random: Random, samples: Sequence[bytes]) -> bytes:
    """Give a sample that was changed once or a few times; sometimes not at all."""
    data = random.choice(samples)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 8))):
        data = random.choice(_CHANGES)(random, data, samples)
    return data[:BYTES_MAX]


def some_bytes(random: Random) -> bytes:
    """Give random bytes, short ones more often."""
    return random.randbytes(int(BYTES_MAX ** random.random()) - 1)


def _flip(random: Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << random.randrange(8),)) + data[at + 1 :]


def _set(random: Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    if not data:
        return data
    at = random.randrange(len(data))
    run = bytes((random.choice(EXTREMES),)) * random.choice((1, 1, 1, 2, 4, 8))
    return data[:at] + run + data[at + len(run) :]


def _truncate(random: Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _extend(random: Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    return data + some_bytes(random)


def _insert(random: Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.randbytes(random.choice((1, 1, 2, 4, 32))) + data[at:]


def _delete(random: Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at + random.choice((1, 1, 2, 4, 32)) :]


def _repeat(random: Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + data[at : at + 16] * random.choice((2, 3, 40)) + data[at:]


def _splice(random: Random, data: bytes, samples: Sequence[bytes]) -> bytes:
    other = random.choice(samples)
    at = random.randrange(len(data) + 1)
    return data[:at] + other[min(at, len(other)) :]


_Change = Callable[[Random, bytes, Sequence[bytes]], bytes]
_CHANGES: Final[tuple[_Change, ...]] = (
    _flip,
    _flip,
    _set,
    _set,
    _truncate,
    _extend,
    _insert,
    _delete,
    _repeat,
    _splice,
)
