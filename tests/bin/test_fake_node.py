"""The fake node does what a real one is documented to do."""

from __future__ import annotations

import pytest

from overlay.call_messages import EndReason
from overlay.call_state import CallState
from overlay.errors import NoSuchCall, PeerNotFound
from overlay.told import CallChanged, CallIncoming
from tests.bin.fake_node import FakeNode


async def test_who_is_not_in_its_index_is_not_found() -> None:
    node = FakeNode(peers=["bob"])
    assert (await node.look_up("bob")).name == "bob"
    for act in (node.look_up, node.ping, node.place_call):
        with pytest.raises(PeerNotFound):
            await act("carol")


async def test_a_call_goes_through_its_states_and_tells_of_each() -> None:
    node = FakeNode()
    async with node.subscribe() as events:
        line = await node.place_call("bob")
        assert line.state is CallState.OFFERING
        line.become(CallState.RINGING)
        line.become(CallState.CONNECTED)
        line.hang_up()
        line.hang_up()
        assert await line.wait_for(CallState.ENDED) is CallState.ENDED
        told = [events.receive_nowait() for _ in range(3)]
    assert told == [CallChanged(line.as_told)] * 3
    assert (line.ended_reason, line.ended_by) == (EndReason.HUNG_UP, "us")


async def test_a_call_that_comes_rings() -> None:
    node = FakeNode(contacts="bob")
    async with node.subscribe() as events:
        line = node.call_comes("bob")
        assert events.receive_nowait() == CallIncoming(line.as_told)
    assert line.state is CallState.RINGING
    assert line.is_contact
    assert node.line(line.id) is line
    with pytest.raises(NoSuchCall):
        node.line("c9")
