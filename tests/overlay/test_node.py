"""Whole nodes: coming home, serving others, and taking any bytes from anywhere."""

from __future__ import annotations

import random

import pytest

from nat import stun
from nat.address import Address
from nat.relay import encode_relayed
from nat.stun import BindingRequest
from overlay.ask import Peer
from overlay.endpoint import Endpoint
from overlay.home import AtHome, HomesState, NobodyAnswers
from overlay.lookup import Outcome
from overlay.messages import (
    Deliver,
    GetSupernodes,
    Goodbye,
    Refusal,
    Refused,
    decode_answer,
    encode_body,
)
from overlay.node_events import (
    LookupEnded,
    Ready,
    Role,
    RoleChanged,
    SupernodeMode,
    SurveyEnded,
)
from overlay.records import Claim, Presence, id_key, name_key
from tests.overlay.machines import Node, Quality, World
from tests.overlay.samples import descriptor

PERFECT = Quality()
VICTIM = Address("198.51.100.66", 6666)


def network(
    supernodes: int = 3,
    leaves: int = 0,
    *,
    seed: int = 0,
    quality: Quality = PERFECT,
) -> tuple[World, list[Node], list[Node]]:
    """Give a world with supernodes that know each other, and leaves that are home."""
    world = World(seed=seed, quality=quality)
    seeds = [Address(f"20.{number}.0.1", 7000) for number in range(min(3, supernodes))]
    servers = [
        world.add(number, supernode=SupernodeMode.ON, seeds=seeds)
        for number in range(supernodes)
    ]
    world.run(3)
    clients = [
        world.add(100 + number, seeds=seeds, name=f"leaf{number}")
        for number in range(leaves)
    ]
    world.run_until(lambda: all(leaf.heard(Ready) for leaf in clients), 60)
    return world, servers, clients


def test_a_leaf_is_ready_once_all_owners_hold_its_presence() -> None:
    world, servers, (leaf,) = network(3, 1)
    (ready,) = leaf.heard(Ready)
    assert (ready.stored, ready.owners) == (3, 3)
    assert leaf.machine.role is Role.LEAF
    world.run(1)
    done = servers[1].look_up(id_key(leaf.identity.public_key))
    assert done.outcome is Outcome.FOUND
    assert [r.public_key for r in done.records] == [leaf.identity.public_key]


def test_a_name_leads_to_its_claim_and_its_owners_presence() -> None:
    _, _, (first, second) = network(3, 2)
    done = first.look_up(name_key("leaf1"))
    kinds = {type(record) for record in done.records}
    assert kinds == {Claim, Presence}
    assert {r.public_key for r in done.records} == {second.identity.public_key}


def test_the_first_node_of_a_network_promotes_itself() -> None:
    world = World()
    first = world.add(0, supernode=SupernodeMode.AUTO)
    world.run(1)
    assert first.machine.role is Role.SUPERNODE
    assert len(first.heard(RoleChanged)) == 1
    assert first.heard(Ready) == [Ready(1, 1)]


def test_a_node_that_must_not_serve_waits_for_others() -> None:
    world = World()
    lonely = world.add(0, supernode=SupernodeMode.OFF)
    world.run(10)
    assert lonely.machine.role is Role.LEAF
    assert len(lonely.heard(NobodyAnswers)) > 3


def test_a_node_with_seeds_does_not_promote_itself_because_they_are_silent() -> None:
    world = World()
    node = world.add(0, supernode=SupernodeMode.AUTO, seeds=[VICTIM])
    world.run(60)
    assert node.machine.role is Role.LEAF
    assert node.machine.station.why_role == "no supernode answers"


def test_a_supernode_publishes_itself_anew_every_five_minutes() -> None:
    world, (server, *_), _ = network(3)
    first = server.machine.presence
    world.run(301)
    assert server.machine.presence.seq > first.seq
    assert len(server.heard(Ready)) >= 2


def test_a_leaf_lists_the_supernodes_its_home_knows() -> None:
    world, _, (leaf,) = network(4, 1)
    leaf.machine.survey(world.now)
    world.drain(leaf)
    world.run(2)
    (ended,) = leaf.heard(SurveyEnded)
    assert len(ended.found) == 4


def test_a_node_without_a_home_lists_nobody() -> None:
    world = World()
    lonely = world.add(0)
    lonely.machine.survey(world.now)
    world.drain(lonely)
    assert [ended.found for ended in lonely.heard(SurveyEnded)] == [()]


def test_a_supernode_lists_a_table_of_four_hundred() -> None:
    world = World()
    server = world.add(0, supernode=SupernodeMode.ON)
    supernode = server.machine.supernode
    assert supernode is not None
    for number in range(1, 400):
        known = descriptor(number)
        supernode.members._learn((known.raw,), None, world.now)
        supernode.members.heard(known.dh_public, known.address, world.now)
    server.machine.survey(world.now)
    (ended,) = [e for e in server.machine.events() if isinstance(e, SurveyEnded)]
    assert len(ended.found) == 400


