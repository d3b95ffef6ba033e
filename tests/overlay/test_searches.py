"""The look-ups and surveys of a node."""

from __future__ import annotations

import math

import pytest

from overlay.lookup import Outcome
from overlay.messages import Supernodes, Value
from overlay.node_events import LookupEnded, SurveyEnded
from overlay.records import id_key
from overlay.searches import LOOKUPS_MAX, SEQS_MAX, SURVEYS_MAX, Searches
from tests.overlay.samples import NOW, descriptor, identity, peer, presence, randomness

KEY = id_key(identity(5).public_key)


@pytest.fixture
def searches() -> Searches:
    return Searches(randomness(1))


def found(searches: Searches, seq: int, now: float = NOW) -> Outcome:
    """Look an identity up whose home says it has this sequence number."""
    searches.look_up(KEY, [peer(0)], now)
    (lookup,) = searches.askers()
    (ask,) = lookup.messages_to_send()
    lookup.answered(ask.tag, Value((presence(5, seq).raw,)), 0.1, now)
    searches.handle_timeout(now + 10)
    (ended,) = searches.events()
    assert isinstance(ended, LookupEnded)
    assert searches.askers() == []
    return ended.done.outcome


def test_a_look_up_ends_once_and_is_forgotten(searches: Searches) -> None:
    assert found(searches, 1_000) is Outcome.FOUND
    assert searches.events() == []
    assert searches.next_timeout() == math.inf


def test_a_presence_older_than_one_seen_before_is_not_believed(
    searches: Searches,
) -> None:
    assert found(searches, 2_000) is Outcome.FOUND
    assert found(searches, 1_999) is Outcome.UNREACHABLE
    assert found(searches, 2_000) is Outcome.FOUND
    assert found(searches, 2_001) is Outcome.FOUND


def test_so_many_identities_are_remembered(searches: Searches) -> None:
    found(searches, 2_000)
    for number in range(SEQS_MAX):
        searches._seqs[number.to_bytes(32, "big")] = 1
    searches._remember(presence(6))
    assert len(searches._seqs) <= SEQS_MAX + 1


def test_more_look_ups_than_the_limit_are_refused(searches: Searches) -> None:
    numbers = [searches.look_up(KEY, [peer(0)], NOW) for _ in range(LOOKUPS_MAX + 1)]
    assert numbers[-1] is None
    assert len(set(numbers)) == LOOKUPS_MAX + 1


def test_more_surveys_than_the_limit_are_refused(searches: Searches) -> None:
    numbers = [searches.survey(peer(0)) for _ in range(SURVEYS_MAX + 1)]
    assert numbers[-1] is None
    assert len(set(numbers)) == SURVEYS_MAX + 1


def test_a_survey_ends_with_what_it_found(searches: Searches) -> None:
    number = searches.survey(peer(0))
    assert number is not None
    (survey,) = searches.askers()
    (ask,) = survey.messages_to_send()
    survey.answered(ask.tag, Supernodes((descriptor(1).raw,), b"", 1), 0.1, NOW)
    assert searches.events() == [SurveyEnded(number, (descriptor(1),))]
    assert searches.askers() == []
