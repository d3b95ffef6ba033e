"""Counting what came, and the E-model's opinion of it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.frame import FRAME_S
from media.quality import Reception, mos


def perfect(**changed: float) -> float:
    conditions = {
        "concealed": 0.0,
        "repaired": 0.0,
        "one_way_s": 0.08,
        "bitrate_bps": 24_000.0,
        **changed,
    }
    return mos(
        concealed=conditions["concealed"],
        repaired=conditions["repaired"],
        one_way_s=conditions["one_way_s"],
        bitrate_bps=conditions["bitrate_bps"],
        fec=bool(conditions.get("fec")),
    )


@pytest.mark.parametrize(
    ("bitrate_bps", "rating"), [(24_000, 87.6), (16_000, 83.2), (12_000, 74.2)]
)
def test_without_loss_only_the_rate_counts(bitrate_bps: int, rating: float) -> None:
    expected = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6
    assert perfect(bitrate_bps=bitrate_bps) == pytest.approx(expected)


def test_ten_percent_made_up_at_24_kbit_is_the_worked_example() -> None:
    # Ie_eff = 5.6 + 89.4 x 10/18.6 = 53.66; R = 39.54
    rating = 93.2 - (5.6 + (95 - 5.6) * 10 / 18.6)
    expected = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6
    assert perfect(concealed=0.10) == pytest.approx(expected)
    assert expected == pytest.approx(2.05, abs=0.01)


def test_a_repaired_frame_counts_as_a_fifth_of_a_made_up_one() -> None:
    assert perfect(repaired=0.10) == pytest.approx(perfect(concealed=0.021))


def test_delay_costs_nothing_up_to_100_ms() -> None:
    assert perfect(one_way_s=0.1) == perfect(one_way_s=0.0)


@pytest.mark.parametrize(
    ("one_way_s", "impairment"), [(0.2, 3.04), (0.3, 14.82), (0.4, 24.14)]
)
def test_longer_delay_costs_what_g107_says(one_way_s: float, impairment: float) -> None:
    # ITU-T G.107 (7-28), worked by hand
    rating = 87.6 - impairment
    expected = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6
    assert perfect(one_way_s=one_way_s) == pytest.approx(expected, abs=0.01)


def test_armed_fec_costs_a_little() -> None:
    assert perfect(fec=1) < perfect()
    assert perfect(fec=1, bitrate_bps=12_000) < perfect(bitrate_bps=12_000) - 0.3


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 10), st.floats(0, 1e6))
def test_an_opinion_is_between_1_and_4_and_a_half(
    concealed: float, repaired: float, one_way_s: float, bitrate_bps: float
) -> None:
    opinion = mos(
        concealed=concealed,
        repaired=repaired,
        one_way_s=one_way_s,
        bitrate_bps=bitrate_bps,
    )
    assert 1.0 <= opinion <= 4.5


def test_nothing_lost_is_nothing_lost() -> None:
    reception = Reception()
    for sequence in range(10, 110):
        assert reception.receive(sequence, sequence, now=sequence * FRAME_S)
    assert (reception.expected, reception.received, reception.lost) == (100, 100, 0)
    assert reception.loss == 0.0


def test_missing_sequences_are_lost_until_they_come() -> None:
    reception = Reception()
    for sequence in (0, 1, 4):
        reception.receive(sequence, sequence, now=sequence * FRAME_S)
    assert reception.lost == 2
    assert reception.receive(3, 3, now=0.1)
    assert reception.lost == 1


def test_duplicates_are_not_news() -> None:
    reception = Reception()
    assert reception.receive(5, 5, now=0.0)
    assert reception.receive(6, 6, now=0.02)
    assert not reception.receive(5, 5, now=0.03)
    assert not reception.receive(6, 6, now=0.03)
    assert (reception.duplicates, reception.received) == (2, 2)


def test_what_is_too_old_to_tell_counts_as_a_duplicate() -> None:
    reception = Reception()
    reception.receive(2_000, 2_000, now=0.0)
    assert not reception.receive(900, 900, now=0.0)


@pytest.mark.parametrize("sequence", [0, 100_000, 2**32 - 1])
def test_a_far_sequence_is_a_new_start(sequence: int) -> None:
    reception = Reception()
    reception.receive(5_000, 5_000, now=0.0)
    assert reception.receive(sequence, sequence, now=0.02)
    assert reception.restarts == 1
    assert (reception.expected, reception.lost) == (2, 0)


def test_recent_loss_settles_on_the_true_share() -> None:
    reception, chance = Reception(), random.Random(1)
    losses = []
    for sequence in range(20_000):
        if chance.random() >= 0.05:
            reception.receive(sequence, sequence, now=sequence * FRAME_S)
            losses.append(reception.loss)
    assert sum(losses[1_000:]) / len(losses[1_000:]) == pytest.approx(0.05, abs=0.005)


def test_jitter_settles_on_the_mean_difference_of_transits() -> None:
    # RFC 3550: packets alternately 0 and 10 ms late differ by 10 ms from each other.
    reception = Reception()
    for sequence in range(500):
        late_s = 0.01 * (sequence % 2)
        reception.receive(sequence, sequence, now=sequence * FRAME_S + late_s)
    assert reception.jitter_s == pytest.approx(0.01, rel=0.01)


def test_jitter_follows_the_slots_so_that_pauses_are_none() -> None:
    reception = Reception()
    reception.receive(0, 0, now=0.0)
    reception.receive(1, 500, now=10.0)
    assert reception.jitter_s == pytest.approx(0.0)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))))
def test_counts_always_add_up(arrivals: list[tuple[int, int]]) -> None:
    reception = Reception()
    for index, (sequence, slot) in enumerate(arrivals):
        reception.receive(sequence, slot, now=index * FRAME_S)
    assert reception.received + reception.duplicates == len(arrivals)
    assert 0 <= reception.lost <= reception.expected
    assert 0.0 <= reception.loss <= 1.0
