"""Which pairs of NATs plain hole punching joins: theory against the pure model.

Two peers learn their external endpoints from a server, are told each other's, and probe
them every 50 ms. A probe is answered to where it came from, and a source that was not
known is probed too. A pair is joined when both have an answer. Virtual time, no loss,
50 ms each way: RTT R = 0.1 s.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf

import pytest

from nat.address import Address
from nat.model import BEHAVIOURS, Nat

ONE_WAY_S = 0.05
INTERVAL_S = 0.05
GIVEN_UP_AFTER_S = 1.5
SERVER = Address("192.0.2.1", 3478)

KINDS = {
    "O": "open",
    "F": "full-cone",
    "A": "address-restricted",
    "P": "port-restricted",
    "Ss": "symmetric-sequential",
    "Sr": "symmetric-random",
}
# The theory. What fails: one side lets in only endpoints that it has sent to, and the
# other sends from one that nobody has seen.
THEORY = """
       O    F    A    P    Ss   Sr
  O   yes  yes  yes  yes  yes  yes
  F   yes  yes  yes  yes  yes  yes
  A   yes  yes  yes  yes  yes  yes
  P   yes  yes  yes  yes  no   no
  Ss  yes  yes  yes  no   no   no
  Sr  yes  yes  yes  no   no   no
"""
HEAD, *ROWS = (line.split() for line in THEORY.splitlines() if line)
CELLS = [
    (KINDS[row[0]], KINDS[column], verdict == "yes")
    for row in ROWS
    for column, verdict in zip(HEAD, row[1:], strict=True)
]


@dataclass
class World:
    """The wire between the peers: a heap of what is under way."""

    now: float = 0.0
    ahead: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    order: itertools.count[int] = field(default_factory=itertools.count)

    def plan(self, at: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.ahead, (at, next(self.order), event))

    def play(self) -> None:
        while self.ahead:
            self.now, _, event = heapq.heappop(self.ahead)
            event()


class Peer:
    """One side, behind its NAT if it has one."""

    def __init__(self, world: World, kind: str, host: str, seed: int) -> None:
        self.world = world
        self.nat = None
        self.inside = Address(host, 5000)
        if kind != "open":
            self.inside = Address("192.168.1.2", 5000)
            self.nat = Nat(BEHAVIOURS[kind], [host], random.Random(seed).randbytes)
        self.joined_at = inf
        self.known: list[Address] = []

    def begin(self, other: Peer, target: Address) -> None:
        self.other = other
        self.known.append(target)
        self.probe_all()

    def seen_by(self, target: Address) -> Address:
        if self.nat is None:
            return self.inside
        external = self.nat.outbound(self.inside, target, self.world.now)
        assert external is not None
        return external

    def probe_all(self) -> None:
        for target in self.known:
            self.send("probe", target)
        if self.world.now < GIVEN_UP_AFTER_S:
            self.world.plan(self.world.now + INTERVAL_S, self.probe_all)

    def send(self, what: str, target: Address) -> None:
        arrive = partial(self.other.arrive, what, self.seen_by(target), target)
        self.world.plan(self.world.now + ONE_WAY_S, arrive)

    def arrive(self, what: str, source: Address, target: Address) -> None:
        inside: Address | None = target
        if self.nat is not None:
            inside = self.nat.inbound(source, target, self.world.now)
        if inside != self.inside:
            return
        if what == "answer":
            self.joined_at = min(self.joined_at, self.world.now)
            return
        self.send("answer", source)
        if source not in self.known:
            self.known.append(source)
            self.send("probe", source)


def punch(one: str, other: str, skew_s: float, seed: int) -> float:
    """Give when both sides had an answer; `inf` for never."""
    world = World()
    ours = Peer(world, one, "198.51.100.1", seed)
    theirs = Peer(world, other, "198.51.100.2", seed + 1)
    ours_seen, theirs_seen = ours.seen_by(SERVER), theirs.seen_by(SERVER)
    ours.other = theirs
    world.plan(0.0, partial(ours.begin, theirs, theirs_seen))
    theirs.other = ours
    world.plan(skew_s, partial(theirs.begin, ours, ours_seen))
    world.play()
    return max(ours.joined_at, theirs.joined_at)


@pytest.mark.parametrize(("one", "other", "can_be_joined"), CELLS)
@pytest.mark.parametrize("skew_s", [0.0, 0.02, 0.05, 0.15])
def test_plain_punching_joins_exactly_the_pairs_that_theory_says(
    one: str, other: str, can_be_joined: bool, skew_s: float
) -> None:
    for seed in range(5):
        assert (punch(one, other, skew_s, seed) < inf) == can_be_joined


@pytest.mark.parametrize(
    ("one", "other"), [(one, other) for one, other, joined in CELLS if joined]
)
def test_a_pair_that_can_be_joined_is_joined_within_one_and_a_half_round_trips(
    one: str, other: str
) -> None:
    assert punch(one, other, 0.0, seed=1) <= 1.5 * 2 * ONE_WAY_S + 1e-9
