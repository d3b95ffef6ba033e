"""The paths of a call: choosing, switching, losing; and any order of events."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nat import stun
from nat.address import Address
from nat.candidate import Candidate, CandidateKind
from nat.checks import Checks, Credentials
from nat.paths import (
    AllPathsLost,
    Direct,
    PathAdded,
    PathChosen,
    PathLost,
    Paths,
    PathState,
    ProbingBegan,
    PunchFailed,
    Relayed,
)
from tests.nat.lab import CALLEE, CALLER, EPOCH_S, RELAY, SPARE, End, World, call, punch


def talk(world: World, relays: tuple[Relayed, ...] = (RELAY, SPARE)) -> tuple[End, End]:
    """A call that has been on its relays for 5 s, the first being the better one."""
    world.relay_one_way_s.setdefault(SPARE, 0.1)
    caller, callee = call(world)
    for end in (caller, callee):
        for relay in relays:
            end.join(relay)
        end.speak()
    world.play(5)
    return caller, callee


def test_the_first_relay_is_chosen_at_once() -> None:
    caller, _ = call(World())
    caller.join(RELAY)
    assert caller.paths.media_routes() == (RELAY,)
    assert caller.events(PathChosen) == [PathChosen(RELAY, None, "the first path")]


def test_voice_takes_both_relays_until_one_has_answered() -> None:
    world = World(relay_one_way_s={RELAY: 0.1, SPARE: 0.05})
    caller, callee = call(world)
    for end in (caller, callee):
        end.join(RELAY)
        end.join(SPARE)
    assert caller.paths.media_routes() == (RELAY, SPARE)
    world.play(0.15)
    changed = PathChosen(SPARE, RELAY, "the first to answer")
    assert caller.events(PathChosen)[1:] == [changed]
    assert caller.times_s(PathChosen)[1:] == [0.1]
    world.play(2)
    assert caller.paths.media_routes() == (SPARE,)


def test_both_relays_stay_measured() -> None:
    caller, _ = talk(World())
    first, second = caller.paths.reports()
    assert (first.route, first.state, first.chosen) == (RELAY, PathState.UP, True)
    assert first.rtt_s == pytest.approx(0.16)
    assert (second.route, second.chosen) == (SPARE, False)
    assert second.rtt_s == pytest.approx(0.2)
    assert second.why == "40 ms worse"
    assert (first.loss, second.loss) == (0, 0)


def test_the_peer_may_join_a_relay_later() -> None:
    world = World()
    caller, callee = call(world)
    caller.join(RELAY)
    world.play(4)
    assert caller.paths.reports()[0].state is PathState.NEW
    callee.join(RELAY)
    world.play(1)
    assert caller.paths.reports()[0].state is PathState.UP
    assert caller.paths.reports()[0].loss == 0
    assert not caller.events(PathLost)


def test_a_path_that_never_answers_is_lost_after_10_s_and_gone_after_30() -> None:
    world = World()
    caller, _ = call(world)
    caller.join(RELAY)
    world.play(9.9)
    assert caller.paths.media_routes() == (RELAY,)
    world.play(0.2)
    assert caller.events(PathLost) == [PathLost(RELAY, "never answered")]
    assert caller.times_s(PathLost) == caller.times_s(AllPathsLost) == [10]
    world.play(30)
    assert caller.paths.reports() == []
    assert caller.paths.media_routes() == ()
    assert caller.paths.next_timeout() == math.inf


def test_a_direct_path_is_found_and_preferred_to_the_relay() -> None:
    world = World()
    caller, callee = talk(world)
    punch(caller, callee)
    world.play(0.5)
    direct = Direct(callee.host.inside)
    reason = "100 ms, 160 ms by the relay"
    assert caller.events(PathChosen)[-1] == PathChosen(direct, RELAY, reason)
    assert caller.times_s(PathChosen)[-1] == 5.1
    assert caller.paths.media_routes() == (direct, RELAY)
    assert caller.refused == callee.refused == 0


def test_the_old_path_carries_voice_for_one_more_second() -> None:
    world = World()
    caller, callee = talk(world)
    punch(caller, callee)
    world.play(3)
    assert caller.paths.media_routes() == (Direct(callee.host.inside),)
    by_relay = [at - EPOCH_S for at, route, _ in callee.voice if route == RELAY]
    assert by_relay[-1] == pytest.approx(5.1 + 1.0 + 0.08, abs=0.03)
    assert callee.longest_gap_s(since_s=4) < 0.03


def test_a_direct_path_wins_up_to_10_ms_more() -> None:
    world = World(one_way_s=0.0849)
    caller, callee = talk(world)
    punch(caller, callee)
    world.play(5)
    assert caller.paths.media_routes() == (Direct(callee.host.inside),)


def test_a_direct_path_that_is_slower_than_the_relay_is_only_kept_warm() -> None:
    world = World(one_way_s=0.0951)
    caller, callee = talk(world)
    punch(caller, callee)
    world.play(5)
    assert caller.paths.media_routes() == (RELAY,)
    slower = caller.paths.reports()[2]
    assert (slower.route, slower.why) == (Direct(callee.host.inside), "30 ms worse")


def test_a_path_that_becomes_much_worse_is_left_for_a_better_one() -> None:
    world = World()
    caller, callee = talk(world)
    world.relay_one_way_s[RELAY] = 0.3
    world.play(20)
    change = caller.events(PathChosen)[-1]
    assert (change.route, change.previous) == (SPARE, RELAY)
    assert change.reason.startswith("better: 200 ms instead of ")
    assert callee.longest_gap_s(since_s=4) < 0.25


def test_a_path_that_is_a_little_better_is_not_worth_a_change() -> None:
    world = World(relay_one_way_s={RELAY: 0.08, SPARE: 0.06})
    caller, callee = call(world)
    caller.join(RELAY)
    callee.join(RELAY)
    world.play(2)
    caller.join(SPARE)
    callee.join(SPARE)
    world.play(20)
    assert len(caller.events(PathChosen)) == 1
    why = caller.paths.reports()[1].why
    assert why == "40 ms better, which is not worth a change"


def test_a_dead_relay_is_suspect_after_400_ms_and_left_after_1_s() -> None:
    world = World()
    caller, callee = talk(world)
    world.dead.add(RELAY)
    world.play(0.3)
    assert caller.paths.media_routes() == (RELAY,)
    world.play(0.2)
    assert caller.paths.media_routes() == (RELAY, SPARE)
    world.play(0.6)
    assert caller.paths.media_routes() == (SPARE,)
    assert caller.times_s(PathLost)[0] == pytest.approx(6.0, abs=0.1)
    change = PathChosen(SPARE, RELAY, "the last one was lost")
    assert caller.events(PathChosen)[-1] == change
    assert callee.longest_gap_s(since_s=4) < 0.55


def test_a_lost_relay_that_comes_back_is_a_path_again() -> None:
    world = World()
    caller, _ = talk(world)
    world.dead.add(RELAY)
    world.play(10)
    world.dead.clear()
    world.play(5)
    (added,) = caller.events(PathAdded)[2:]
    assert added.route == RELAY
    assert added.rtt_s == pytest.approx(0.16)


def test_one_way_loss_of_our_packets_is_noticed_though_voice_comes_in() -> None:
    world = World()
    caller, callee = talk(world)
    arrive = callee.arrive_relayed
    callee.arrive_relayed = (  # type: ignore[method-assign] # the relay fails one way
        lambda datagram, route: None if route == RELAY else arrive(datagram, route)
    )
    world.play(4)
    assert caller.paths.media_routes() == (SPARE,)


def test_a_peer_that_pauses_costs_no_path() -> None:
    world = World()
    caller, callee = talk(world)
    callee.silent = True
    world.play(20)
    assert caller.paths.media_routes() == (RELAY,)
    assert not caller.events(PathLost)


def test_a_peer_that_sends_by_another_path_is_not_followed_without_need() -> None:
    world = World()
    caller, callee = talk(world)
    for end in (caller, callee):
        end.silent = True
    for number in range(200):
        arrive = lambda: caller.paths.heard(SPARE, world.now)  # noqa: E731
        world.plan(world.now + number * 0.02, arrive)
    world.play(5)
    assert caller.paths.media_routes() == (RELAY,)
    assert len(caller.events(PathChosen)) == 1


def test_when_everything_is_lost_the_last_path_is_used_until_its_consent_ends() -> None:
    world = World()
    caller, _ = talk(world)
    world.dead |= {RELAY, SPARE}
    world.play(10)
    assert len(caller.events(AllPathsLost)) == 1
    assert len(caller.paths.media_routes()) == 1
    world.play(30)
    assert caller.paths.media_routes() == ()
    assert caller.paths.reports() == []


def test_a_call_survives_a_network_that_is_away_for_10_s() -> None:
    world = World()
    caller, callee = talk(world)
    world.dead |= {RELAY, SPARE}
    world.play(10)
    world.dead.clear()
    world.play(3)
    assert len(caller.paths.media_routes()) == 1
    assert callee.voice[-1][0] == pytest.approx(world.now, abs=0.03)


def test_losing_a_direct_path_brings_the_call_back_to_the_relay() -> None:
    world = World()
    caller, callee = talk(world)
    punch(caller, callee)
    world.play(3)
    world.cut = True
    world.play(1.2)
    assert caller.paths.media_routes() == (RELAY,)
    assert callee.longest_gap_s(since_s=4) < 0.55


def test_a_route_that_was_removed_carries_nothing_any_more() -> None:
    world = World()
    caller, callee = talk(world)
    world.relay_one_way_s[RELAY] = 0.02
    punch(caller, callee)
    world.play(0.5)
    caller.paths.remove(RELAY, world.now)
    assert RELAY not in caller.paths.media_routes()
    assert PathLost(RELAY, "removed") in caller.paths.events()
    caller.paths.remove(RELAY, world.now)
    assert caller.paths.events() == []


def test_nothing_is_answered_directly_before_punch_is_called() -> None:
    world = World()
    caller, callee = call(world)
    caller.punch(callee.host.candidates())
    world.play(1)
    assert callee.gate.statistics().refused == 0
    assert callee.paths.messages_to_send() == []
    assert caller.events(PathAdded) == []
    callee.punch([])
    world.play(0.2)
    (added,) = callee.events(PathAdded)
    assert added.route == Direct(caller.host.inside)


def test_the_reason_why_a_call_is_not_direct_is_told() -> None:
    world = World(cut=True)
    caller, callee = talk(world)
    punch(caller, callee)
    world.play(2)
    assert caller.events(PunchFailed) == [PunchFailed((callee.host.inside,))]
    assert caller.times_s(PunchFailed) == [pytest.approx(6.5, abs=0.05)]


def test_a_direct_path_that_was_removed_comes_back_if_the_peer_still_checks_it() -> (
    None
):
    world = World()
    caller, callee = talk(world)
    punch(caller, callee)
    world.play(3)
    direct = Direct(callee.host.inside)
    caller.paths.remove(direct, world.now)
    assert caller.paths.media_routes() == (RELAY,)
    world.play(2)
    assert caller.paths.media_routes()[0] == direct


def test_what_comes_by_a_route_we_do_not_know_is_counted_and_not_answered() -> None:
    world = World()
    caller, callee = call(world)
    callee.join(RELAY)
    caller.paths.heard(RELAY, world.now)
    world.play(0.2)
    assert caller.paths.statistics().unknown_route == 1 + 2
    assert caller.paths.messages_to_send() == []
    assert caller.paths.media_routes() == ()


def test_routes_beyond_the_limit_are_refused_and_counted() -> None:
    caller, _ = call(World())
    for number in range(6):
        caller.join(Relayed(Address("192.0.2.9", 7_000 + number), b"channel1"))
    assert len(caller.paths.reports()) == 4
    assert caller.paths.statistics().refused_routes == 2


def test_a_forged_check_is_dropped_and_counted() -> None:
    caller, _ = call(World())
    caller.join(RELAY)
    stranger = Credentials("peer", "x" * 22, "call", "y" * 22)
    forger = Checks(stranger, controlling=False, random_bytes=random.Random().randbytes)
    caller.paths.messages_to_send()
    for datagram in (forger.request()[1], b"", b"\x00" * 40):
        caller.paths.receive(datagram, RELAY, EPOCH_S)
    assert caller.paths.statistics().forged == 3
    caller.paths.handle_timeout(EPOCH_S + 0.05)
    assert caller.paths.messages_to_send() == []


def test_an_answer_by_another_route_than_the_check_counts_for_nothing() -> None:
    world = World()
    caller, callee = call(world)
    caller.paths.add_relay(RELAY, world.now)
    caller.paths.add_relay(SPARE, world.now)
    callee.paths.add_relay(RELAY, world.now)
    caller.paths.handle_timeout(world.now)
    (_, check), *_ = caller.paths.messages_to_send()
    callee.paths.receive(check, RELAY, world.now)
    ((_, answer),) = callee.paths.messages_to_send()
    assert caller.paths.awaits(stun.transaction_of(answer))
    caller.paths.receive(answer, SPARE, world.now + 0.01)
    assert caller.paths.statistics().unexpected_answers == 1
    caller.paths.receive(answer, RELAY, world.now + 0.02)
    assert caller.paths.reports()[0].state is PathState.UP


def test_an_answer_tells_a_path_through_a_relay_the_address_of_the_relay() -> None:
    world = World()
    _, callee = call(world)
    callee.paths.add_relay(RELAY, world.now)
    writer = Checks(CALLER, controlling=True, random_bytes=random.Random(1).randbytes)
    callee.paths.receive(writer.request()[1], RELAY, world.now)
    ((route, answer),) = callee.paths.messages_to_send()
    assert route == RELAY
    assert writer.open(answer) == stun.BindingResponse(
        stun.transaction_of(answer), RELAY.relay
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_call_with_5_percent_loss_keeps_a_working_path(seed: int) -> None:
    world = World(loss=0.05, seed=seed)
    caller, callee = talk(world)
    punch(caller, callee)
    world.play(60)
    for end in (caller, callee):
        assert end.longest_gap_s(since_s=3) < 0.3
        assert not end.events(AllPathsLost)


ROUTES: list[Direct | Relayed] = [
    RELAY,
    SPARE,
    Direct(Address("203.0.113.1", 6_000)),
    Direct(Address("203.0.113.2", 6_001)),
]


class AnyOrder(RuleBasedStateMachine):
    """Everything that can happen to `Paths`, in any order; the peer has its keys."""

    def __init__(self) -> None:
        super().__init__()
        randbytes = random.Random(1).randbytes
        self.paths = Paths(CALLER, controlling=True, random_bytes=randbytes)
        self.peer = Checks(CALLEE, controlling=False, random_bytes=randbytes)
        self.now = EPOCH_S
        self.checks: list[tuple[Direct | Relayed, bytes]] = []
        self.announced: set[Direct | Relayed] = set()
        self.open_to: set[Direct | Relayed] = {RELAY, SPARE}
        self.punching = False

    @rule(route=st.sampled_from([RELAY, SPARE]))
    def join(self, route: Relayed) -> None:
        self.paths.add_relay(route, self.now)

    @rule(route=st.sampled_from(ROUTES))
    def remove(self, route: Direct | Relayed) -> None:
        self.paths.remove(route, self.now)

    @rule(ports=st.lists(st.integers(6_000, 6_012), max_size=10))
    def punch(self, ports: list[int]) -> None:
        candidates = [
            Candidate.of(CandidateKind.HOST, Address("203.0.113.1", port), rank)
            for rank, port in enumerate(ports)
        ]
        self.paths.punch(candidates, self.now)
        self.punching = True

    @rule(route=st.sampled_from(ROUTES))
    def hear_voice(self, route: Direct | Relayed) -> None:
        self.paths.heard(route, self.now)

    @rule(route=st.sampled_from(ROUTES), use_candidate=st.booleans())
    def peer_checks(self, route: Direct | Relayed, use_candidate: bool) -> None:
        datagram = self.peer.request(use_candidate=use_candidate)[1]
        self.paths.receive(datagram, route, self.now)
        if self.punching:
            self.open_to.add(route)

    @rule(which=st.integers(0, 30), route=st.sampled_from([None, *ROUTES]))
    def peer_answers(self, which: int, route: Direct | Relayed | None) -> None:
        if self.checks:
            own_route, check = self.checks[-1 - which % len(self.checks)]
            request = self.peer.open(check)
            assert isinstance(request, stun.BindingRequest)
            answer = self.peer.answer(request, Address("198.51.100.1", 5_000))
            self.paths.receive(answer, route or own_route, self.now)

    @rule(which=st.integers(0, 30))
    def peer_refuses(self, which: int) -> None:
        if self.checks:
            route, check = self.checks[-1 - which % len(self.checks)]
            error = stun.BindingError(stun.transaction_of(check), 487, "Role Conflict")
            refusal = stun.encode(error, CALLER.their_password.encode())
            self.paths.receive(refusal, route, self.now)

    @rule(route=st.sampled_from(ROUTES), datagram=st.binary(max_size=60))
    def hear_garbage(self, route: Direct | Relayed, datagram: bytes) -> None:
        self.paths.receive(datagram, route, self.now)

    @rule(duration_s=st.floats(0, 40))
    def wait(self, duration_s: float) -> None:
        self.now += duration_s
        self.paths.handle_timeout(self.now)
        assert self.paths.next_timeout() > self.now

    @rule(turns=st.integers(1, 40))
    def run_on_time(self, turns: int) -> None:
        for _ in range(turns):
            if self.paths.next_timeout() == math.inf:
                return
            self.now = max(self.now, self.paths.next_timeout())
            self.paths.handle_timeout(self.now)
            assert self.paths.next_timeout() > self.now

    @invariant()
    def routes_are_few_distinct_and_known(self) -> None:
        routes = self.paths.media_routes()
        reports = {report.route: report for report in self.paths.reports()}
        assert len(routes) <= 2
        assert len(set(routes)) == len(routes)
        assert set(routes) <= set(reports)
        assert sum(report.chosen for report in reports.values()) == bool(routes)
        if routes:
            assert reports[routes[0]].chosen

    @invariant()
    def events_are_true_and_announce_the_checks(self) -> None:
        for event in self.paths.events():
            match event:
                case PathAdded(route, rtt_s):
                    assert route not in self.announced
                    assert rtt_s >= 0
                    self.announced.add(route)
                case PathLost(route, _):
                    self.announced.discard(route)
                case AllPathsLost():
                    assert not self.announced
                case ProbingBegan(address, _):
                    self.open_to.add(Direct(address))
        up = {each.route for each in self.paths.reports() if each.state is PathState.UP}
        assert up <= self.announced
        for route, datagram in self.paths.messages_to_send():
            assert route in self.open_to
            if stun.username_of(datagram) is not None:
                self.checks.append((route, datagram))
        del self.checks[:-100]


AnyOrderTest = AnyOrder.TestCase
AnyOrderTest.settings = settings(deadline=None, stateful_step_count=40)
