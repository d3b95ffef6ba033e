"""The one gate every datagram of a node leaves through.

A node that answers strangers can be made to flood a third address: the stranger forges
the source, and the answer goes there. So *to an address that has not been validated we
never send more bytes than came from it*, plus what we granted ourselves because we
begin something there (a handshake, a check of a candidate), which is bounded too:

    heard(source, n)     the address earns n bytes
    grant(target, n)     we may begin with n bytes, GRANTED_BYTES_MAX a minute at most
    allows(target, n)    spends n bytes, or refuses and counts
    validate(address)    it answered what only it can have seen: no limit any more,
                         until it has shown nothing of that kind for VALIDATION_S

Strangers and validated addresses are kept apart, so that a flood of forged sources
pushes out strangers only. The order of use is the order of the tables: the longest idle
entry goes first. An address that was pushed out is a stranger without credit, which is
always safe.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from nat.address import Address

__all__ = [
    "CREDIT_BYTES_MAX",
    "GRANTED_BYTES_MAX",
    "GRANT_PERIOD_S",
    "STRANGERS_MAX",
    "VALIDATED_MAX",
    "VALIDATION_S",
    "Gate",
    "GateStatistics",
]

STRANGERS_MAX: Final = 65_536
# 20 MB at most; at 10,000 forged sources a second an answer has 6 s to use its credit.
VALIDATED_MAX: Final = 16_384
# All supernodes of the largest ring planned for (10,000), and 750 leaves many times.
VALIDATION_S: Final = 180.0
# Nine missed keepalives; the time after which a session's keys are refused as well.
CREDIT_BYTES_MAX: Final = 65_536
# An answer uses at most what its request brought; this bounds what a flood can save up.
GRANTED_BYTES_MAX: Final = 12_000
# An address a minute: 20 first handshake messages of 600 bytes, or 120 checks.
GRANT_PERIOD_S: Final = 60.0
# Rejoining backs off up to this long.


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """Counts since the start, and how many addresses are known now."""

    refused: int
    refused_bytes: int
    grants_clipped: int
    strangers_dropped: int
    validated_dropped: int
    strangers: int
    validated: int


@dataclass(slots=True)
class _Account:
    """What one stranger has earned and was granted."""

    credit_bytes: int = 0
    granted_bytes: int = 0
    grants_renewed_at: float = -math.inf


class Gate:
    """The credit of every address a node has to do with; lives as long as the node."""

    def __init__(self) -> None:
        self._strangers: OrderedDict[Address, _Account] = OrderedDict()
        self._validated: OrderedDict[Address, float] = OrderedDict()
        self._refused = 0
        self._refused_bytes = 0
        self._grants_clipped = 0
        self._strangers_dropped = 0
        self._validated_dropped = 0

    def heard(self, source: Address, size: int, now: float) -> None:
        """A datagram of `size` bytes came from `source`, whatever it was."""
        if not self.is_validated(source, now):
            account = self._account(source)
            account.credit_bytes = min(account.credit_bytes + size, CREDIT_BYTES_MAX)

    def validate(self, address: Address, now: float) -> None:
        """The address answered something that only it can have seen."""
        self._strangers.pop(address, None)
        self._keep_validated(address, now)
        if len(self._validated) > VALIDATED_MAX:
            self._validated.popitem(last=False)
            self._validated_dropped += 1

    def grant(self, target: Address, size: int, now: float) -> None:
        """We begin something at `target` ourselves and mean to send it `size` bytes."""
        if self.is_validated(target, now):
            return
        account = self._account(target)
        if now >= account.grants_renewed_at:
            account.granted_bytes = 0
            account.grants_renewed_at = now + GRANT_PERIOD_S
        granted = min(size, GRANTED_BYTES_MAX - account.granted_bytes)
        account.granted_bytes += granted
        account.credit_bytes = min(account.credit_bytes + granted, CREDIT_BYTES_MAX)
        self._grants_clipped += granted < size

    def is_validated(self, address: Address, now: float) -> bool:
        """Tell whether the address has shown that it receives what we send it."""
        expires_at = self._validated.get(address)
        if expires_at is None:
            return False
        if now >= expires_at:
            del self._validated[address]
            return False
        return True

    def allows(self, target: Address, size: int, now: float) -> bool:
        """Tell whether a datagram may go out now, and take it off the credit if so."""
        if self.is_validated(target, now):
            return True
        account = self._strangers.get(target)
        if account is None or account.credit_bytes < size:
            self._refused += 1
            self._refused_bytes += size
            return False
        account.credit_bytes -= size
        return True

    def statistics(self) -> GateStatistics:
        """Give the counts."""
        return GateStatistics(
            refused=self._refused,
            refused_bytes=self._refused_bytes,
            grants_clipped=self._grants_clipped,
            strangers_dropped=self._strangers_dropped,
            validated_dropped=self._validated_dropped,
            strangers=len(self._strangers),
            validated=len(self._validated),
        )

    def _keep_validated(self, address: Address, now: float) -> None:
        self._validated[address] = now + VALIDATION_S
        self._validated.move_to_end(address)

    def _account(self, address: Address) -> _Account:
        account = self._strangers.get(address)
        if account is None:
            account = self._strangers[address] = _Account()
            if len(self._strangers) > STRANGERS_MAX:
                self._strangers.popitem(last=False)
                self._strangers_dropped += 1
        else:
            self._strangers.move_to_end(address)
        return account
