"""Calls between whole nodes: how they begin, what carries them, why they end."""

from __future__ import annotations

import math

import pytest

from nat.address import Address
from nat.candidate import Candidate, CandidateKind
from nat.errors import WireError
from nat.paths import Direct, Relayed
from overlay.call_messages import (
    Accept,
    Candidates,
    EndReason,
    HangUp,
    Offer,
    OfferedRelay,
    Purpose,
    Refuse,
    UseRelays,
    encode_call_body,
)
from overlay.call_state import TRANSITIONS, CallState, Cause
from overlay.calls import CALLS_MAX, PINGS_MAX
from overlay.incoming import IncomingCall
from overlay.line import Line
from overlay.messages import Contact, Deliver, encode_body
from overlay.node_events import CallArrived, SupernodeMode
from overlay.outgoing import OutgoingCall, choose_relays
from overlay.records import Presence, read_presence, sign_presence
from tests.overlay.machines import Node, Quality, World
from tests.overlay.samples import contact, identity, presence
from tests.overlay.test_node import VICTIM, network


def everybody(public_key: bytes) -> bool:
    return True


def nobody(public_key: bytes) -> bool:
    return False


def ring(caller: Node, callee: Node) -> tuple[OutgoingCall, IncomingCall]:
    """Give both ends of a call that rings."""
    before = len(callee.incoming)
    call = caller.call(callee)
    caller.world.run_until(lambda: len(callee.incoming) > before)
    caller.world.run_until(lambda: call.state is not CallState.OFFERING)
    return call, callee.incoming[-1]


def connect(caller: Node, callee: Node) -> tuple[OutgoingCall, IncomingCall]:
    """Give both ends of a call that was answered."""
    ours, theirs = ring(caller, callee)
    callee.answer(theirs)
    caller.world.run_until(lambda: in_state(ours, CallState.CONNECTED))
    return ours, theirs


def in_state(call: OutgoingCall | IncomingCall, state: CallState) -> bool:
    return call.state is state


def chosen_relay(call: OutgoingCall | IncomingCall) -> Address:
    (route,) = [report.route for report in call.path_reports() if report.chosen]
    assert isinstance(route, Relayed)
    return route.relay


def reasons(*calls: OutgoingCall | IncomingCall) -> list[EndReason | None]:
    return [call.ended_reason for call in calls]


def talk(
    world: World, ends: tuple[tuple[Node, OutgoingCall | IncomingCall], ...], count: int
) -> None:
    """Let both ends say `count` things, 50 a second."""
    for number in range(count):
        for node, call in ends:
            node.say(call, b"%d" % number)
        world.run(0.02)


def test_voice_flows_both_ways_and_both_know_who_hung_up() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = connect(alice, bob)
    world.run(1)
    talk(world, ((alice, ours), (bob, theirs)), 50)
    world.run(0.1)
    assert alice.media == bob.media == [b"%d" % number for number in range(50)]
    alice.hang_up(ours)
    world.run(0.2)
    assert reasons(ours, theirs) == [EndReason.HUNG_UP] * 2
    assert (ours.ended_by_us, theirs.ended_by_us) == (True, False)


def test_sound_can_be_sent_from_the_moment_of_accepting() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = ring(alice, bob)
    world.run(1)  # both relays are joined while it rings
    bob.answer(theirs)
    assert bob.say(theirs, b"hello")
    world.run_until(lambda: alice.media, 0.2)
    assert ours.state is CallState.CONNECTED


