"""Listeners of a node: told in order, and never in its way."""

from __future__ import annotations

import pytest
import trio

from overlay.listening import EVENTS_MAX, Listener, PendingAnswer
from overlay.lookup import LookupDone, Outcome
from overlay.node_events import LookupEnded, Ready

DONE = LookupDone(Outcome.NOT_FOUND, (), (), 0.0, 1.0)


async def test_events_come_in_order() -> None:
    listener = Listener.open()
    for number in range(3):
        assert listener.tell(Ready(number, 8)) == 0
    assert [await listener.events.receive() for _ in range(3)] == [
        Ready(number, 8) for number in range(3)
    ]


async def test_a_slow_listener_loses_the_oldest() -> None:
    listener = Listener.open()
    lost = [listener.tell(Ready(number, 8)) for number in range(EVENTS_MAX + 5)]
    assert sum(lost) == 5
    assert await listener.events.receive() == Ready(5, 8)


async def test_what_waits_can_be_read_after_the_end() -> None:
    listener = Listener.open()
    listener.tell(Ready(1, 8))
    listener.close()
    assert await listener.events.receive() == Ready(1, 8)
    with pytest.raises(trio.EndOfChannel):
        await listener.events.receive()


async def test_a_listener_that_closed_its_end_is_told_nothing() -> None:
    listener = Listener.open()
    await listener.events.aclose()
    assert listener.tell(Ready(1, 8)) == 1


async def test_an_answer_reaches_who_waits_for_it_also_if_it_was_there_before() -> None:
    answer = PendingAnswer()
    answer.give(LookupEnded(7, DONE))
    assert await answer.wait() == LookupEnded(7, DONE)
