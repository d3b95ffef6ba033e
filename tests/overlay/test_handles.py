"""A call as programs hold it, and the channel of its voice."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from overlay.handles import MEDIA_BYTES_MAX, WAITING_MAX, MediaChannel


async def test_what_is_delivered_is_received_in_order() -> None:
    channel = MediaChannel(lambda _: True)
    channel.deliver(b"one")
    channel.deliver(b"two")
    assert [await channel.receive(), await channel.receive()] == [b"one", b"two"]


async def test_what_finds_no_path_is_lost_and_counted() -> None:
    channel = MediaChannel(lambda _: False)
    with trio.testing.assert_checkpoints():
        await channel.send(b"lost")
    assert channel.dropped == 1


async def test_what_nobody_takes_in_time_is_dropped_and_counted() -> None:
    channel = MediaChannel(lambda _: True)
    for number in range(WAITING_MAX + 3):
        channel.deliver(b"%d" % number)
    assert channel.dropped == 3
    assert await channel.receive() == b"0"


async def test_a_datagram_that_would_not_fit_is_a_mistake() -> None:
    channel = MediaChannel(lambda value: len(value) <= MEDIA_BYTES_MAX)
    await channel.send(bytes(MEDIA_BYTES_MAX))
    with pytest.raises(ValueError, match="1001 bytes"):
        await channel.send(bytes(MEDIA_BYTES_MAX + 1))
    assert channel.dropped == 0


async def test_after_the_end_of_a_call_what_waits_can_be_taken_and_nothing_sent() -> (
    None
):
    channel = MediaChannel(lambda _: True)
    channel.deliver(b"last")
    channel.end()
    channel.deliver(b"too late")
    assert await channel.receive() == b"last"
    with pytest.raises(trio.EndOfChannel):
        await channel.receive()
    with pytest.raises(trio.ClosedResourceError):
        await channel.send(b"too late")
    assert channel.dropped == 1


async def test_a_closed_channel_takes_nothing_more_and_harms_nobody() -> None:
    channel = MediaChannel(lambda _: True)
    await channel.aclose()
    channel.deliver(b"x")
    assert channel.dropped == 1
    with pytest.raises(trio.ClosedResourceError):
        await channel.receive()