def test_contacts_find_a_direct_path_and_strangers_stay_with_the_relays() -> None:
    for is_contact in (True, False):
        world = World()
        seeds = [Address("20.0.0.1", 7000)]
        for number in range(3):
            world.add(number, supernode=SupernodeMode.ON, seeds=seeds)
        world.run(3)
        know = everybody if is_contact else nobody
        alice = world.add(10, seeds=seeds, is_contact=know)
        bob = world.add(11, seeds=seeds, is_contact=know)
        world.run(5)
        ours, _ = connect(alice, bob)
        world.run(3)
        routes = {type(report.route) for report in ours.path_reports()}
        assert (Direct in routes) is is_contact
        assert Relayed in routes
        chosen = next(r for r in ours.path_reports() if r.chosen)
        assert isinstance(chosen.route, Direct) is is_contact


@pytest.mark.parametrize("who", ["caller", "callee"])
def test_one_side_asking_for_relays_only_is_enough(who: str) -> None:
    world, _, (alice, bob) = network(3, 2)
    call = alice.call(bob, relay_only=who == "caller")
    world.run_until(lambda: bob.incoming)
    if who == "callee":
        bob.incoming[0].disclosure.allowed = False
    bob.answer(bob.incoming[0])
    world.run(5)
    for each in (call, bob.incoming[0]):
        assert all(isinstance(r.route, Relayed) for r in each.path_reports())


def test_a_refusal_is_known_on_both_sides() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = ring(alice, bob)
    bob.refuse(theirs)
    world.run(0.3)
    assert reasons(ours, theirs) == [EndReason.REFUSED] * 2
    assert (ours.ended_by_us, theirs.ended_by_us) == (False, True)


def test_a_refusal_at_once_reaches_a_caller_who_has_not_heard_of_ringing() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours = alice.call(bob)
    world.run_until(lambda: bob.incoming)
    bob.refuse(bob.incoming[0])
    world.run(1)
    assert reasons(ours, bob.incoming[0]) == [EndReason.REFUSED] * 2


def test_who_is_in_a_call_is_busy_for_others_but_not_for_a_ping() -> None:
    world, _, (alice, bob, carol) = network(3, 3)
    connect(alice, bob)
    call = carol.call(bob)
    world.run(1)
    assert call.ended_reason is EndReason.BUSY
    ping = carol.call(bob, purpose=Purpose.PING)
    world.run(1)
    assert ping.state is CallState.CONNECTED
    assert bob.machine.calls.statistics.busy == 1


def test_a_stranger_who_lets_it_ring_keeps_strangers_out_but_no_contact() -> None:
    world, (server, *_), (stranger, other, friend) = network(3, 3)
    bob = world.add(
        99,
        seeds=[server.address],
        is_contact=lambda key: key == friend.identity.public_key,
    )
    world.run(5)
    ring(stranger, bob)
    refused = other.call(bob)
    world.run(1)
    assert refused.ended_reason is EndReason.BUSY
    ours, theirs = ring(friend, bob)
    bob.answer(theirs)
    world.run(1)
    assert ours.state is CallState.CONNECTED


def test_nobody_answering_ends_after_a_minute_on_both_sides() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = ring(alice, bob)
    world.run(59)
    assert in_state(ours, CallState.RINGING)
    world.run(2)
    assert reasons(ours, theirs) == [EndReason.NO_ANSWER] * 2


def test_a_call_taken_back_stops_ringing() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = ring(alice, bob)
    alice.hang_up(ours)
    world.run(0.3)
    assert reasons(ours, theirs) == [EndReason.CANCELLED] * 2


def test_a_call_taken_back_before_anything_was_heard_stops_ringing_too() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours = alice.call(bob)
    alice.hang_up(ours)
    world.run(2)
    assert len(bob.incoming) == 1
    assert reasons(ours, bob.incoming[0]) == [EndReason.CANCELLED] * 2


def test_who_is_at_home_nowhere_is_not_online() -> None:
    world, servers, (alice, bob) = network(3, 2)
    before = bob.machine.presence
    world.stop(bob)
    world.run(1)
    call = alice.call_at(before)
    world.run(1)
    assert call.ended_reason is EndReason.NOT_ONLINE
    assert alice.call_at(presence(99)).ended_reason is EndReason.NOT_ONLINE
    assert servers


