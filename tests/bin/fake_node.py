"""A node without a network: the index is a dictionary, and lines are pushed by hand.

What it does by itself is tested in `test_fake_node.py`; its type is checked against
`bin.node`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, cast

import trio

from nat.address import Address
from overlay.call_messages import EndReason
from overlay.call_state import CallState
from overlay.errors import NoSuchCall, PeerNotFound
from overlay.handles import CallHandle
from overlay.identity import Identity, short_id
from overlay.messages import Contact
from overlay.records import Presence
from overlay.told import CallChanged, CallIncoming, NodeEvent
from overlay.views import (
    Found,
    HomeInfo,
    NodeStatus,
    PathReport,
    Pinged,
    Step,
    SupernodeInfo,
)

__all__ = ["HOME", "FakeLine", "FakeNode", "identity_of"]

HOME: Final = Address("127.1.2.1", 7000)
NOW: Final = 1_700_000_000.0


def identity_of(name: str) -> Identity:
    """Give everyone the same keys in each run."""
    return Identity(name.encode().ljust(32, b"."), name.encode().ljust(32, b"-"))


class FakeChannel(trio.abc.Channel[bytes]):
    """The datagrams of a call: sent ones are kept, `arrive` brings others."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.has_sent = trio.Event()
        self._into, self._out_of = trio.open_memory_channel[bytes](1_000)

    def arrive(self, datagram: bytes) -> None:
        self._into.send_nowait(datagram)

    async def send(self, value: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append(value)
        self.has_sent.set()

    async def receive(self) -> bytes:
        return await self._out_of.receive()

    async def aclose(self) -> None:
        self._into.close()
        await trio.lowlevel.checkpoint()


class FakeLine:
    """A call that does what the test says, or what its own side says."""

    def __init__(self, node: FakeNode, call_id: str, peer: str, incoming: bool) -> None:
        self._node = node
        self.id = call_id
        self.peer_name: str | None = peer
        self.peer_public_key = identity_of(peer).public_key
        self.peer_id: str = short_id(self.peer_public_key)
        self.incoming = incoming
        self.is_contact = peer in node.contacts
        self.state = CallState.RINGING if incoming else CallState.OFFERING
        self.ended_reason: EndReason | None = None
        self.ended_by: Literal["us", "them"] | None = None
        self.timeline = {"placed": NOW}
        self.steps: tuple[Step, ...] = () if incoming else (STEP,)
        self.relays = [str(HOME)]
        self.channel = FakeChannel()
        self._changed = trio.Event()

    @property
    def as_told(self) -> CallHandle:
        """Itself: the events of a node name their line by its real class."""
        return cast(CallHandle, self)

    def answer(self) -> None:
        self.become(CallState.CONNECTED)

    def refuse(self) -> None:
        self.end(EndReason.REFUSED, "us")

    def hang_up(self) -> None:
        if self.state is not CallState.ENDED:
            self.end(EndReason.HUNG_UP, "us")

    def end(self, reason: EndReason, by: Literal["us", "them"]) -> None:
        self.ended_reason, self.ended_by = reason, by
        self.become(CallState.ENDED)

    def become(self, state: CallState) -> None:
        self.state = state
        self._changed.set()
        self._changed = trio.Event()
        self._node.tell(CallChanged(self.as_told))

    async def wait_for(self, *states: CallState) -> CallState:
        while self.state not in states:
            await self._changed.wait()
        return self.state

    def paths(self) -> list[PathReport]:
        return [PathReport(f"relay({HOME})", 0.012, 0.01, True, "not a contact")]


STEP: Final = Step(HOME, "value", 0.003, NOW)


class FakeNode:
    """A leaf with one home, that knows the peers it is told."""

    def __init__(
        self,
        name: str = "alice",
        peers: Sequence[str] = ("bob",),
        contacts: str = "",
        failure: Exception | None = None,
    ) -> None:
        self.identity = identity_of(name)
        self.address = Address("127.9.2.1", 7000)
        self.ready = True
        self.peers = set(peers)
        self.contacts = set(contacts.split())
        self.failure = failure
        self.homes = [HomeInfo(HOME, 0.002, True, 0.25, True)]
        self._lines: list[FakeLine] = []
        self._subscribers: set[trio.MemorySendChannel[NodeEvent]] = set()
        self._last_id = 0

    async def wait_ready(self) -> None:
        if not self.ready:
            await trio.sleep_forever()

    async def look_up(self, peer: str) -> Found:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        if peer not in self.peers:
            raise PeerNotFound(f"nobody is registered as {peer!r}")
        public_key = identity_of(peer).public_key
        return Found(
            public_key=public_key,
            name=peer,
            short_id=short_id(public_key),
            presence=_presence(public_key),
            steps=(STEP,),
            elapsed_s=0.004,
        )

    async def ping(self, peer: str) -> Pinged:
        found = await self.look_up(peer)
        return Pinged(0.012, False, f"relay({HOME})", found.steps)

    async def place_call(self, peer: str, *, relay_only: bool = False) -> FakeLine:
        await self.look_up(peer)
        line = self._add(peer, incoming=False)
        return line

    def call_comes(self, peer: str) -> FakeLine:
        """Let someone call this node."""
        line = self._add(peer, incoming=True)
        self.tell(CallIncoming(line.as_told))
        return line

    def lines(self) -> list[FakeLine]:
        return list(self._lines)

    def line(self, call_id: str) -> FakeLine:
        for line in self._lines:
            if line.id == call_id:
                return line
        raise NoSuchCall(f"there is no call {call_id!r}")

    def status(self) -> NodeStatus:
        return NodeStatus(
            role="leaf",
            why_role="supernode off",
            address=self.address,
            observed=None,
            homes=list(self.homes),
            supernodes_known=1,
            records_held=0,
            leaves_registered=0,
            sessions=1,
            relay_calls=0,
            counters={"datagrams_received": 17},
        )

    async def supernodes_overview(self) -> list[SupernodeInfo]:
        await trio.lowlevel.checkpoint()
        return [
            SupernodeInfo(
                address=HOME,
                short="k7m3-q9xt-2b51",
                role="supernode",
                share=0.625,
                state="alive",
                rtt_s=0.002,
                load=0.25,
                keys_held=4,
                version="0.1.0",
            )
        ]

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[trio.MemoryReceiveChannel[NodeEvent]]:
        to_reader, events = trio.open_memory_channel[NodeEvent](1_000)
        self._subscribers.add(to_reader)
        try:
            yield events
        finally:
            self._subscribers.discard(to_reader)

    def tell(self, event: NodeEvent) -> None:
        for subscriber in self._subscribers:
            subscriber.send_nowait(event)

    def _add(self, peer: str, *, incoming: bool) -> FakeLine:
        self._last_id += 1
        line = FakeLine(self, f"c{self._last_id}", peer, incoming)
        self._lines.append(line)
        return line


def _presence(public_key: bytes) -> Presence:
    return Presence(
        public_key=public_key,
        dh_public=bytes(32),
        seq=1,
        issued=int(NOW),
        ttl_s=900,
        homes=(Contact.of(HOME, bytes(32)),),
        caps=0,
        client_version="0.1.0",
    )
