"""What is told, in how many rounds, and in which order."""

from __future__ import annotations

import math

import pytest

from overlay import news as news_module
from overlay.news import News

NOW = 100.0


def test_news_is_told_in_its_rounds_and_then_no_more() -> None:
    news = News(rounds=3, interval_s=0.5)
    news.add(b"a", b"A", NOW)
    for number in range(1, 4):
        at = NOW + number * 0.5
        assert news.next_timeout() == at
        assert news.next_round(5, at) == (b"A",)
    assert news.next_timeout() == math.inf
    assert len(news) == 0


def test_the_least_told_goes_first() -> None:
    news = News(rounds=2, interval_s=0.5)
    for piece in (b"a", b"b"):
        news.add(piece, piece, NOW)
    assert news.next_round(1, NOW) == (b"a",)
    news.add(b"c", b"c", NOW)
    assert news.next_round(2, NOW) == (b"b", b"c")
    assert news.next_round(3, NOW) == (b"a", b"b", b"c")
    assert len(news) == 0


def test_newer_news_of_a_subject_takes_the_place_of_the_older() -> None:
    news = News(rounds=2, interval_s=0.5)
    news.add(b"a", b"old", NOW)
    news.next_round(5, NOW)
    news.add(b"a", b"new", NOW)
    assert news.next_round(5, NOW) == (b"new",)
    assert news.next_round(5, NOW) == (b"new",)
    assert news.next_round(5, NOW) == ()


def test_adding_does_not_put_the_next_round_off() -> None:
    news = News(rounds=2, interval_s=0.5)
    news.add(b"a", b"a", NOW)
    news.add(b"b", b"b", NOW + 0.4)
    assert news.next_timeout() == NOW + 0.5


def test_with_nobody_to_tell_it_is_forgotten() -> None:
    news = News(rounds=2, interval_s=0.5)
    news.add(b"a", b"a", NOW)
    news.clear()
    assert news.next_timeout() == math.inf
    assert news.next_round(5, NOW) == ()


def test_too_much_news_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news_module, "NEWS_MAX", 2)
    news = News(rounds=1, interval_s=0.5)
    for subject in (b"a", b"b", b"c", b"a"):
        news.add(subject, subject, NOW)
    assert news.dropped == 1
    assert news.next_round(5, NOW) == (b"a", b"b")