def test_a_callee_that_fell_silent_is_not_online_after_ten_seconds() -> None:
    world, _, (alice, bob) = network(3, 2)
    before = bob.machine.presence
    world.stop(bob, politely=False)
    call = alice.call_at(before)
    world.run(9.9)
    assert in_state(call, CallState.OFFERING)
    world.run(0.2)
    assert call.ended_reason is EndReason.NOT_ONLINE


def test_a_dead_first_home_is_passed_over() -> None:
    world, _, (alice, bob) = network(4, 2)
    before = bob.machine.presence
    world.stop(world.nodes[before.homes[0].address], politely=False)
    alice.call_at(before)
    world.run_until(lambda: bob.incoming, 10)


def test_the_other_end_vanishing_ends_the_call_after_ten_seconds() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, _ = connect(alice, bob)
    world.run(1)
    world.stop(bob, politely=False)
    world.run(9)
    assert in_state(ours, CallState.CONNECTED)
    world.run(5)
    assert ours.ended_reason is EndReason.LOST


def test_a_node_that_is_stopped_says_so() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, _ = connect(alice, bob)
    world.run(1)
    world.stop(bob)
    world.run(1)
    assert ours.ended_reason is EndReason.SHUT_DOWN


def test_a_call_in_which_nobody_speaks_goes_on() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = connect(alice, bob)
    world.run(120)
    assert in_state(ours, CallState.CONNECTED)
    assert in_state(theirs, CallState.CONNECTED)


def test_neither_relay_nor_direct_path_ends_the_call_after_ten_seconds() -> None:
    world, servers, (alice, bob) = network(3, 2)
    homes = {server.address for server in servers}
    world.lose = lambda d, source, target: (
        d[0] == 9 or (source not in homes and target not in homes)
    )
    ours, theirs = connect(alice, bob)
    world.run(9)
    assert in_state(ours, CallState.CONNECTED)
    world.run(3)
    assert reasons(ours, theirs) == [EndReason.NO_RELAY] * 2


def test_a_relay_killed_under_a_call_leaves_the_other_one() -> None:
    world, _, (alice, bob) = network(4, 2)
    ours = alice.call(bob, relay_only=True)
    world.run_until(lambda: bob.incoming)
    theirs = bob.incoming[0]
    bob.answer(theirs)
    world.run(2)
    before = chosen_relay(ours)
    world.stop(world.nodes[before], politely=False)
    talk(world, ((alice, ours), (bob, theirs)), 200)
    assert in_state(ours, CallState.CONNECTED)
    assert chosen_relay(ours) != before
    assert alice.media[-1] in (b"199", b"198", b"197")


def test_a_call_that_is_over_is_forgotten_and_its_channels_are_left() -> None:
    world, servers, (alice, bob) = network(3, 2)
    ours, _ = connect(alice, bob)
    world.run(1)
    alice.hang_up(ours)
    world.run(6)
    assert list(alice.machine.calls) == list(bob.machine.calls) == []
    assert alice.machine.calls.next_timeout() == math.inf
    for server in servers:
        assert server.machine.supernode is not None
        assert server.machine.supernode.statistics()["relay_channels"] == 0


@pytest.mark.parametrize("roles", ["leaf to supernode", "supernode to leaf", "both"])
def test_supernodes_call_and_are_called_over_their_own_relay(roles: str) -> None:
    world, servers, (leaf,) = network(3, 1)
    caller = leaf if roles == "leaf to supernode" else servers[0]
    callee = leaf if roles == "supernode to leaf" else servers[1]
    ours, theirs = ring(caller, callee)
    world.run(1)
    callee.answer(theirs)
    world.run(1)
    talk(world, ((caller, ours), (callee, theirs)), 10)
    world.run(0.2)
    assert len(caller.media) == len(callee.media) == 10
    assert any(isinstance(r.route, Relayed) for r in ours.path_reports())
    caller.hang_up(ours)
    world.run(1)
    assert reasons(ours, theirs) == [EndReason.HUNG_UP] * 2


