"""What people do in scenarios: answer, call, and wait until both talk."""

from __future__ import annotations

import trio

from overlay.call_state import CallState
from overlay.handles import CallHandle
from overlay.service import Node
from overlay.told import CallIncoming

__all__ = ["Answering", "connect"]


class Answering:
    """Lets a node answer every call that comes, and keeps them."""

    def __init__(self, node: Node, *, answer: bool = True) -> None:
        self._node = node
        self._answer = answer
        self.lines: list[CallHandle] = []
        self._feed, self._arrived = trio.open_memory_channel[CallHandle](64)

    async def next_line(self) -> CallHandle:
        """Wait for the next call that comes."""
        return await self._arrived.receive()

    async def serve(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with self._node.subscribe() as events:
            task_status.started()
            async for event in events:
                if isinstance(event, CallIncoming):
                    self.lines.append(event.line)
                    self._feed.send_nowait(event.line)
                    if self._answer:
                        event.line.answer()


async def connect(
    caller: Node, callee: Node, name: str, *, relay_only: bool = False
) -> tuple[CallHandle, CallHandle]:
    """Call `name`, which is the callee's; gives both ends once they talk."""
    answering = Answering(callee)
    async with trio.open_nursery() as nursery:
        await nursery.start(answering.serve)
        ours = await caller.place_call(name, relay_only=relay_only)
        state = await ours.wait_for(CallState.CONNECTED, CallState.ENDED)
        assert state is CallState.CONNECTED, ours.ended_reason
        nursery.cancel_scope.cancel()
    return ours, answering.lines[0]
