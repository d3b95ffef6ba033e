"""What a wire does to datagrams, by numbers."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from tests.vnet.ledger import Fate
from tests.vnet.link import HEADER_BYTES, Link, LinkQuality

SENT = 20_000
INTERVAL_S = 0.02


def link_of(quality: LinkQuality) -> Link:
    return Link(quality, random.Random(1))


def arrivals(quality: LinkQuality, payload: bytes = b"x" * 100) -> list[list[float]]:
    """Send a long stream, and give the delays of the copies of each datagram."""
    link = link_of(quality)
    delays = []
    for number in range(SENT):
        now = number * INTERVAL_S
        transits = link.transits(payload, now)
        copies = [] if isinstance(transits, Fate) else transits
        delays.append([at - now for at, _ in copies])
    return delays


def share(delays: list[list[float]], copies: int) -> float:
    return sum(len(datagram) == copies for datagram in delays) / len(delays)


def test_a_perfect_wire_gives_every_datagram_at_once_and_unchanged() -> None:
    link = link_of(LinkQuality())
    assert link.transits(b"hello", 5.0) == [(5.0, b"hello")]


def test_a_delay_is_exact() -> None:
    link = link_of(LinkQuality(delay_s=0.25))
    assert link.transits(b"hello", 5.0) == [(5.25, b"hello")]


def test_jitter_spreads_over_its_range_and_never_reorders() -> None:
    link = link_of(LinkQuality(delay_s=0.1, jitter_s=0.1))
    at = []
    for number in range(1_000):
        transits = link.transits(b"x", number * 0.001)
        assert not isinstance(transits, Fate)
        at.append(transits[0][0])
    assert at == sorted(at)
    spread = [delay for (delay,) in arrivals(LinkQuality(delay_s=0.1, jitter_s=0.02))]
    assert 0.1 <= min(spread) < 0.101
    assert 0.119 < max(spread) <= 0.12 + 1e-9


def test_only_reordered_datagrams_are_overtaken() -> None:
    quality = LinkQuality(delay_s=0.1, reorder=0.05, reorder_s=0.05)
    delays = [delay for (delay,) in arrivals(quality)]
    late = sum(delay > 0.149 for delay in delays) / SENT
    assert late == pytest.approx(0.05, rel=0.1)
    assert {round(delay, 6) for delay in delays} == {0.1, 0.15}


@pytest.mark.parametrize("loss", [0.01, 0.1, 0.5])
def test_as_many_are_lost_as_asked_for(loss: float) -> None:
    delays = arrivals(LinkQuality(loss=loss))
    four_sigma = 4 * math.sqrt(loss * (1 - loss) / SENT)
    assert share(delays, copies=0) == pytest.approx(loss, abs=four_sigma)


def lengths_of_bursts(delays: list[list[float]]) -> list[int]:
    runs = itertools.groupby(delays, key=lambda copies: not copies)
    return [len(list(run)) for is_lost, run in runs if is_lost]


@pytest.mark.parametrize("burst", [2.0, 5.0])
def test_losses_come_in_bursts_of_the_mean_length_asked_for(burst: float) -> None:
    delays = arrivals(LinkQuality(loss=0.1, burst=burst))
    lengths = lengths_of_bursts(delays)
    assert share(delays, copies=0) == pytest.approx(0.1, rel=0.15)
    assert sum(lengths) / len(lengths) == pytest.approx(burst, rel=0.15)


def test_independent_losses_have_the_bursts_that_chance_gives() -> None:
    lengths = lengths_of_bursts(arrivals(LinkQuality(loss=0.2)))
    assert sum(lengths) / len(lengths) == pytest.approx(1 / 0.8, rel=0.05)


@pytest.mark.parametrize("burst", [1.0, 10.0])
def test_a_total_loss_is_total(burst: float) -> None:
    assert share(arrivals(LinkQuality(loss=1.0, burst=burst)), copies=0) == 1.0


def test_duplicates_come_as_often_as_asked_for_and_only_once_more() -> None:
    delays = arrivals(LinkQuality(duplicate=0.1))
    assert share(delays, copies=2) == pytest.approx(0.1, rel=0.1)
    assert share(delays, copies=1) + share(delays, copies=2) == 1.0


def test_corruption_flips_exactly_one_bit() -> None:
    link = link_of(LinkQuality(corrupt=0.3))
    damaged = 0
    for _ in range(5_000):
        transits = link.transits(bytes(20), 0.0)
        assert not isinstance(transits, Fate)
        bits = int.from_bytes(transits[0][1], "big").bit_count()
        assert bits in (0, 1)
        damaged += bits
    assert damaged / 5_000 == pytest.approx(0.3, rel=0.1)


def test_an_empty_datagram_cannot_be_corrupted() -> None:
    assert link_of(LinkQuality(corrupt=1.0)).transits(b"", 0.0) == [(0.0, b"")]


def test_a_limited_rate_spaces_datagrams_and_drops_what_overflows_its_buffer() -> None:
    size = 1_000 - HEADER_BYTES
    link = link_of(LinkQuality(rate_bytes_per_s=10_000, buffer_s=0.25))
    sent = [link.transits(bytes(size), now) for now in (0.0, 0.0, 0.0, 0.0, 0.5)]
    assert sent[2:4] == [Fate.LINK_FULL, Fate.LINK_FULL]
    at = [transits[0][0] for transits in sent if not isinstance(transits, Fate)]
    assert at == pytest.approx([0.1, 0.2, 0.6])


def test_a_cut_link_lets_nothing_pass_until_it_is_healed() -> None:
    link = link_of(LinkQuality())
    link.is_cut = True
    assert link.transits(b"x", 0.0) is Fate.LINK_CUT
    link.is_cut = False
    assert link.transits(b"x", 1.0) == [(1.0, b"x")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": 1.1},
        {"duplicate": -0.1},
        {"burst": 0.5},
        {"delay_s": -1.0},
        {"loss": 0.9, "burst": 2.0},
    ],
    ids=str,
)
def test_a_quality_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|needs"):
        LinkQuality(**wrong)
