"""Our paths against another ICE agent: an aioice `Connection`, on loopback.

aioice runs on asyncio in a thread of its own. Both ends get their names and passwords
beforehand and hand over their candidates as text, as a call's signalling would.
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial

import aioice
import pytest
import trio

from nat.address import Address
from nat.candidate import Candidate, CandidateKind
from nat.checks import Credentials
from nat.paths import Direct, PathAdded, PathChosen, PathEvent, Paths
from nat.stun import is_stun
from nat.udp import KernelNetwork, KernelSocket

pytestmark = pytest.mark.real

OURS = Credentials("ours", "o" * 22, "them", "t" * 22)
LOOPBACK = "127.0.0.1"


class End:
    """Our end: the least of a service that `Paths` needs, on one real socket."""

    def __init__(self, socket: KernelSocket, *, controlling: bool) -> None:
        self.socket = socket
        self.paths = Paths(
            OURS, controlling=controlling, random_bytes=secrets.token_bytes
        )
        self.events: list[PathEvent] = []
        self.media: list[bytes] = []
        self.changed = trio.Event()

    def candidate(self) -> str:
        return Candidate.of(CandidateKind.HOST, self.socket.address).format()

    async def serve(self) -> None:
        while True:
            self.flush()
            with trio.move_on_at(self.paths.next_timeout()):
                for datagram, source in await self.socket.receive_many():
                    self.receive(datagram, Direct(source))
            if self.paths.next_timeout() <= trio.current_time():
                self.paths.handle_timeout(trio.current_time())

    def receive(self, datagram: bytes, route: Direct) -> None:
        if is_stun(datagram):
            self.paths.receive(datagram, route, trio.current_time())
        else:
            self.media.append(datagram)
            self.paths.heard(route, trio.current_time())

    def flush(self) -> None:
        self.events += self.paths.events()
        for route, datagram in self.paths.messages_to_send():
            assert isinstance(route, Direct)
            assert self.socket.send_nowait(datagram, route.address)
        self.changed.set()
        self.changed = trio.Event()


async def their_end(
    *, controlling: bool, our_candidate: str, tell: trio.MemorySendChannel[str]
) -> list[bytes]:
    """Connect, say hello, hear three datagrams; give what was heard."""
    connection = aioice.Connection(
        ice_controlling=controlling,
        use_ipv6=False,
        local_username=OURS.their_fragment,
        local_password=OURS.their_password,
    )
    connection.remote_username = OURS.our_fragment
    connection.remote_password = OURS.our_password
    await connection.gather_candidates()
    for candidate in connection.local_candidates:
        trio.from_thread.run_sync(tell.send_nowait, candidate.to_sdp())
    await connection.add_remote_candidate(aioice.Candidate.from_sdp(our_candidate))
    await connection.add_remote_candidate(None)
    try:
        await asyncio.wait_for(connection.connect(), 10)
        await connection.send(b"hello from aioice")
        return [await asyncio.wait_for(connection.recv(), 10) for _ in range(3)]
    finally:
        await connection.close()


@pytest.mark.parametrize("we_control", [True, False])
async def test_a_call_with_aioice_connects_and_carries_datagrams_both_ways(
    we_control: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # aioice leaves loopback out of its candidates
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: [LOOPBACK])
    tell, told = trio.open_memory_channel[str](8)
    heard: list[bytes] = []

    async def run_theirs(end: End) -> None:
        run = partial(
            their_end,
            controlling=not we_control,
            our_candidate=end.candidate(),
            tell=tell,
        )
        heard.extend(await trio.to_thread.run_sync(lambda: asyncio.run(run())))
        nursery.cancel_scope.cancel()

    with trio.fail_after(20):
        async with KernelNetwork().open_udp(Address(LOOPBACK, 0)) as socket:
            end = End(socket, controlling=we_control)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run_theirs, end)
                theirs = Candidate.parse(await told.receive())
                end.paths.punch([theirs], trio.current_time())
                nursery.start_soon(end.serve)
                while not end.media:
                    await end.changed.wait()
                while not heard:
                    for route in end.paths.media_routes():
                        assert isinstance(route, Direct)
                        socket.send_nowait(b"hello from us", route.address)
                    await trio.sleep(0.01)
    assert end.media == [b"hello from aioice"]
    assert heard == [b"hello from us"] * 3
    direct = Direct(theirs.address)
    assert [each.route for each in end.events if isinstance(each, PathAdded)] == [
        direct
    ]
    assert [each.route for each in end.events if isinstance(each, PathChosen)] == [
        direct
    ]
    assert end.paths.statistics().forged == 0
