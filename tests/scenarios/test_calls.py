"""Calls between whole nodes on the virtual internet; one way takes 40 ms there."""

from __future__ import annotations

import pytest
import trio

from overlay.call_messages import EndReason
from overlay.call_state import CallState
from overlay.errors import InvalidPeerName, NotOnline, PeerNotFound
from overlay.handles import CallHandle
from overlay.node_events import SupernodeMode
from tests.scenarios.calling import Answering, connect
from tests.scenarios.network import open_network
from tests.vnet import Internet, simulate


async def say(source: CallHandle, target: CallHandle, words: bytes) -> None:
    with trio.fail_after(2):
        await source.channel.send(words)
        assert await target.channel.receive() == words


def chosen(line: CallHandle) -> str:
    return next(path.route for path in line.paths() if path.chosen)


def since(line: CallHandle, what: str) -> float:
    return round(line.timeline[what] - line.timeline["placed"], 3)


@simulate(seeds=range(3), limit_s=120)
async def test_voice_flows_both_ways_and_hanging_up_ends_both_sides(
    internet: Internet,
) -> None:
    async with open_network(internet, 4, ["alice", "bob"]) as network:
        ours, theirs = await connect(network["alice"], network["bob"], "bob")
        await trio.sleep(1)
        await say(ours, theirs, b"to bob")
        await say(theirs, ours, b"to alice")
        ours.hang_up()
        assert await theirs.wait_for(CallState.ENDED) is CallState.ENDED
        assert theirs.ended_reason is EndReason.HUNG_UP
        assert (ours.ended_by, theirs.ended_by) == ("us", "them")
        with pytest.raises(trio.EndOfChannel):
            await theirs.channel.receive()


@simulate(seeds=range(3), limit_s=120)
async def test_it_rings_after_three_round_trips_if_the_home_owns_the_key(
    internet: Internet,
) -> None:
    async with open_network(internet, 4, ["alice", "bob"]) as network:
        ours, _ = await connect(network["alice"], network["bob"], "bob")
        # 80 ms to look up, 80 to the callee's home, 80 to the callee and back
        assert since(ours, "looked_up") == pytest.approx(0.08, abs=0.002)
        assert since(ours, "introduced") == pytest.approx(0.16, abs=0.002)
        assert since(ours, "ringing") == pytest.approx(0.24, abs=0.002)


@simulate(seeds=range(3), limit_s=120)
async def test_sound_can_flow_by_a_relay_as_soon_as_the_call_is_accepted(
    internet: Internet,
) -> None:
    async with open_network(internet, 4, ["alice", "bob"]) as network:
        answering = Answering(network["bob"], answer=False)
        async with trio.open_nursery() as nursery:
            await nursery.start(answering.serve)
            ours = await network["alice"].place_call("bob", relay_only=True)
            await ours.wait_for(CallState.RINGING)
            await trio.sleep(1)  # a person takes longer to answer
            (theirs,) = answering.lines
            theirs.answer()
            await say(theirs, ours, b"at once")
            await say(ours, theirs, b"and back")
            assert chosen(ours).startswith("relay(")
            assert len(ours.relays) == 2
            assert ours.relays == theirs.relays
            nursery.cancel_scope.cancel()


@simulate(seeds=range(3), limit_s=120)
async def test_contacts_move_to_a_direct_path_and_lose_nothing(
    internet: Internet,
) -> None:
    async with open_network(internet, 4, ["alice", "bob"]) as network:
        ours, theirs = await connect(network["alice"], network["bob"], "bob")
        with trio.fail_after(5):
            while not any(path.chosen for path in ours.paths()):
                await ours.wait_changed()
        heard = []

        async def listen() -> None:
            async for words in theirs.channel:
                heard.append(words)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for number in range(150):
                await ours.channel.send(number.to_bytes(2, "big"))
                await trio.sleep(0.02)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert chosen(ours) == "direct"
        assert sorted(set(heard)) == [n.to_bytes(2, "big") for n in range(150)]


