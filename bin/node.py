"""What the programs need of a node, as two protocols.

`overlay.service` gives the real ones; tests hand in a tested fake.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import trio

from nat.address import Address
from overlay.call_messages import EndReason
from overlay.call_state import CallState
from overlay.identity import Identity
from overlay.told import NodeEvent
from overlay.views import Found, NodeStatus, PathReport, Pinged, Step, SupernodeInfo

__all__ = ["Line", "Node"]


class Line(Protocol):
    """One call of a node, from its first message until some time after its end."""

    @property
    def id(self) -> str:
        """Its short number: `c1`."""
        ...

    @property
    def peer_id(self) -> str:
        """The short id of the other side."""
        ...

    @property
    def peer_name(self) -> str | None:
        """The name it is known by, if any."""
        ...

    @property
    def peer_public_key(self) -> bytes:
        """The identity of the other side."""
        ...

    @property
    def incoming(self) -> bool:
        """Whether they call us."""
        ...

    @property
    def is_contact(self) -> bool:
        """Whether the other side is a contact of ours."""
        ...

    @property
    def state(self) -> CallState:
        """Where the call is in its life."""
        ...

    @property
    def ended_reason(self) -> EndReason | None:
        """Why it ended; None until then."""
        ...

    @property
    def ended_by(self) -> Literal["us", "them"] | None:
        """Who ended it."""
        ...

    @property
    def timeline(self) -> dict[str, float]:
        """The instants of what happened, by name."""
        ...

    @property
    def steps(self) -> tuple[Step, ...]:
        """The look-up that found the other side."""
        ...

    @property
    def relays(self) -> list[str]:
        """The addresses of the relays in use."""
        ...

    @property
    def channel(self) -> trio.abc.Channel[bytes]:
        """The datagrams of the voice; open while connected."""
        ...

    def answer(self) -> None:
        """Take the call."""
        ...

    def refuse(self) -> None:
        """Do not take the call."""
        ...

    def hang_up(self) -> None:
        """End the call; does nothing if it has ended."""
        ...

    def paths(self) -> list[PathReport]:
        """Tell the paths of now."""
        ...

    async def wait_for(self, *states: CallState) -> CallState:
        """Wait until the call is in one of these states; gives which."""
        ...


class Node(Protocol):
    """A running node."""

    @property
    def identity(self) -> Identity:
        """Its keys."""
        ...

    @property
    def address(self) -> Address:
        """The local address of its socket."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it is connected to the network."""
        ...

    async def wait_ready(self) -> None:
        """Wait until it is connected to the network."""
        ...

    async def look_up(self, peer: str) -> Found:
        """Find a peer in the index. Raises `OverlayError`."""
        ...

    async def ping(self, peer: str) -> Pinged:
        """Find the way to a peer. Raises `OverlayError`."""
        ...

    async def place_call(self, peer: str, *, relay_only: bool = False) -> Line:
        """Call a peer. Raises `OverlayError`; cancelled, there is no call."""
        ...

    def lines(self) -> Sequence[Line]:
        """Give the calls."""
        ...

    def line(self, call_id: str) -> Line:
        """Give a call by its number. Raises `NoSuchCall`."""
        ...

    def status(self) -> NodeStatus:
        """Tell how it is connected."""
        ...

    async def supernodes_overview(self) -> list[SupernodeInfo]:
        """Tell what it, or its home, knows of the supernodes."""
        ...

    def subscribe(
        self,
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[NodeEvent]]:
        """Give what happens from now on; a slow reader loses the oldest."""
        ...
