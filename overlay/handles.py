"""A call as the programs around a node hold it: wait for it, answer it, talk over it.

`CallHandle` is the trio face of one `overlay.call.Call`; its `channel` carries voice
datagrams, at most `MEDIA_BYTES_MAX` each, in any order or not at all, from the moment
the call is connected to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import trio

from overlay.call import Call
from overlay.call_messages import EndReason
from overlay.call_state import CallState
from overlay.identity import short_id
from overlay.incoming import IncomingCall
from overlay.views import PathReport, Step, route_text

__all__ = ["CallHandle", "Deed", "MediaChannel"]

MEDIA_BYTES_MAX: Final = 1_000
# Of one voice datagram; with every frame around it, it stays below 1,200.
Deed: TypeAlias = Literal["answer", "refuse", "hang_up"]
WAITING_MAX: Final = 256
# Voice datagrams not yet taken: five seconds. More are dropped and counted.


class MediaChannel(trio.abc.Channel[bytes]):
    """The voice datagrams of one call. Closing it does not end the call."""

    def __init__(self, send: Callable[[bytes], bool]) -> None:
        self._send = send
        self._feed, self._received = trio.open_memory_channel[bytes](WAITING_MAX)
        self._ended = False
        self.dropped = 0

    async def send(self, value: bytes) -> None:
        """Send a datagram; what finds no path is lost. `ClosedResourceError` after end.

        Raises `ValueError` over 1,000 bytes. Cancelled, it may have been sent.
        """
        if len(value) > MEDIA_BYTES_MAX:
            raise ValueError(f"{len(value)} bytes of media, expected 1,000 at most")
        await trio.lowlevel.checkpoint()
        if self._ended:
            raise trio.ClosedResourceError("the call is over")
        if not self._send(value):
            self.dropped += 1

    async def receive(self) -> bytes:
        """Wait for a datagram; `EndOfChannel` after the end of the call."""
        return await self._received.receive()

    async def aclose(self) -> None:
        """Take no more datagrams."""
        self._received.close()
        await trio.lowlevel.checkpoint()

    def deliver(self, datagram: bytes) -> None:
        """Hand in what came."""
        try:
            self._feed.send_nowait(datagram)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.dropped += 1

    def end(self) -> None:
        """The call is over: what waits can still be received."""
        self._ended = True
        self._feed.close()


class CallHandle:
    """One call of a node, from its first message until some time after its end.

    `act` is the node's way to do something to a call and send what follows from it.
    """

    def __init__(
        self,
        call: Call,
        name: str | None,
        steps: tuple[Step, ...],
        act: Callable[[Call, Deed], None],
        send: Callable[[Call, bytes], bool],
    ) -> None:
        self.call: Final = call
        self.peer_name: Final = name
        self.steps: Final = steps
        self.channel: Final = MediaChannel(lambda payload: send(call, payload))
        self._act = act
        self._changed = trio.Event()

    @property
    def id(self) -> str:
        """Its short number: `c1`."""
        return f"c{self.call.number}"

    @property
    def peer_public_key(self) -> bytes:
        """The identity of the other side."""
        assert self.call.peer is not None
        return self.call.peer.public_key

    @property
    def peer_id(self) -> str:
        """The short id of the other side."""
        return short_id(self.peer_public_key)

    @property
    def incoming(self) -> bool:
        """Whether they call us."""
        return isinstance(self.call, IncomingCall)

    @property
    def is_contact(self) -> bool:
        """Whether the other side is a contact of ours."""
        return self.call.is_contact

    @property
    def state(self) -> CallState:
        """Where the call is in its life."""
        return self.call.state

    @property
    def ended_reason(self) -> EndReason | None:
        """Why it ended; None until then."""
        return self.call.ended_reason

    @property
    def ended_by(self) -> Literal["us", "them"] | None:
        """Who ended it; None until then."""
        if self.call.ended_reason is None:
            return None
        return "us" if self.call.ended_by_us else "them"

    @property
    def timeline(self) -> dict[str, float]:
        """The instants of what happened, by name, as Unix times."""
        return dict(self.call.timeline.at)

    @property
    def relays(self) -> list[str]:
        """The addresses of the relays in use, the preferred one first."""
        return [str(relay.address) for relay in self.call.meeting.relays]

    def paths(self) -> list[PathReport]:
        """Tell the paths of now."""
        return [
            PathReport(
                route_text(report.route),
                report.rtt_s,
                report.loss,
                report.chosen,
                report.why,
            )
            for report in self.call.path_reports()
        ]

    def answer(self) -> None:
        """Take the call; `ValueError` for one that we placed."""
        self._act(self.call, "answer")

    def refuse(self) -> None:
        """Do not take the call; `ValueError` for one that we placed."""
        self._act(self.call, "refuse")

    def hang_up(self) -> None:
        """End the call; does nothing if it has ended."""
        self._act(self.call, "hang_up")

    async def wait_for(self, *states: CallState) -> CallState:
        """Wait until the call is in one of these states; gives which."""
        await trio.lowlevel.checkpoint()
        while self.state not in states:
            await self._changed.wait()
        return self.state

    async def wait_changed(self) -> None:
        """Wait until something happens in the call: a state, a path."""
        await self._changed.wait()

    def notice(self) -> None:
        """Wake who waits: something has happened."""
        self._changed.set()
        self._changed = trio.Event()
        if self.state is CallState.ENDED:
            self.channel.end()
