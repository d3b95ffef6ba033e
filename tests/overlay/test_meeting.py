"""Where the two ends of a call meet."""

from __future__ import annotations

import pytest

from nat.paths import Relayed
from overlay.meeting import RELAYS_WARM, Meeting
from overlay.messages import Busy, Contact, Joined, JoinRelay
from tests.overlay.samples import address, contact


@pytest.fixture
def meeting() -> Meeting:
    return Meeting(lambda static: static[:8])


def joined(meeting: Meeting, number: int) -> Relayed | None:
    tag = ("join", contact(number).static)
    return meeting.answered(tag, Joined(paired=False))


def test_the_first_two_relays_are_joined(meeting: Meeting) -> None:
    meeting.join([contact(number) for number in range(3)])
    asks = meeting.messages_to_send()
    assert [ask.peer.address for ask in asks] == [address(0), address(1)]
    assert [ask.request for ask in asks] == [
        JoinRelay(contact(number).static[:8]) for number in range(RELAYS_WARM)
    ]
    assert meeting.relays == (contact(0), contact(1))


def test_an_answer_gives_the_route(meeting: Meeting) -> None:
    meeting.join([contact(0)])
    assert joined(meeting, 0) == Relayed(address(0), contact(0).static[:8])
    assert joined(meeting, 1) is None


def test_joining_twice_asks_once(meeting: Meeting) -> None:
    meeting.join([contact(0)])
    meeting.join([contact(0)])
    assert len(meeting.messages_to_send()) == 1


def test_a_relay_that_lets_nobody_join_is_forgotten(meeting: Meeting) -> None:
    meeting.join([contact(0), contact(1)])
    assert meeting.answered(("join", contact(0).static), Busy(1.0, ())) is None
    assert meeting.relays == (contact(1),)
    meeting.failed(("join", contact(1).static))
    meeting.failed(("join", contact(1).static))
    assert not meeting.by_channel


def test_a_channel_can_be_joined_again_while_it_is_ours(meeting: Meeting) -> None:
    meeting.join([contact(0)])
    channel = contact(0).static[:8]
    meeting.join_again(channel)
    assert len(meeting.messages_to_send()) == 2
    meeting.failed(("join", contact(0).static))
    meeting.join_again(channel)
    assert meeting.messages_to_send() == []


def test_a_relay_at_an_impossible_address_is_left_out(meeting: Meeting) -> None:
    meeting.join([Contact(bytes(7), bytes(32)), contact(1)])
    assert meeting.relays == (contact(1),)
    assert len(meeting.messages_to_send()) == 1
