"""A running node on the virtual internet: its wishes, its listeners, its end."""

from __future__ import annotations

import pytest
import trio

from overlay.call_state import CallState
from overlay.errors import (
    InvalidPeerName,
    NoSuchCall,
    NoSupernode,
    NotOnline,
    PeerNotFound,
)
from overlay.identity import Identity
from overlay.service import open_node
from overlay.settings import NodeSettings
from overlay.told import CallIncoming, HomeFound, NodeEvent
from tests.scenarios.calling import connect
from tests.scenarios.network import open_network
from tests.vnet import Host, Internet, simulate


def settings(host: Host) -> NodeSettings:
    return NodeSettings(
        bind=host.at(7000),
        name="alice",
        is_contact=lambda _: False,
        known_names=lambda _: None,
        client_version="test",
    )


@simulate(seeds=range(1), limit_s=60)
async def test_a_node_without_a_network_says_so_when_it_is_asked(
    internet: Internet,
) -> None:
    async with open_network(internet, 0) as network:
        lonely = await network.start("lonely")
        before = trio.current_time()
        with pytest.raises(NoSupernode):
            await lonely.look_up("bob")
        assert trio.current_time() - before == pytest.approx(5.0)
        assert await lonely.supernodes_overview() == []
        assert not lonely.ready
        assert lonely.status().role == "leaf"


@simulate(seeds=range(1), limit_s=60)
async def test_what_cannot_be_called_says_why(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice", "bob"]) as network:
        alice, bob = network["alice"], network["bob"]
        for name, error in (
            ("alice", InvalidPeerName),
            ("no such name!", InvalidPeerName),
            ("nobody", PeerNotFound),
        ):
            with pytest.raises(error):
                await alice.place_call(name)
        with pytest.raises(NoSuchCall):
            alice.line("c1")
        before = await alice.look_up("bob")
        assert before.public_key == bob.identity.public_key


@simulate(seeds=range(1), limit_s=60)
async def test_a_ping_to_who_just_left_is_not_online(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice"]) as network:
        async with network.open("bob") as bob:
            await bob.wait_ready()
            assert (await network["alice"].ping("bob")).rtt_s == pytest.approx(
                0.08, abs=0.001
            )
        with pytest.raises((NotOnline, PeerNotFound)):
            await network["alice"].ping("bob")


@simulate(seeds=range(1), limit_s=60)
async def test_a_call_can_be_told_what_fits_it_only(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice", "bob"]) as network:
        ours, theirs = await connect(network["alice"], network["bob"], "bob")
        assert network["alice"].line(ours.id) is ours
        assert network["alice"].lines() == [ours]
        assert (ours.incoming, theirs.incoming) == (False, True)
        with pytest.raises(ValueError, match="answer of an outgoing call"):
            ours.answer()
        theirs.answer()  # again: nothing happens
        ours.hang_up()
        ours.hang_up()
        await theirs.wait_for(CallState.ENDED)
        with pytest.raises(trio.EndOfChannel):
            await theirs.channel.receive()
        with pytest.raises(trio.ClosedResourceError):
            await theirs.channel.send(b"too late")


@simulate(seeds=range(1), limit_s=60)
async def test_listeners_hear_what_happens_and_may_leave_as_they_like(
    internet: Internet,
) -> None:
    async with open_network(internet, 3, ["bob"]) as network:
        heard: list[NodeEvent] = []
        async with network["bob"].subscribe() as events:
            async with network["bob"].subscribe() as others:
                await others.aclose()  # rude, and no harm
                await network.start("alice")
                await network["alice"].wait_ready()
                line = await network["alice"].place_call("bob")
                async for event in events:
                    heard.append(event)
                    if isinstance(event, CallIncoming):
                        break
            line.hang_up()
        assert network["bob"].status().counters["events_dropped"] >= 1


@simulate(seeds=range(1), limit_s=60)
async def test_a_leaf_tells_of_its_homes(internet: Internet) -> None:
    async with open_network(internet, 3) as network:
        late = await network.start("late")
        homes = set()
        async with late.subscribe() as events:
            async for event in events:
                if isinstance(event, HomeFound):
                    homes.add(event.address)
                if len(homes) == 3:
                    break
        assert homes == {network[f"sn{number}"].address for number in range(3)}
        assert [info.primary for info in late.status().homes] == [True, False, False]


@simulate(seeds=range(1), limit_s=60)
async def test_a_node_that_is_closed_leaves_nothing_behind(internet: Internet) -> None:
    async with open_network(internet, 3) as network:
        host = internet.add_host("guest")
        for _ in range(3):  # the port is free again each time
            async with network.open("guest", host=host) as guest:
                await guest.wait_ready()
        await trio.sleep(1)
        registered = [
            node.status().leaves_registered for node in network.nodes.values()
        ]
        assert sum(registered) == 0


@simulate(seeds=range(1), limit_s=60)
async def test_a_port_that_is_taken_is_an_error_of_the_network(
    internet: Internet,
) -> None:
    host = internet.add_host("alice")
    async with host.open_udp(host.at(7000)):
        with pytest.raises(OSError, match="in use"):
            async with open_node(
                settings(host),
                Identity.generate(host.random_bytes),
                host,
                random_bytes=host.random_bytes,
                unix_time=host.now(),
            ):
                pass


@simulate(seeds=range(1), limit_s=300)
async def test_ended_calls_are_held_for_a_while_only(internet: Internet) -> None:
    async with open_network(internet, 2, ["alice", "bob"]) as network:
        alice = network["alice"]
        for _ in range(70):
            line = await alice.place_call("bob")
            await trio.sleep(0.5)
            line.hang_up()
            await trio.sleep(1)
        assert len(alice.lines()) <= 64
        assert alice.lines()[-1] is line


@simulate(seeds=range(1), limit_s=60)
async def test_the_supernodes_are_listed_with_the_part_that_each_owns(
    internet: Internet,
) -> None:
    async with open_network(internet, 4, ["alice"]) as network:
        for name in ("alice", "sn0"):
            overview = await network[name].supernodes_overview()
            assert len(overview) == 4
            assert all(info.share == 1.0 for info in overview)
            states = [info.state for info in overview]
            expected = ("home", 3) if name == "alice" else ("this node", 1)
            assert states.count(expected[0]) == expected[1]
            assert {info.role for info in overview} == {"supernode"}
