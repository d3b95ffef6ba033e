"""What all parts of one simulated run share: seed, randomness, time and record."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import trio

from nat.address import Address
from tests.vnet.clock import VirtualClock
from tests.vnet.ledger import Fate, Ledger, Observer, Sighting

__all__ = ["UNIX_EPOCH_OFFSET_S", "Datagram", "Run"]

UNIX_EPOCH_OFFSET_S: Final = 1_767_225_600.0
# 2026-01-01T00:00:00Z: the time of day at virtual second 0.


class Datagram(NamedTuple):
    """A datagram on its way, with the endpoints it has right here."""

    payload: bytes
    source: Address
    target: Address
    origin: str
    hops_left: int


class Run:
    """One run, from its seed to its trace."""

    def __init__(self, seed: int) -> None:
        self.seed: Final = seed
        self.random: Final = random.Random(seed)
        self.clock: Final = VirtualClock()
        self.ledger: Final = Ledger()
        self._observers: list[Observer] = []
        self._objection: AssertionError | None = None
        self._scope: trio.CancelScope | None = None

    def observe(self, observer: Observer) -> None:
        """Have `observer` called with every sighting from now on.

        If it raises `AssertionError`, the run ends at once, with that error.
        """
        self._observers.append(observer)

    def report(self, fate: Fate, place: str, datagram: Datagram) -> None:
        """Tell the ledger and the observers what became of a datagram."""
        sighting = Sighting(
            self.clock.now_s,
            fate,
            place,
            datagram.origin,
            datagram.source,
            datagram.target,
            datagram.payload,
        )
        self.ledger.record(sighting)
        for observer in self._observers:
            try:
                observer(sighting)
            except AssertionError as objection:
                self._object(objection)

    @contextmanager
    def ended_by_observers(self) -> Iterator[None]:
        """Cancel the body when an observer objects, and raise its first objection."""
        with trio.CancelScope() as self._scope:
            yield
        if self._objection:
            raise self._objection

    def _object(self, objection: AssertionError) -> None:
        self._objection = self._objection or objection
        if self._scope:
            self._scope.cancel()