@simulate(seeds=range(3), limit_s=120)
async def test_strangers_stay_relayed_and_never_see_each_others_address(
    internet: Internet,
) -> None:
    async with open_network(internet, 4) as network:
        network.strangers.add("mallory")
        await network.start("mallory")
        await network.start("bob")
        await trio.sleep(5)
        ours, theirs = await connect(network["mallory"], network["bob"], "bob")
        await trio.sleep(3)
        await say(ours, theirs, b"hello")
        assert chosen(ours).startswith("relay(")
        bob, mallory = network.hosts["bob"], network.hosts["mallory"]
        assert bob.at(7000) not in internet.ledger.remotes("mallory")
        assert mallory.at(7000) not in internet.ledger.remotes("bob")


@simulate(seeds=range(3), limit_s=120)
async def test_a_refused_call_says_so_on_both_sides(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice", "bob"]) as network:
        answering = Answering(network["bob"], answer=False)
        async with trio.open_nursery() as nursery:
            await nursery.start(answering.serve)
            ours = await network["alice"].place_call("bob")
            await ours.wait_for(CallState.RINGING)
            answering.lines[0].refuse()
            await ours.wait_for(CallState.ENDED)
            assert ours.ended_reason is EndReason.REFUSED
            assert answering.lines[0].ended_reason is EndReason.REFUSED
            assert (ours.ended_by, answering.lines[0].ended_by) == ("them", "us")
            nursery.cancel_scope.cancel()


@simulate(seeds=range(3), limit_s=120)
async def test_somebody_in_a_call_is_busy(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice", "bob", "carol"]) as network:
        first, _ = await connect(network["alice"], network["bob"], "bob")
        second = await network["carol"].place_call("bob")
        await second.wait_for(CallState.ENDED)
        assert second.ended_reason is EndReason.BUSY
        assert first.state is CallState.CONNECTED


@simulate(seeds=range(2), limit_s=200)
async def test_nobody_answering_ends_after_a_minute(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice", "bob"]) as network:
        answering = Answering(network["bob"], answer=False)
        async with trio.open_nursery() as nursery:
            await nursery.start(answering.serve)
            ours = await network["alice"].place_call("bob")
            await ours.wait_for(CallState.ENDED)
            assert since(ours, "ended") == pytest.approx(60.24, abs=0.01)
            assert ours.ended_reason is EndReason.NO_ANSWER
            await trio.sleep(1)
            assert answering.lines[0].ended_reason is EndReason.NO_ANSWER
            nursery.cancel_scope.cancel()


@simulate(seeds=range(3), limit_s=120)
async def test_a_caller_who_hangs_up_early_stops_the_ringing(
    internet: Internet,
) -> None:
    async with open_network(internet, 3, ["alice", "bob"]) as network:
        for wait_s in (0.0, 0.1, 1.0):  # before the offer, before the reply, ringing
            answering = Answering(network["bob"], answer=False)
            async with trio.open_nursery() as nursery:
                await nursery.start(answering.serve)
                ours = await network["alice"].place_call("bob")
                await trio.sleep(wait_s)
                ours.hang_up()
                assert ours.ended_reason is EndReason.CANCELLED
                await trio.sleep(3)
                assert answering.lines[0].ended_reason is EndReason.CANCELLED
                nursery.cancel_scope.cancel()


@simulate(seeds=range(3), limit_s=120)
async def test_who_cannot_be_called_is_told_apart(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice", "bob"]) as network:
        alice = network["alice"]
        with pytest.raises(PeerNotFound):
            await alice.place_call("nobody")
        with pytest.raises(InvalidPeerName):
            await alice.place_call("not a name")
        with pytest.raises(InvalidPeerName):
            await alice.place_call("alice")
        network.hosts["bob"].pause()
        ours = await alice.place_call("bob")
        await ours.wait_for(CallState.ENDED)
        assert ours.ended_reason is EndReason.NOT_ONLINE


@simulate(seeds=range(2), limit_s=1_200)
async def test_a_node_that_left_is_not_online(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice"]) as network:
        async with network.open("bob") as bob:
            await bob.wait_ready()
            await trio.sleep(1)
        ours = await network["alice"].place_call("bob")
        await ours.wait_for(CallState.ENDED)
        assert ours.ended_reason is EndReason.NOT_ONLINE
        assert since(ours, "ended") < 1.0
        await trio.sleep(1_000)
        with pytest.raises(NotOnline):
            await network["alice"].place_call("bob")


@simulate(seeds=range(3), limit_s=120)
async def test_a_peer_that_vanishes_is_lost_within_ten_seconds(
    internet: Internet,
) -> None:
    async with open_network(internet, 3, ["alice", "bob"]) as network:
        ours, theirs = await connect(network["alice"], network["bob"], "bob")
        await trio.sleep(2)
        await say(theirs, ours, b"last words")
        network.hosts["bob"].pause()
        at = trio.current_time()
        await ours.wait_for(CallState.ENDED)
        assert ours.ended_reason is EndReason.LOST
        assert trio.current_time() - at == pytest.approx(10, abs=0.1)


@simulate(seeds=range(5), limit_s=120)
async def test_the_call_goes_on_when_its_relay_dies(internet: Internet) -> None:
    async with open_network(internet, 5, ["alice", "bob"]) as network:
        ours, theirs = await connect(
            network["alice"], network["bob"], "bob", relay_only=True
        )
        await trio.sleep(2)
        relay = chosen(ours)
        for name in network.nodes:
            if f"relay({network.hosts[name].at(7000)})" == relay:
                network.hosts[name].pause()
        heard = []

        async def listen() -> None:
            async for _ in theirs.channel:
                heard.append(trio.current_time())

        died_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for _ in range(500):
                await ours.channel.send(b"sound")
                await theirs.channel.send(b"sound")
                await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
        gap_s = next(at for at in heard if at > died_at + 0.2) - died_at
        assert gap_s < 1.5
        assert chosen(ours) not in ("direct", relay)
        assert ours.state is CallState.CONNECTED


@simulate(seeds=range(3), limit_s=120)
async def test_supernodes_call_and_are_called(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice"]) as network:
        for caller, callee in (("alice", "sn1"), ("sn1", "alice"), ("sn0", "sn2")):
            ours, theirs = await connect(network[caller], network[callee], callee)
            await trio.sleep(2)
            await say(ours, theirs, b"hello")
            await say(theirs, ours, b"hello yourself")
            ours.hang_up()
            await theirs.wait_for(CallState.ENDED)


@simulate(seeds=range(3), limit_s=120)
async def test_supernodes_are_called_through_relays_too(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice"]) as network:
        ours, theirs = await connect(
            network["alice"], network["sn1"], "sn1", relay_only=True
        )
        await trio.sleep(1)
        await say(ours, theirs, b"hello")
        await say(theirs, ours, b"hello yourself")


@simulate(seeds=range(5), limit_s=120)
async def test_calls_pass_through_nats(internet: Internet) -> None:
    async with open_network(internet, 4) as network:
        for name, kind in (("alice", "home"), ("bob", "full-cone")):
            router = internet.add_router(f"{name}-router", kind)
            host = internet.add_host(name, behind=router)
            await network.start(name, host=host)
        for name in ("alice", "bob"):
            await network[name].wait_ready()
        await trio.sleep(3)
        ours, theirs = await connect(network["alice"], network["bob"], "bob")
        await trio.sleep(3)
        await say(ours, theirs, b"hello")
        await say(theirs, ours, b"hello yourself")
        assert chosen(ours) == chosen(theirs) == "direct"


@simulate(seeds=range(3), limit_s=120)
async def test_where_punching_fails_the_relay_carries_the_call(
    internet: Internet,
) -> None:
    async with open_network(internet, 4) as network:
        for name in ("alice", "bob"):
            router = internet.add_router(f"{name}-router", "symmetric-random")
            host = internet.add_host(name, behind=router)
            await network.start(name, host=host)
        for name in ("alice", "bob"):
            await network[name].wait_ready()
        await trio.sleep(3)
        ours, theirs = await connect(network["alice"], network["bob"], "bob")
        await trio.sleep(5)
        await say(ours, theirs, b"hello")
        await say(theirs, ours, b"hello yourself")
        assert chosen(ours).startswith("relay(")


@simulate(seeds=range(10), limit_s=120)
async def test_calls_come_about_on_bad_networks(internet: Internet) -> None:
    async with open_network(internet, 4, ["alice", "bob"]) as network:
        for host in network.hosts.values():
            quality = host.wire.up.quality
            bad = type(quality)(
                delay_s=0.03, jitter_s=0.02, loss=0.05, duplicate=0.02, reorder=0.05
            )
            host.wire.set_quality(bad)
        ours, theirs = await connect(network["alice"], network["bob"], "bob")
        await trio.sleep(2)
        for source, target in ((ours, theirs), (theirs, ours)):
            for _ in range(20):
                await source.channel.send(b"hello")
            with trio.fail_after(2):
                assert await target.channel.receive() == b"hello"
        ours.hang_up()
        await theirs.wait_for(CallState.ENDED)
        assert theirs.ended_reason is EndReason.HUNG_UP


@simulate(seeds=range(3), limit_s=60)
async def test_the_way_to_a_peer_can_be_measured(internet: Internet) -> None:
    async with open_network(internet, 3, ["alice", "bob"]) as network:
        pinged = await network["alice"].ping("bob")
        assert pinged.direct
        assert pinged.rtt_s == pytest.approx(0.08, abs=0.002)
        network.strangers.add("bob")
        pinged = await network["alice"].ping("bob")
        assert not pinged.direct
        assert pinged.route.startswith("relay(")
        assert network["bob"].lines() == []


@simulate(seeds=range(3), limit_s=60)
async def test_the_first_node_of_a_network_promotes_itself(internet: Internet) -> None:
    async with open_network(internet, 0) as network:
        first = await network.start("first", supernode=SupernodeMode.AUTO)
        await first.wait_ready()
        assert first.role == "supernode"
        second = await network.start(
            "second", supernode=SupernodeMode.AUTO, seeds=[first.address]
        )
        await second.wait_ready()
        assert second.role == "leaf"
        ours, theirs = await connect(second, first, "first")
        await trio.sleep(2)
        await say(ours, theirs, b"hello")


@simulate(seeds=range(2), limit_s=60)
async def test_a_node_told_never_to_serve_waits_for_others(internet: Internet) -> None:
    async with open_network(internet, 0) as network:
        alone = await network.start("alone", supernode=SupernodeMode.OFF)
        await trio.sleep(20)
        assert alone.role == "leaf"
        assert not alone.ready


@simulate(seeds=range(3), limit_s=300)
async def test_a_leaf_finds_new_homes_when_its_homes_die(internet: Internet) -> None:
    async with open_network(internet, 6, ["alice", "bob"]) as network:
        homes = {str(home.address) for home in network["bob"].status().homes}
        assert len(homes) == 3
        died = [n for n in network.nodes if str(network.hosts[n].at(7000)) in homes]
        for name in died[:2]:
            network.hosts[name].pause()
        await trio.sleep(60)
        now = {str(home.address) for home in network["bob"].status().homes}
        paused = {str(network.hosts[name].at(7000)) for name in died[:2]}
        assert len(now) == 3
        assert not now & paused
        ours, theirs = await connect(network["alice"], network["bob"], "bob")
        await trio.sleep(2)
        await say(ours, theirs, b"hello")
