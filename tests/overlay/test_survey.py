"""Listing all supernodes by paging through one table."""

from __future__ import annotations

import pytest

from overlay.messages import Busy, GetSupernodes, Supernodes
from overlay.survey import PAGES_MAX, Survey
from tests.overlay.samples import NOW, descriptor, peer

RAWS = tuple(descriptor(number).raw for number in range(7))


@pytest.fixture
def survey() -> Survey:
    return Survey(peer(0))


def test_it_walks_page_by_page_to_the_last(survey: Survey) -> None:
    (ask,) = survey.messages_to_send()
    assert ask.request == GetSupernodes(bytes(8))
    survey.answered(ask.tag, Supernodes(RAWS[:5], b"12345678", 7), 0.1, NOW)
    (ask,) = survey.messages_to_send()
    assert ask.request == GetSupernodes(b"12345678")
    survey.answered(ask.tag, Supernodes(RAWS[4:], b"", 7), 0.1, NOW)
    assert survey.done is not None
    assert len(survey.done) == 7
    assert survey.messages_to_send() == []


def test_silence_or_another_answer_ends_it_with_what_there_is(survey: Survey) -> None:
    (ask,) = survey.messages_to_send()
    survey.answered(ask.tag, Supernodes((b"none", *RAWS[:2]), b"12345678", 7), 0, NOW)
    (ask,) = survey.messages_to_send()
    survey.answered(ask.tag, Busy(1.0, ()), 0.1, NOW)
    assert survey.done is not None
    assert len(survey.done) == 2


def test_a_table_without_end_is_left_at_last(survey: Survey) -> None:
    for _ in range(PAGES_MAX):
        (ask,) = survey.messages_to_send()
        assert survey.done is None
        survey.answered(ask.tag, Supernodes((), b"12345678", 7), 0.1, NOW)
    assert survey.done == ()
