"""The calls of one daemon: who is connected to which microphone, speaker and file.

    outgoing: open the devices, place the call ──┐
                                                 ├──> voice while connected ──> history
    incoming: ring; open the devices and answer ─┘

The devices are opened first, so that a missing microphone or an unreadable file stops a
call before anyone's telephone rings, and are closed when the call is over, however it
ends. What happens is pushed to subscribers; one that does not read loses the oldest.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec
import trio

from bin.contacts import ContactBook
from bin.describe import describe_end, describe_paths, describe_steps
from bin.errors import ProgramError, problem_of
from bin.node import Line, Node
from bin.reports import CallReport, EventReport
from bin.requests import Audio
from bin.settings import Answering
from bin.sound import notices_of, open_devices
from bin.talk import Talk
from overlay.call_state import CallState
from overlay.names import format_key
from overlay.node_events import Ready, RoleChanged
from overlay.told import (
    CallChanged,
    CallIncoming,
    HomeFound,
    HomeLost,
    NodeEvent,
    PathChanged,
)

__all__ = ["Answers", "Placing", "Switchboard", "open_switchboard"]

HISTORY_MAX: Final = 100
# What a person scrolls through; the oldest are forgotten.
EVENTS_MAX: Final = 256
# Waiting for one subscriber: a minute of a very busy node.


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """How to place a call."""

    peer: str
    audio: Audio
    relay_only: bool = False
    hang_up_when_played: bool = False
    hang_up_after_s: float | None = None


class Answers(msgspec.Struct, frozen=True):
    """What becomes of incoming calls: who is answered at once, with which audio."""

    policy: Answering
    audio: Audio


@asynccontextmanager
async def open_switchboard(
    node: Node,
    answers: Answers,
    contacts: ContactBook,
    now: Callable[[], float],
) -> AsyncIterator[Switchboard]:
    """Attend to the calls of a node while the context is open; then hang up."""
    async with node.subscribe() as events, trio.open_nursery() as nursery:
        switchboard = Switchboard(nursery, node, answers, contacts, now)
        nursery.start_soon(switchboard.serve, events)
        yield switchboard
        nursery.cancel_scope.cancel()


class Switchboard:
    """All calls of one node, as long as `open_switchboard` is open.

    `nursery` is that context's own: calls are its tasks, and go when it does.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        node: Node,
        answers: Answers,
        contacts: ContactBook,
        now: Callable[[], float],
    ) -> None:
        self.answers = answers
        self._nursery = nursery
        self._node = node
        self._contacts = contacts
        self._now = now
        self._talks: dict[str, Talk] = {}
        self._history: deque[CallReport] = deque(maxlen=HISTORY_MAX)
        self._subscribers: set[_Subscriber] = set()

    async def serve(self, events: trio.MemoryReceiveChannel[NodeEvent]) -> None:
        """Take what happens until cancelled; `open_switchboard` runs this."""
        async for event in events:
            self._take(event)

    async def place(self, placing: Placing) -> CallReport:
        """Place a call; gives it as soon as it is on its way.

        Raises what `Node.place_call` and the devices raise. A cancelled wait ends it.
        """
        talk: Talk = await self._nursery.start(self._converse_out, placing)
        return _report(talk)

    async def answer(self, call_id: str, audio: Audio) -> CallReport:
        """Answer a call that rings here.

        Raises what the devices raise; then it goes on ringing.
        """
        talk = self._attend(_ringing(self._node.line(call_id)))
        await self._nursery.start(self._converse_in, talk, audio)
        return _report(talk)

    def refuse(self, call_id: str) -> CallReport:
        """Refuse a call that rings here."""
        _ringing(self._node.line(call_id)).refuse()
        return self.report(call_id)

    def hang_up(self, call_id: str) -> CallReport:
        """End a call, whatever state it is in."""
        if self.report(call_id).state != "ended":
            self._node.line(call_id).hang_up()
        return self.report(call_id)

    def mute(self, call_id: str, muted: bool) -> CallReport:
        """Send silence instead of the microphone, or the microphone again."""
        if self.report(call_id).state == "ended":
            raise ProgramError.of("612", f"call {call_id} is over")
        self._talks[call_id].mute(muted)
        return self.report(call_id)

    def report(self, call_id: str) -> CallReport:
        """Tell one call; `NoSuchCall` if there is none and was none of late."""
        if call_id in self._talks:
            return _report(self._talks[call_id])
        for ended in self._history:
            if ended.id == call_id:
                return ended
        line = self._node.line(call_id)
        return _report(Talk(line, self._name(line)))

    def calls(self) -> list[CallReport]:
        """Tell all calls, oldest first."""
        return [*self._history, *map(_report, self._talks.values())]

    def live_calls(self) -> list[CallReport]:
        """Tell the calls that are on."""
        return [_report(talk) for talk in self._talks.values()]

    @asynccontextmanager
    async def subscribe(
        self,
    ) -> AsyncIterator[trio.MemoryReceiveChannel[EventReport]]:
        """Give what happens from now on."""
        subscriber = _Subscriber()
        self._subscribers.add(subscriber)
        try:
            yield subscriber.events
        finally:
            self._subscribers.discard(subscriber)

    def _take(self, event: NodeEvent) -> None:
        match event:
            case CallIncoming(line):
                talk = self._attend(line)
                self._tell("call_incoming", f"{talk.peer} calls", _report(talk))
                if self._is_answered_at_once(line):
                    self._nursery.start_soon(self._answer_at_once, talk)
            case CallChanged(line):
                call = self.report(line.id)
                self._tell("call_changed", _said(call), call)
            case PathChanged(line, route, reason):
                call = self.report(line.id)
                self._tell("path_changed", f"{route}: {reason}", call)
            case RoleChanged(role, reason):
                self._tell("role_changed", f"{role}: {reason}")
            case HomeFound(address):
                self._tell("home_found", str(address))
            case HomeLost(address, reason):
                self._tell("home_lost", f"{address}: {reason}")
            case Ready(stored, owners):
                self._tell("ready", f"{stored} of {owners} owners know where we are")

    def _tell(self, kind: str, text: str, call: CallReport | None = None) -> None:
        event = EventReport(at=self._now(), kind=kind, text=text, call=call)
        for subscriber in self._subscribers:
            subscriber.push(event)

    async def _converse_out(
        self, placing: Placing, task_status: trio.TaskStatus[Talk]
    ) -> None:
        async with AsyncExitStack() as stack:
            devices = await stack.enter_async_context(open_devices(placing.audio))
            talk = await self._placed(placing)
            with talk.speaking():
                task_status.started(talk)
                await talk.converse(
                    devices,
                    hang_up_when_played=placing.hang_up_when_played,
                    hang_up_after_s=placing.hang_up_after_s,
                )
                await _close(stack, talk)

    async def _placed(self, placing: Placing) -> Talk:
        line = await self._node.place_call(placing.peer, relay_only=placing.relay_only)
        try:
            if line.peer_name is not None:
                self._contacts.pin(line.peer_name, line.peer_public_key, self._now())
        except ProgramError:
            line.hang_up()
            raise
        return self._attend(line)

    async def _converse_in(
        self,
        talk: Talk,
        audio: Audio,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with AsyncExitStack() as stack:
            with talk.speaking():
                devices = await stack.enter_async_context(open_devices(audio))
                # Opening took a while, in which the caller may have given up.
                _ringing(talk.line).answer()
                task_status.started()
                await talk.converse(devices)
                await _close(stack, talk)

    async def _answer_at_once(self, talk: Talk) -> None:
        try:
            await self._converse_in(talk, self.answers.audio)
        except Exception as error:
            talk.problem = problem_of(error)
            talk.line.refuse()

    def _attend(self, line: Line) -> Talk:
        """Give the talk of a line, and see to it that its end is noted."""
        if line.id not in self._talks:
            self._talks[line.id] = Talk(line, self._name(line))
            self._nursery.start_soon(self._note_end, self._talks[line.id])
        return self._talks[line.id]

    def _name(self, line: Line) -> str:
        known = self._contacts.name_of(line.peer_public_key)
        return line.peer_name or known or line.peer_id

    async def _note_end(self, talk: Talk) -> None:
        await talk.line.wait_for(CallState.ENDED)
        await talk.wait_silent()
        call = _report(talk)
        self._history.append(call)
        del self._talks[talk.line.id]
        self._tell("call_ended", _said(call), call)

    def _is_answered_at_once(self, line: Line) -> bool:
        match self.answers.policy:
            case Answering.ASK:
                return False
            case Answering.CONTACTS:
                return line.is_contact
            case Answering.AUTO:
                return True


class _Subscriber:
    """One that is told of events; lives as long as its subscription."""

    def __init__(self) -> None:
        self._to_reader, self.events = trio.open_memory_channel[EventReport](EVENTS_MAX)

    def push(self, event: EventReport) -> None:
        try:
            self._to_reader.send_nowait(event)
        except trio.WouldBlock:
            with contextlib.suppress(trio.WouldBlock):
                self.events.receive_nowait()
            self._to_reader.send_nowait(event)


async def _close(devices: AsyncExitStack, talk: Talk) -> None:
    """Close the devices; a recording that cannot be completed is the talk's problem."""
    try:
        await devices.aclose()
    except Exception as error:
        talk.problem = talk.problem or problem_of(error)


def _report(talk: Talk) -> CallReport:
    line = talk.line
    return CallReport(
        id=line.id,
        peer=talk.peer,
        short_id=line.peer_id,
        public_key=format_key(line.peer_public_key),
        incoming=line.incoming,
        contact=line.is_contact,
        state=line.state.name.lower(),
        ended_reason=_reason(line),
        ended_by=line.ended_by,
        problem=talk.problem or describe_end(line, talk.peer),
        notices=[] if talk.devices is None else notices_of(talk.devices),
        timeline=dict(line.timeline),
        relays=list(line.relays),
        steps=describe_steps(line.steps),
        paths=describe_paths(line),
        audio=talk.report(),
    )


def _ringing(line: Line) -> Line:
    """Give the line if it can be answered or refused."""
    if not line.incoming or line.state is not CallState.RINGING:
        state = line.state.name.lower()
        raise ProgramError.of(
            "612", f"call {line.id} does not ring here: it is {state}"
        )
    return line


def _said(call: CallReport) -> str:
    said = f"{call.peer}: {call.state}"
    return said if call.ended_reason is None else f"{said} ({call.ended_reason})"


def _reason(line: Line) -> str | None:
    return None if line.ended_reason is None else line.ended_reason.name.lower()