def test_two_who_call_each_other_at_once_are_both_busy_or_one_is_answered() -> None:
    world, _, (alice, bob) = network(3, 2)
    first, second = alice.call(bob), bob.call(alice)
    world.run(1)
    assert EndReason.BUSY in reasons(first, second)


def test_pings_are_answered_by_themselves_but_only_so_many() -> None:
    world, _, leaves = network(3, PINGS_MAX + 2)
    bob, *others = leaves
    pings = [each.call(bob, purpose=Purpose.PING) for each in others]
    world.run(1)
    states = [ping.state for ping in pings]
    assert states.count(CallState.CONNECTED) == PINGS_MAX
    assert reasons(*pings).count(EndReason.BUSY) == 1


def test_a_ping_that_nobody_hangs_up_ends_after_ten_seconds() -> None:
    world, _, (alice, bob) = network(3, 2)
    ping = alice.call(bob, purpose=Purpose.PING)
    world.run(9)
    assert in_state(ping, CallState.CONNECTED)
    world.run(3)
    assert reasons(ping, bob.incoming[0]) == [EndReason.LOST] * 2


def test_no_more_calls_are_placed_than_there_is_room_for() -> None:
    world, _, (alice, bob) = network(3, 2)
    nowhere = Contact.of(Address("20.99.0.1", 7000), identity(98).dh_public)
    gone = presence(99, homes=(nowhere,))
    for _ in range(CALLS_MAX):
        alice.call_at(gone)
    assert alice.machine.calls.is_full
    assert (
        alice.machine.place_call(gone, Purpose.VOICE, world.now, relay_only=False)
        is None
    )
    call = bob.call(alice)
    world.run(1)
    assert call.ended_reason is EndReason.BUSY
    world.run(12)
    assert not alice.machine.calls.is_full


def test_pings_that_end_at_once_do_not_keep_anybody_out() -> None:
    world, _, (alice, mallory, bob) = network(3, 3)
    for _ in range(CALLS_MAX + 4):
        ping = mallory.call(alice, purpose=Purpose.PING)
        world.run(0.2)
        mallory.hang_up(ping)
        world.run(0.1)
    assert len(list(alice.machine.calls)) <= CALLS_MAX
    _, theirs = ring(bob, alice)
    assert theirs.state is CallState.RINGING


def test_contacts_ping_as_often_as_they_like() -> None:
    world, _, (alice, bob) = network(3, 2)
    for _ in range(3 * PINGS_MAX):
        ping = alice.call(bob, purpose=Purpose.PING)
        world.run(0.3)
        assert ping.state is CallState.CONNECTED
        alice.hang_up(ping)
        world.run(0.1)


def test_a_presence_with_a_key_of_low_order_is_no_presence() -> None:
    who = identity(99)
    weak = Presence(
        public_key=who.public_key,
        dh_public=bytes(32),
        seq=1,
        issued=1,
        ttl_s=900,
        homes=(),
        caps=0,
        client_version="test",
    )
    with pytest.raises(WireError, match="low order"):
        read_presence(sign_presence(who, weak))


def test_a_home_with_a_key_of_low_order_is_passed_over() -> None:
    world, _, (alice, _) = network(3, 2)
    weak = Contact.of(Address("20.0.0.1", 7000), bytes(32))
    call = alice.call_at(presence(99, homes=(weak,)))
    world.run(2)
    assert call.ended_reason is EndReason.NOT_ONLINE


