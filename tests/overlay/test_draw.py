"""Drawing lots."""

from __future__ import annotations

from overlay.draw import draw_fraction, draw_some
from tests.overlay.samples import randomness


def test_a_fraction_is_at_least_0_and_less_than_1() -> None:
    assert draw_fraction(bytes) == 0.0
    assert 0.999 < draw_fraction(lambda count: b"\xff" * count) < 1.0


def test_what_is_drawn_is_drawn_once() -> None:
    draw = randomness(1)
    for count in range(12):
        drawn = draw_some(draw, range(10), count)
        assert len(drawn) == len(set(drawn)) == min(count, 10)


def test_everything_is_drawn_about_equally_often() -> None:
    draw = randomness(2)
    drawn = [item for _ in range(2_000) for item in draw_some(draw, range(5), 2)]
    assert all(700 < drawn.count(item) < 900 for item in range(5))


def test_drawing_leaves_the_items_as_they_were() -> None:
    items = [1, 2, 3]
    draw_some(randomness(3), items, 3)
    assert items == [1, 2, 3]
