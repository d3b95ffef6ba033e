"""TAI64N: an instant in 12 bytes that sort as they follow each other.

    offset 0   2**62 + 10 + seconds since the Unix epoch, 8 bytes, big-endian
    offset 8   nanoseconds, 0..999,999,999, 4 bytes, big-endian

An initiator puts one into the first message of its handshake; a responder accepts only
greater ones than it has seen from the same key, by comparing the bytes, so that a
recorded first message is worth nothing. Leap seconds are left out, as in WireGuard:
only the order counts.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from typing import Final

from nat.errors import WireError

__all__ = ["TAI64N_BYTES", "GreatestTimestamps", "decode", "encode"]

TAI64N_BYTES: Final = 12

EPOCH: Final = 2**62 + 10
# The Unix epoch as a TAI64 label: TAI was 10 s ahead of UTC when 1970 began.
SECONDS_MAX: Final = 2**62
# Labels from 2**63 on are reserved.

TIMESTAMPS_MAX: Final = 65_536
# 10 MB; 80 times the sessions a supernode holds.


def encode(now: float) -> bytes:
    """Give the 12 bytes of an instant in seconds since the Unix epoch.

    A later instant never gives lesser bytes. `ValueError` for an instant before 1970.
    """
    if not 0 <= now < SECONDS_MAX - 10:
        raise ValueError(f"{now} s since the Unix epoch, expected at least 0")
    seconds = math.floor(now)
    return struct.pack(">QI", EPOCH + seconds, int((now - seconds) * 1e9))


def decode(packed: bytes) -> float:
    """Give the instant in seconds since the Unix epoch. Raises `WireError`."""
    if len(packed) != TAI64N_BYTES:
        raise WireError(f"a timestamp of {len(packed)} bytes, expected 12")
    label = int.from_bytes(packed[:8], "big")
    nanoseconds = int.from_bytes(packed[8:], "big")
    if not 0 <= label - EPOCH < SECONDS_MAX - 10 or nanoseconds > 999_999_999:
        raise WireError(f"{packed.hex()} is no timestamp after 1970")
    return label - EPOCH + nanoseconds / 1e9


class GreatestTimestamps:
    """The greatest timestamp each static key has shown: what is older is a recording.

    Bounded: the key not heard of for longest is forgotten first. From then on nothing
    older than what was forgotten is taken from keys that are not known, nor anything
    older than `floor`, so that no recording is taken for new.
    """

    def __init__(self, keys_max: int = TIMESTAMPS_MAX, floor: bytes = b"") -> None:
        self._floor = floor
        self._greatest = OrderedDict[bytes, bytes]()
        self._keys_max = keys_max
        self.refused = 0
        self.forgotten = 0

    def accept(self, static_key: bytes, timestamp: bytes) -> bool:
        """Remember the timestamp if it is greater than all before, else refuse it."""
        if timestamp <= self._greatest.get(static_key, self._floor):
            self.refused += 1
            return False
        self._greatest[static_key] = timestamp
        self._greatest.move_to_end(static_key)
        if len(self._greatest) > self._keys_max:
            _, forgotten = self._greatest.popitem(last=False)
            self._floor = max(self._floor, forgotten)
            self.forgotten += 1
        return True

    def __len__(self) -> int:
        return len(self._greatest)