@pytest.mark.parametrize("seed", range(6))
def test_on_bad_lines_calls_connect_talk_and_end_alike(seed: int) -> None:
    quality = Quality(jitter_s=0.05, loss=0.1, duplicate=0.1, corrupt=0.03)
    world, _, (alice, bob) = network(3, 2, seed=seed, quality=quality)
    ours, theirs = connect(alice, bob)
    world.run(1)
    talk(world, ((alice, ours), (bob, theirs)), 100)
    world.run(0.3)
    for media in (alice.media, bob.media):
        assert len(set(media)) == len(media) > 75
    bob.hang_up(theirs)
    world.run(6)
    assert reasons(ours, theirs) == [EndReason.HUNG_UP] * 2


def test_every_state_is_reached_and_every_cause_used() -> None:
    reached = {state for moves in TRANSITIONS.values() for state in moves.values()}
    assert reached | {CallState.OFFERING} == set(CallState)
    assert {cause for moves in TRANSITIONS.values() for cause in moves} == set(Cause)


def test_relays_are_chosen_by_the_round_trips_of_both_ends() -> None:
    offered = [OfferedRelay(contact(n), 0.1 * n) for n in range(4)]
    statics = [one.contact.static for one in offered]
    ours = {statics[0]: 0.5, statics[1]: 0.1, statics[2]: 0.1, statics[3]: 0.1}
    idle = dict.fromkeys(statics, 0.0)
    assert choose_relays(offered, ours, idle) == (contact(1), contact(2))
    full = idle | {statics[1]: 0.8}
    assert choose_relays(offered, ours, full) == (contact(2), contact(3))
    assert choose_relays(offered, {statics[3]: 0.1}, idle) == (contact(3),)
    assert choose_relays(offered, {}, {}) == ()


# -- a hostile other end ---------------------------------------------------------------


def speak(node: Node, call: OutgoingCall | IncomingCall, body: bytes) -> None:
    """Let one end of a call say anything at all."""
    assert call.line is not None
    call.line.exchange.request(body, node.world.now)
    node.machine.changed(call, node.world.now)
    node.world.drain(node)


def test_a_callee_meets_at_its_homes_where_it_knows_them_to_be() -> None:
    """The caller names the right relay at another address, to learn where we are."""
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = ring(alice, bob)
    homes = bob.machine.station.homes
    assert homes is not None
    home = homes.homes[0]
    elsewhere = Contact.of(VICTIM, home.static)
    speak(alice, ours, encode_call_body(UseRelays((elsewhere,))))
    world.run(2)
    relays = [r.route for r in theirs.path_reports() if isinstance(r.route, Relayed)]
    assert relays
    assert VICTIM not in {route.relay for route in relays}
    assert (bob.address, VICTIM) not in world.accounts


def test_a_callee_meets_at_no_relay_that_is_not_its_home() -> None:
    world, servers, (alice, bob) = network(4, 2)
    homes = {contact.static for contact in bob.machine.presence.homes}
    stranger = next(s for s in servers if s.identity.dh_public not in homes)
    ours, theirs = ring(alice, bob)
    relay = Contact.of(stranger.address, stranger.identity.dh_public)
    speak(alice, ours, encode_call_body(UseRelays((relay,))))
    world.run(2)
    relays = [r.route for r in theirs.path_reports() if isinstance(r.route, Relayed)]
    assert stranger.address not in {route.relay for route in relays}


