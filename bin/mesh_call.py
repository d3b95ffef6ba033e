"""A call between two nodes of a mesh, seen from both ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from bin.control_client import Control, open_control
from bin.errors import ProgramError
from bin.mesh_state import MeshNode
from bin.reports import CallReport, Done, EventReport
from bin.requests import AnswersParams, Audio, CallParams
from bin.settings import Answering

__all__ = ["SPEECH", "BothEnds", "call_in_mesh"]

SPEECH: Final = Path(__file__).parent / "speech" / "sense-and-sensibility.wav"
# Real speech; its source is told beside it.
CALLEE_PATIENCE_S: Final = 5.0
# For the callee to hear that the call is over.

Follow = Callable[
    [Control, CallReport, trio.MemoryReceiveChannel[EventReport]], Awaitable[CallReport]
]


@dataclass(frozen=True, slots=True)
class BothEnds:
    """How one call went, by each end."""

    caller: CallReport
    callee: CallReport


async def call_in_mesh(
    caller: MeshNode,
    callee: MeshNode,
    params: CallParams,
    listening: Audio,
    follow: Follow,
) -> BothEnds:
    """Let one node call another, which answers at once and listens as told.

    `follow` waits for the end of the call. A cancelled call is hung up.
    """
    async with (
        open_control(callee.places.control_socket) as there,
        open_control(caller.places.control_socket) as here,
    ):
        answers = AnswersParams(
            policy=Answering.AUTO,
            microphone=listening.microphone,
            speaker=listening.speaker,
            record=listening.record,
        )
        await there.ask("set_answers", Done, answers)
        heard = await there.subscribe()
        events = await here.subscribe()
        placed = await here.ask("call", CallReport, params)
        ended = await follow(here, placed, events)
        with trio.move_on_after(CALLEE_PATIENCE_S):
            answered = await _wait_for_end(heard)
            await there.ask("set_answers", Done, AnswersParams(policy=Answering.AUTO))
            return BothEnds(ended, answered)
    raise ProgramError.of("809", f"{callee.name} did not notice the end of the call")


async def _wait_for_end(
    events: trio.MemoryReceiveChannel[EventReport],
) -> CallReport:
    async for event in events:
        if event.kind == "call_ended" and event.call is not None:
            return event.call
    raise ProgramError.of("801", "the daemon ended during the call")