def test_a_goodbye_takes_a_leaf_off_its_homes() -> None:
    world, servers, (leaf,) = network(3, 1)
    world.stop(leaf)
    world.run(1)
    for server in servers:
        assert server.machine.supernode is not None
        assert len(server.machine.supernode.registry) == 0


def test_a_supernode_that_leaves_is_no_home_any_more_and_off_the_ring() -> None:
    world, servers, (leaf,) = network(4, 1)
    homes = leaf.machine.station.homes
    assert homes is not None
    first = homes.homes[0]
    world.stop(world.nodes[first.peer.address])
    world.run(5)
    assert homes.state is HomesState.AT_HOME
    assert first.static not in {home.static for home in homes.homes}
    for server in servers:
        if server.address in world.nodes:
            assert server.machine.supernode is not None
            assert len(server.machine.supernode.members.ring) == 3


def test_all_homes_killed_a_leaf_comes_back_when_others_are_there() -> None:
    world, servers, (leaf,) = network(3, 1)
    for server in servers:
        world.stop(server, politely=False)
    world.run(60)
    for number, server in enumerate(servers):
        seeds = [each.address for each in servers]
        world.add(number, supernode=SupernodeMode.ON, seeds=seeds, life=2)
        assert server.address in world.nodes
    ready = len(leaf.heard(Ready))
    world.run_until(lambda: len(leaf.heard(Ready)) > ready, 120)


def test_a_look_up_without_a_home_ends_at_once() -> None:
    world = World()
    lonely = world.add(0)
    began = world.now
    assert lonely.look_up(bytes(8)).outcome is Outcome.UNREACHABLE
    assert world.now == began


def test_more_look_ups_than_the_limit_are_refused() -> None:
    _, _, (leaf,) = network(3, 1)
    machine, now = leaf.machine, leaf.world.now
    numbers = [machine.look_up(bytes(8), now) for _ in range(70)]
    assert sum(number is None for number in numbers) == 6
    leaf.world.drain(leaf)
    leaf.world.run(10)
    assert len(leaf.heard(LookupEnded)) == 64


# -- strangers -------------------------------------------------------------------------


@pytest.mark.parametrize("supernode", [SupernodeMode.ON, SupernodeMode.OFF])
def test_garbage_of_every_kind_is_counted_and_answered_by_nothing(
    supernode: SupernodeMode,
) -> None:
    world = World()
    node = world.add(0, supernode=supernode)
    world.run(0.01)
    rng = random.Random(1)
    sent = world.sent
    for kind in range(256):
        for size in (0, 1, 4, 8, 19, 20, 28, 29, 60, 511, 512, 1_200, 1_500):
            garbage = bytes((kind,)) + rng.randbytes(size)
            world.inject(garbage, VICTIM, node.address)
    world.inject(b"", VICTIM, node.address)
    assert world.sent == sent
    counted = (
        node.machine.datagrams_unknown
        + node.machine.endpoint.statistics()["datagrams_refused"]
        + node.machine.calls.statistics.unknown_datagrams
        + node.machine.gate.statistics().refused
    )
    assert counted >= 256 * 13 - 14  # relay frames are counted by the relay


def test_a_supernode_tells_where_a_request_came_from_and_a_leaf_does_not() -> None:
    world, (server, *_), (leaf,) = network(3, 1)
    request = stun.encode(
        BindingRequest(bytes(12), padding_bytes=stun.REFLECTION_PADDING_BYTES)
    )
    heard: list[bytes] = []
    world.tap = lambda datagram, _, target: (
        heard.append(datagram) if target == VICTIM else None
    )
    world.inject(request, VICTIM, leaf.address)
    assert heard == []
    world.inject(request, VICTIM, server.address)
    (answer,) = heard
    assert stun.decode(answer) == stun.BindingResponse(bytes(12), VICTIM)
    assert len(answer) <= len(request)


def test_a_request_too_short_for_its_answer_is_not_reflected() -> None:
    world, (server, *_), _ = network(1)
    sent = world.sent
    world.inject(stun.encode(BindingRequest(bytes(12))), VICTIM, server.address)
    assert world.sent == sent
    assert server.machine.datagrams_unknown == 1


def test_a_relayed_datagram_for_no_channel_is_dropped() -> None:
    world, (server, *_), (leaf,) = network(3, 1)
    frame = encode_relayed(bytes(8), b"voice")
    sent = world.sent
    for node in (server, leaf):
        world.inject(frame, VICTIM, node.address)
    assert world.sent == sent
    assert leaf.machine.datagrams_unknown == 1


