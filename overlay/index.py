"""The part of the index that one supernode holds.

                          +-- presence of pk -- under id_key(pk)
    records, verified --> |        ^
                          |        | is found through
                          +-- claim of a name by pk -- under name_key(name)

A presence is held once for each identity and found under the identity's key and under
every name which that identity claims here. Of two records of one identity the one with
the higher `seq` counts; storing what is already held changes nothing, except that a
claim stored again lives on.

Nothing here knows the ring: who calls `keep` has seen to it that we own the key.
Claims live in memory only. Handing records over to new owners, digests, and the proofs
of work and receipts of claims find their place here. Sans-IO, bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from nat.errors import WireError
from overlay.messages import RECORDS_MAX
from overlay.records import (
    Claim,
    Descriptor,
    Presence,
    SignedRecord,
    id_key,
    name_key,
    read_record,
)
from overlay.shelf import Shelf

__all__ = ["Index", "IndexStatistics"]

PRESENCES_MAX: Final = 20_000
# 25 times the load expected of an owner (800); some 15 MB.
CLAIMS_MAX: Final = 20_000
# A name for each of them; some 10 MB.
CLAIMS_PER_NAME_MAX: Final = 8
# More would not be shown to anybody.
PRESENCE_TTL_S_MAX: Final = 900.0
# Three refreshes; a record that asks for longer is held so long.
CLAIM_TTL_S: Final = 30 * 86_400.0
# A month away does not cost one's name.
CLOCK_SKEW_S_MAX: Final = 86_400.0
# Clocks of leaves are wrong by hours; a seq from further ahead would lock its own
# identity out, an older presence is a replay.
VALUE_BYTES_MAX: Final = 1_000
# Of records in one answer: leaves room for the answer's own fields in a datagram.


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """What the index holds now, and what became of all that was brought to it."""

    presences: int
    claims: int
    kept: int
    refused_invalid: int
    refused_by_clock: int
    refused_full: int
    expired: int


class Index:
    """Records by key; lives as long as its node is a supernode."""

    def __init__(self) -> None:
        self._presences: Shelf[bytes, Presence] = Shelf(PRESENCES_MAX)
        self._claims: Shelf[tuple[bytes, bytes], Claim] = Shelf(CLAIMS_MAX)
        self._identities: dict[bytes, bytes] = {}
        self._claimants: dict[bytes, list[bytes]] = {}
        self._kept = 0
        self._refused_invalid = 0
        self._refused_by_clock = 0
        self._refused_full = 0
        self._expired = 0

    def store(self, raw: bytes, now: float) -> bool:
        """Verify and hold a record; whether it, or a newer one, is held now."""
        try:
            record = read_record(raw)
        except WireError:
            self._refused_invalid += 1
            return False
        return self.keep(record, now)

    def keep(self, record: SignedRecord, now: float) -> bool:
        """Hold a verified record; whether it, or a newer one, is held now."""
        match record:
            case Presence():
                kept = self._store_presence(record, now)
            case Claim():
                kept = self._store_claim(record, now)
            case Descriptor():
                self._refused_invalid += 1
                kept = False
            case _:
                assert_never(record)
        self._kept += kept
        return kept

    def look_up(self, key: bytes, now: float) -> tuple[bytes, ...]:
        """Give the records under a key that fit one answer; () if there are none.

        Under a name: its claims, first come first, then the presence if there is one
        claimant. Under an identity: its presence.
        """
        claims = self._claims_under(key, now)
        found = [claim.raw for claim in claims]
        if len(claims) == 1:
            found += self._presence_of(claims[0].public_key, now)
        elif not claims and key in self._identities:
            found += self._presence_of(self._identities[key], now)
        while sum(map(len, found)) > VALUE_BYTES_MAX or len(found) > RECORDS_MAX:
            found.pop()
        return tuple(found)

    def keys(self) -> tuple[bytes, ...]:
        """Give every key that something is held under."""
        return (*self._identities, *self._claimants)

    def statistics(self) -> IndexStatistics:
        """Give the counts."""
        return IndexStatistics(
            presences=len(self._presences),
            claims=len(self._claims),
            kept=self._kept,
            refused_invalid=self._refused_invalid,
            refused_by_clock=self._refused_by_clock,
            refused_full=self._refused_full,
            expired=self._expired,
        )

    def handle_timeout(self, now: float) -> None:
        """Drop what is over."""
        for public_key, _ in self._presences.expire(now):
            del self._identities[id_key(public_key)]
            self._expired += 1
        for (key, public_key), _ in self._claims.expire(now):
            self._claimants[key].remove(public_key)
            if not self._claimants[key]:
                del self._claimants[key]
            self._expired += 1

    def next_timeout(self) -> float:
        """Give the instant at which something may be over."""
        return min(self._presences.next_expiry(), self._claims.next_expiry())

    def _store_presence(self, presence: Presence, now: float) -> bool:
        oldest = presence.issued + presence.ttl_s + CLOCK_SKEW_S_MAX
        if self._is_ahead(presence.seq, presence.issued, now) or now > oldest:
            self._refused_by_clock += 1
            return False
        held = self._presences.get(presence.public_key, now)
        if held is not None and presence.seq <= held.seq:
            return True
        self.handle_timeout(now)
        ttl_s = min(presence.ttl_s, PRESENCE_TTL_S_MAX)
        if not self._presences.put(presence.public_key, presence, now + ttl_s):
            self._refused_full += 1
            return False
        self._identities[id_key(presence.public_key)] = presence.public_key
        return True

    def _store_claim(self, claim: Claim, now: float) -> bool:
        if self._is_ahead(claim.seq, claim.created, now):
            self._refused_by_clock += 1
            return False
        self.handle_timeout(now)
        key = name_key(claim.name)
        held = self._claims.get((key, claim.public_key), now)
        if held is not None and claim.seq < held.seq:
            return True
        if held is not None and claim.seq == held.seq:
            claim = held
        claimants = self._claimants.get(key, [])
        full = held is None and len(claimants) >= CLAIMS_PER_NAME_MAX
        if full or not self._claims.put(
            (key, claim.public_key), claim, now + CLAIM_TTL_S
        ):
            self._refused_full += 1
            return False
        if held is None:
            self._claimants.setdefault(key, []).append(claim.public_key)
        return True

    def _is_ahead(self, seq: int, issued: int, now: float) -> bool:
        """Whether a record is from too far in the future. `seq` counts milliseconds."""
        latest = now + CLOCK_SKEW_S_MAX
        return seq > latest * 1_000 or issued > latest

    def _claims_under(self, key: bytes, now: float) -> list[Claim]:
        held = (self._claims.get((key, pk), now) for pk in self._claimants.get(key, ()))
        return [claim for claim in held if claim is not None]

    def _presence_of(self, public_key: bytes, now: float) -> list[bytes]:
        presence = self._presences.get(public_key, now)
        return [] if presence is None else [presence.raw]