def test_nobody_can_be_made_to_flood_others_with_probes() -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = connect(alice, bob)
    world.run(1)
    for number in range(100):
        victims = tuple(
            Candidate.of(
                CandidateKind.HOST, Address(f"100.{number}.{each}.1", 9)
            ).format()
            for each in range(8)
        )
        speak(alice, ours, encode_call_body(Candidates(victims)))
        world.run(0.05)
    world.run(10)
    probed = [
        account
        for (source, target), account in world.accounts.items()
        if source == bob.address and target.host.startswith("100.")
    ]
    assert len(probed) <= 8 * 4
    assert theirs.state is not CallState.ENDED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xff",
        encode_call_body(Accept(())),
        encode_call_body(UseRelays(())),
        encode_call_body(UseRelays((Contact(b"\0" * 7, bytes(32)),) * 3)),
        encode_call_body(Candidates(("", "x", "1 1 udp 1 1.2.3.4 0 typ host"))),
        encode_call_body(Candidates(("a 1 udp 1 224.0.0.1 9 typ host",) * 8)),
        encode_call_body(Offer(b"", 1, relay_only=False)),
    ],
    ids=str,
)
@pytest.mark.parametrize("speaker", ["caller", "callee"])
def test_nonsense_in_a_call_harms_nobody(body: bytes, speaker: str) -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = connect(alice, bob)
    world.run(1)
    if speaker == "caller":
        speak(alice, ours, body)
    else:
        speak(bob, theirs, body)
    world.run(7)
    assert in_state(ours, CallState.CONNECTED)
    assert in_state(theirs, CallState.CONNECTED)


@pytest.mark.parametrize("body", [Refuse(255), HangUp(0), HangUp(255), Refuse(4)])
def test_any_reason_ends_a_call(body: Refuse | HangUp) -> None:
    world, _, (alice, bob) = network(3, 2)
    ours, theirs = connect(alice, bob)
    world.run(1)
    speak(bob, theirs, encode_call_body(body))
    world.run(1)
    assert in_state(ours, CallState.ENDED)
    assert ours.ended_reason in set(EndReason)


def test_a_host_with_many_addresses_tells_those_that_fit() -> None:
    world = World()
    seeds = [Address("20.0.0.1", 7000)]
    world.add(0, supernode=SupernodeMode.ON, seeds=seeds)
    hosts = tuple(f"10.0.{n}.1" for n in range(30))
    alice = world.add(10, seeds=seeds, hosts=hosts)
    bob = world.add(11, seeds=seeds, hosts=hosts)
    world.run(5)
    ours, _ = connect(alice, bob)
    world.run(3)
    chosen = next(r for r in ours.path_reports() if r.chosen)
    assert isinstance(chosen.route, Direct)  # the reflexive address was among them


def deliver(world: World, home: Node, leaf: Node, payload: bytes, number: int) -> None:
    """Let a hostile home deliver anything to its leaf."""
    body = encode_body(Deliver(number.to_bytes(16, "big"), payload))
    peer = leaf.machine.station.us
    home.machine.endpoint.request(peer, body, world.now)
    world.drain(home)
    world.run(0.1)


def test_openings_that_are_none_do_not_ring() -> None:
    world, servers, (alice, bob) = network(3, 2)
    mallory = alice.machine.endpoint.local
    offers = [
        b"",
        b"\xff",
        encode_call_body(Offer(b"", 1, relay_only=False)),
        encode_call_body(Offer(bob.machine.presence.raw, 1, relay_only=False)),
        encode_call_body(Offer(alice.machine.presence.raw, 300, relay_only=False)),
    ]
    payloads = [
        Line.call(mallory, bob.identity.dh_public, offer, world.now)[1]
        for offer in offers
    ]
    payloads += [b"", b"\x04", b"\x04\x01" + bytes(200), payloads[0][:-1]]
    for number, payload in enumerate(payloads):
        deliver(world, servers[0], bob, payload, number)
    assert bob.heard(CallArrived) == []
    assert bob.machine.calls.statistics.refused_openings == len(payloads)


def test_an_opening_rings_once_however_often_and_under_any_name_it_comes() -> None:
    world, servers, (alice, bob) = network(3, 2)
    offer = encode_call_body(Offer(alice.machine.presence.raw, 1, relay_only=False))
    _, opening = Line.call(
        alice.machine.endpoint.local, bob.identity.dh_public, offer, world.now
    )
    for number in (1, 1, 1, 2, 3):
        deliver(world, servers[0], bob, opening, number)
    assert len(bob.incoming) == 1
    assert bob.machine.calls.statistics.refused_openings == 2