def test_an_authenticated_peer_cannot_turn_a_node_on_a_third_address() -> None:
    """It asks for pages from forged sources: what goes there is what came, and a bit.

    The world itself asserts that; a bit is what a node may begin by itself.
    """
    world, (server, *_), (leaf,) = network(8, 1)
    session = leaf.machine.endpoint.session_with(server.identity.dh_public)
    if session is None:
        body = encode_body(GetSupernodes(bytes(8)))
        peer = Peer(server.address, server.identity.dh_public)
        leaf.machine.endpoint.request(peer, body, world.now)
        world.drain(leaf)
        world.run(1)
        session = leaf.machine.endpoint.session_with(server.identity.dh_public)
    assert session is not None
    for _ in range(200):
        session.exchange.request(encode_body(GetSupernodes(bytes(8))), world.now)
        for _, datagram in session.messages_to_send():
            world.inject(datagram, VICTIM, server.address)
        world.run(0.05)
    account = world.accounts[server.address, VICTIM]
    assert account.went_bytes > 0
    assert account.excess_bytes <= 0
    assert not server.machine.gate.is_validated(VICTIM, world.now)


def test_a_stranger_cannot_deliver_to_a_leaf() -> None:
    world, _, (leaf, other) = network(3, 2)
    answers: list[bytes] = []
    peer = leaf.machine.station.us
    asked = other.machine.endpoint.request(
        peer, encode_body(Deliver(bytes(16), b"x")), world.now
    )
    world.drain(other)
    taken = other.machine.dispatch.answered
    other.machine.dispatch.answered = (  # type: ignore[method-assign]  # a tap
        lambda event, now: (
            answers.append(event.body) if event.request == asked else taken(event, now)
        )
    )
    world.run(1)
    assert [decode_answer(each) for each in answers] == [Refused(Refusal.NOT_FOR_YOU)]
    assert leaf.incoming == []


def test_a_goodbye_of_a_stranger_closes_its_session_only() -> None:
    world, (server, *_), (leaf, other) = network(3, 2)
    supernode = server.machine.supernode
    assert supernode is not None
    leaves = len(supernode.registry)
    body = encode_body(Goodbye())
    assert other.machine.endpoint.notify(server.identity.dh_public, body)
    world.drain(other)
    world.run(0.1)
    assert len(supernode.registry) == leaves - 1
    assert supernode.registry.find(leaf.identity.public_key) is not None


def test_bodies_that_are_none_are_refused_and_counted() -> None:
    world, (server, *_), (leaf,) = network(3, 1)
    endpoint: Endpoint = leaf.machine.endpoint
    home = server.identity.dh_public
    for body in (b"", b"\xff", b"\x91\xcd\xff\xff", encode_body(Goodbye())):
        endpoint.request(Peer(server.address, home), body, world.now)
    endpoint.notify(home, b"\xc1")
    world.drain(leaf)
    world.run(2)
    assert server.machine.bodies_refused == 5


@pytest.mark.parametrize("seed", range(4))
def test_a_network_on_bad_lines_comes_home_and_finds_everyone(seed: int) -> None:
    quality = Quality(jitter_s=0.06, loss=0.1, duplicate=0.1, corrupt=0.05)
    world, _, leaves = network(4, 3, seed=seed, quality=quality)
    world.run(30)  # tables are compared each 30 s: until then rings may differ
    for leaf in leaves:
        for other in leaves:
            done = leaf.look_up(id_key(other.identity.public_key))
            assert done.outcome is Outcome.FOUND


def test_the_same_seed_gives_the_same_run() -> None:
    def trace() -> list[tuple[float, bytes]]:
        quality = Quality(jitter_s=0.05, loss=0.1)
        world = World(seed=5, quality=quality)
        sent: list[tuple[float, bytes]] = []
        world.tap = lambda datagram, *_: sent.append((world.now, datagram))
        first = world.add(0, supernode=SupernodeMode.ON)
        world.add(1, seeds=[first.address], name="alice")
        world.run(30)
        return sent

    assert trace() == trace()


def test_a_leaf_behind_a_changed_mapping_is_called_where_it_is_now() -> None:
    world, _, (leaf,) = network(3, 1)
    world.run(5)
    homes = leaf.machine.station.homes
    assert homes is not None
    moved = Address("198.51.100.9", 4_000)
    world.rebind(leaf, moved)
    world.run(30)  # the next keepalives
    for home in homes.homes:
        server = world.nodes[home.peer.address]
        session = server.machine.endpoint.session_with(leaf.identity.dh_public)
        assert session is not None
        assert session.address == session.proven == moved
        assert server.machine.gate.is_validated(moved, world.now)
    assert len(leaf.heard(AtHome)) == 1
