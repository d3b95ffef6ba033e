"""A node that runs: its socket, its clock, and the wishes of the programs around it.

    async with open_node(settings, identity, network, ...) as node:
        await node.wait_ready()
        line = await node.place_call("bob")
        await line.wait_for(CallState.CONNECTED, CallState.ENDED)

The service waits and carries; every decision is a machine's (`overlay.node`). Two
tasks run: one reads the socket in batches, one sleeps until the machine's next
deadline. After anything that changes the machine, what it has to send is sent and what
happened is told, before anything else can happen.

Time inside is Unix time as read once at the start, carried on by trio's clock: it never
jumps. Leaving the context says goodbye to everyone.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from nat.network import DatagramSocket, Network
from overlay.call import Call
from overlay.call_messages import Purpose
from overlay.call_state import CallChanged as StateChanged
from overlay.call_state import CallRoute, CallState
from overlay.errors import (
    InvalidPeerName,
    NoSuchCall,
    OverlayError,
    TooManyCalls,
)
from overlay.finding import find
from overlay.handles import CallHandle, Deed
from overlay.home import AtHome
from overlay.home import HomeLost as HomeIsLost
from overlay.identity import Identity
from overlay.incoming import IncomingCall
from overlay.listening import Listener, PendingAnswer
from overlay.lookup import LookupDone
from overlay.node import NodeMachine
from overlay.node_events import (
    CallArrived,
    CallHappened,
    LookupEnded,
    NodeConfig,
    Ready,
    Role,
    RoleChanged,
    SurveyEnded,
)
from overlay.node_events import NodeEvent as MachineEvent
from overlay.pinging import measure
from overlay.reporting import node_status, supernode_infos
from overlay.settings import NodeSettings, node_config
from overlay.told import (
    CallChanged,
    CallIncoming,
    HomeFound,
    HomeLost,
    NodeEvent,
    PathChanged,
)
from overlay.views import (
    Found,
    NodeStatus,
    Pinged,
    Step,
    SupernodeInfo,
    route_text,
)

__all__ = ["Node", "open_node"]

HANDLES_MAX: Final = 64
# Calls held after their end, for whoever asks how they went.
READY_PATIENCE_S: Final = 5.0
# A look-up right after the start waits this long for a home.


@asynccontextmanager
async def open_node(
    settings: NodeSettings,
    identity: Identity,
    network: Network,
    *,
    random_bytes: Callable[[int], bytes],
    unix_time: float,
) -> AsyncIterator[Node]:
    """Run a node while the context is open.

    `unix_time` is the time of day now. Raises `OSError` if the address cannot be bound.
    """
    epoch_s = unix_time - trio.current_time()
    async with network.open_udp(settings.bind) as socket:
        config = node_config(settings, identity, network, socket.address, random_bytes)
        node = Node(settings, config, socket, epoch_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve_socket)
            nursery.start_soon(node.serve_clock)
            node.begin()
            try:
                yield node
            finally:
                node.leave()
                nursery.cancel_scope.cancel()


class Node:
    """A running node. Made by `open_node`, which also runs its two tasks."""

    def __init__(
        self,
        settings: NodeSettings,
        config: NodeConfig,
        socket: DatagramSocket,
        epoch_s: float,
    ) -> None:
        self.identity: Final = config.identity
        self.address: Final = socket.address
        self._settings = settings
        self._config = config
        self._socket = socket
        self._epoch_s = epoch_s
        self._latest = -math.inf
        self._machine = NodeMachine(config, self._now())
        self._ready = trio.Event()
        self._sleeping_until = math.inf
        self._wake = trio.Event()
        self._handles: dict[int, CallHandle] = {}
        self._answers: dict[tuple[type, int], PendingAnswer] = {}
        self._listeners: list[Listener] = []
        self._send_refused = 0
        self._events_dropped = 0

    # -- what programs ask of it -------------------------------------------------------

    @property
    def role(self) -> Role:
        """Whether the node serves others."""
        return self._machine.role

    @property
    def ready(self) -> bool:
        """Whether the node can be found by others."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        """Wait until the node can be found by others."""
        await self._ready.wait()

    async def look_up(self, peer: str) -> Found:
        """Find a peer by name, id or link. Raises `OverlayError`."""
        with trio.move_on_after(READY_PATIENCE_S):
            await self.wait_ready()
        return await find(peer, self._settings.known_names, self._look_up)

    async def ping(self, peer: str) -> Pinged:
        """Find the best way to a peer within a moment. Raises `OverlayError`.

        Only contacts of each other are tried directly.
        """
        line = await self._place(peer, Purpose.PING, relay_only=False)
        try:
            return await measure(line, peer)
        finally:
            line.hang_up()

    async def place_call(self, peer: str, *, relay_only: bool = False) -> CallHandle:
        """Call a peer; gives the call as soon as it is offered.

        Raises `OverlayError`. Cancelled, there is no call.
        """
        return await self._place(peer, Purpose.VOICE, relay_only=relay_only)

    def lines(self) -> list[CallHandle]:
        """Give the calls with sound, those that ended lately included."""
        return [
            handle
            for handle in self._handles.values()
            if handle.call.purpose is Purpose.VOICE
        ]

    def line(self, call_id: str) -> CallHandle:
        """Give a call by its number. Raises `NoSuchCall`."""
        for handle in self.lines():
            if handle.id == call_id:
                return handle
        raise NoSuchCall(f"there is no call {call_id}")

    def status(self) -> NodeStatus:
        """Tell how the node is connected, and what it counted."""
        status = node_status(self._machine, self.address)
        dropped = {"events_dropped": self._events_dropped}
        status.counters.update(dropped, datagrams_not_sent=self._send_refused)
        return status

    async def supernodes_overview(self) -> list[SupernodeInfo]:
        """Tell the supernodes there are, as this node or its home knows them."""
        number = self._machine.survey(self._now())
        if number is None:
            raise OverlayError("too many surveys are under way: try again")
        ended = await self._wait_for(SurveyEnded, number)
        assert isinstance(ended, SurveyEnded)
        return supernode_infos(self._machine, ended.found)

    @asynccontextmanager
    async def subscribe(
        self,
    ) -> AsyncIterator[trio.MemoryReceiveChannel[NodeEvent]]:
        """Give what happens from now on; a slow reader loses the oldest."""
        listener = Listener.open()
        self._listeners.append(listener)
        try:
            yield listener.events
        finally:
            self._listeners.remove(listener)
            listener.close()

    # -- the two tasks, run by `open_node` ---------------------------------------------

    def begin(self) -> None:
        """Join the network."""
        self._machine.begin(self._now())
        self._flush()

    def leave(self) -> None:
        """Hang up, and say goodbye to everyone."""
        self._machine.leave(self._now())
        self._flush()

    async def serve_socket(self) -> None:
        """Take datagrams until cancelled."""
        receive = self._machine.receive
        while True:
            batch = await self._socket.receive_many()
            for datagram, source in batch:
                receive(datagram, source, self._now())
            self._flush()

    async def serve_clock(self) -> None:
        """Let the machine do what is due until cancelled."""
        while True:
            self._wake = trio.Event()
            self._sleeping_until = due_at = self._machine.next_timeout()
            with trio.move_on_at(due_at - self._epoch_s):
                await self._wake.wait()
                continue
            # The sum of rounded numbers may fall just short of the deadline.
            self._latest = max(self._latest, due_at)
            self._machine.handle_timeout(self._now())
            self._flush()

    # -- inside ------------------------------------------------------------------------

    def _now(self) -> float:
        self._latest = max(self._latest, trio.current_time() + self._epoch_s)
        return self._latest

    def _flush(self) -> None:
        """Send what is to be sent, and tell what happened."""
        events = self._machine.events()
        self._send()
        for event in events:
            self._take(event)
        for handle in self._handles.values():
            for payload in handle.call.media_received():
                handle.channel.deliver(payload)
        if self._machine.next_timeout() < self._sleeping_until:
            self._sleeping_until = -math.inf
            self._wake.set()

    def _take(self, event: MachineEvent) -> None:
        match event:
            case LookupEnded(number) | SurveyEnded(number):
                answer = self._answers.pop((type(event), number), None)
                if answer is not None:
                    answer.give(event)
            case CallArrived(call):
                handle = self._hold(call, None, ())
                if call.purpose is Purpose.VOICE:
                    self._tell(CallIncoming(handle))
            case CallHappened(call):
                self._take_call_event(event)
            case Ready():
                self._ready.set()
                self._tell(event)
            case RoleChanged():
                self._tell(event)
            case AtHome(homes):
                for home in homes:
                    self._tell(HomeFound(home.peer.address))
            case HomeIsLost(home, reason):
                if not self._machine.station.homes_to_ask():
                    self._ready = trio.Event()
                self._tell(HomeLost(home.peer.address, reason))

    def _take_call_event(self, happened: CallHappened) -> None:
        handle = self._handles.get(happened.call.number)
        if handle is None:
            return
        handle.notice()
        if happened.call.purpose is not Purpose.VOICE:
            return
        match happened.event:
            case StateChanged():
                self._tell(CallChanged(handle))
            case CallRoute(chosen):
                route = route_text(chosen.route)
                self._tell(PathChanged(handle, route, chosen.reason))

    def _tell(self, event: NodeEvent) -> None:
        for listener in self._listeners:
            self._events_dropped += listener.tell(event)

    async def _look_up(self, key: bytes) -> LookupDone:
        number = self._machine.look_up(key, self._now())
        if number is None:
            raise OverlayError("too many look-ups are under way: try again")
        ended = await self._wait_for(LookupEnded, number)
        assert isinstance(ended, LookupEnded)
        return ended.done

    async def _wait_for(self, kind: type, number: int) -> LookupEnded | SurveyEnded:
        answer = self._answers[kind, number] = PendingAnswer()
        self._flush()
        try:
            return await answer.wait()
        finally:
            self._answers.pop((kind, number), None)

    async def _place(
        self, peer: str, purpose: Purpose, *, relay_only: bool
    ) -> CallHandle:
        found = await self.look_up(peer)
        if found.public_key == self.identity.public_key:
            raise InvalidPeerName(f"{peer!r} is this node itself")
        call = self._machine.place_call(
            found.presence, purpose, self._now(), relay_only=relay_only
        )
        if call is None:
            raise TooManyCalls("this node carries as many calls as it may")
        handle = self._hold(call, found.name, found.steps)
        call.timeline.at["looked_up"] = call.timeline.at["placed"]
        call.timeline.at["placed"] -= found.elapsed_s
        self._flush()
        return handle

    def _hold(
        self, call: Call, name: str | None, steps: tuple[Step, ...]
    ) -> CallHandle:
        handle = CallHandle(call, name, steps, self._act, self._send_media)
        self._handles[call.number] = handle
        over = [n for n, h in self._handles.items() if h.state is CallState.ENDED]
        for number in over[: max(0, len(self._handles) - HANDLES_MAX)]:
            del self._handles[number]
        return handle

    def _act(self, call: Call, what: Deed) -> None:
        now = self._now()
        match what, call:
            case "answer", IncomingCall():
                call.answer(now)
            case "refuse", IncomingCall():
                call.refuse(now)
            case "hang_up", _:
                call.hang_up(now)
            case _:
                raise ValueError(f"{what} of an outgoing call")
        self._machine.changed(call, now)
        self._flush()

    def _send_media(self, call: Call, payload: bytes) -> bool:
        sent = self._machine.send_media(call, payload, self._now())
        self._send()
        return sent

    def _send(self) -> None:
        for target, datagram in self._machine.messages_to_send():
            if not self._socket.send_nowait(datagram, target):
                self._send_refused += 1
