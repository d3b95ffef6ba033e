"""Punching: the timing of checks, every move of the machine, and pairs through NATs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nat.address import Address
from nat.candidate import Candidate, CandidateKind
from nat.checks import CHECK_BYTES_MAX, Checks
from nat.paths import Direct, PathAdded
from nat.punch import (
    LEARNT_MAX,
    PROBES_PER_PAIR_MAX,
    TRANSITIONS,
    Cause,
    PairFound,
    PairNominated,
    ProbingBegan,
    Punch,
    PunchFailed,
    PunchState,
)
from nat.stun import BindingError, BindingRequest, BindingResponse, transaction_of
from tests.nat.lab import CALLEE, CALLER, EPOCH_S, RELAY, World, call, punch
from tests.nat.test_model_pairs import CELLS

OURS = Address("198.51.100.1", 5_000)
HOST = Address("203.0.113.1", 6_000)
OTHER = Address("203.0.113.1", 6_001)
STRANGE = Address("203.0.113.1", 7_000)


def candidates(*addresses: Address) -> list[Candidate]:
    return [
        Candidate.of(CandidateKind.HOST, address, rank)
        for rank, address in enumerate(addresses)
    ]


class Script:
    """A `Punch`, the clock, and the peer's hand in everything that happens to it."""

    def __init__(self, *, controlling: bool = True) -> None:
        random_bytes = random.Random(1).randbytes
        ours, theirs = (CALLER, CALLEE) if controlling else (CALLEE, CALLER)
        checks = Checks(ours, controlling=controlling, random_bytes=random_bytes)
        self.peer = Checks(
            theirs, controlling=not controlling, random_bytes=random_bytes
        )
        self.punch = Punch(checks)
        self.now = EPOCH_S
        self.sent: list[tuple[float, Address, BindingRequest]] = []

    def begin(self, *addresses: Address) -> None:
        self.punch.begin(candidates(*addresses), self.now)
        self.drain()

    def drain(self) -> None:
        for address, datagram in self.punch.messages_to_send():
            assert len(datagram) <= CHECK_BYTES_MAX
            request = self.peer.open(datagram)
            assert isinstance(request, BindingRequest)
            self.sent.append((round(self.now - EPOCH_S, 3), address, request))

    def check(self, source: Address, *, use_candidate: bool = False) -> None:
        _, datagram = self.peer.request(use_candidate=use_candidate)
        request = BindingRequest(transaction_of(datagram), use_candidate=use_candidate)
        self.punch.receive(request, source, self.now)
        self.drain()

    def answer(self, address: Address, source: Address | None = None) -> None:
        """Answer the latest check to an address, perhaps from another one."""
        requests = [request for _, to, request in self.sent if to == address]
        response = BindingResponse(requests[-1].transaction_id, OURS)
        self.punch.receive(response, source or address, self.now)
        self.drain()

    def wait(self, duration_s: float) -> None:
        """Let time pass, exactly on time for everything that is due."""
        ends_at = self.now + duration_s
        while self.punch.next_timeout() <= ends_at:
            self.now = self.punch.next_timeout()
            self.punch.handle_timeout(self.now)
            self.drain()
        self.now = ends_at

    def times_s(self, address: Address) -> list[float]:
        return [at_s for at_s, to, _ in self.sent if to == address]


def test_nothing_is_sent_before_we_begin() -> None:
    script = Script()
    script.check(HOST)
    assert script.sent == []
    assert script.punch.events() == []
    assert script.punch.next_timeout() == math.inf


def test_every_address_is_checked_at_once_each_50_ms_for_1500_ms() -> None:
    script = Script()
    script.begin(HOST, OTHER)
    assert script.punch.events() == [
        ProbingBegan(HOST, PROBES_PER_PAIR_MAX * CHECK_BYTES_MAX),
        ProbingBegan(OTHER, PROBES_PER_PAIR_MAX * CHECK_BYTES_MAX),
    ]
    script.wait(10)
    expected = [round(0.05 * number, 3) for number in range(30)]
    assert script.times_s(HOST) == script.times_s(OTHER)
    assert script.times_s(HOST)[:30] == expected
    assert script.times_s(HOST)[30:] in ([], [1.5])  # as the clock rounds
    assert script.punch.state is PunchState.FAILED
    assert script.punch.events() == [PunchFailed((HOST, OTHER))]
    assert script.punch.next_timeout() == math.inf


def test_beginning_without_candidates_fails_at_once() -> None:
    script = Script()
    script.begin()
    assert script.punch.events() == [PunchFailed(())]


def test_at_most_8_addresses_are_tried() -> None:
    script = Script()
    script.begin(*(Address("203.0.113.1", 6_000 + number) for number in range(20)))
    assert len(script.sent) == 8


def test_every_check_has_an_id_of_its_own() -> None:
    script = Script()
    script.begin(HOST)
    script.wait(1)
    ids = [request.transaction_id for _, _, request in script.sent]
    assert len(set(ids)) == len(ids)


def test_an_answer_tells_the_round_trip_of_the_check_it_answers() -> None:
    script = Script()
    script.begin(HOST)
    script.wait(0.12)
    script.punch.events()
    script.answer(HOST)
    found, *_ = script.punch.events()
    assert isinstance(found, PairFound)
    assert found.rtt_s == pytest.approx(0.02, abs=1e-6)


def test_an_answer_from_elsewhere_proves_nothing() -> None:
    script = Script()
    script.begin(HOST, OTHER)
    script.answer(HOST, source=OTHER)
    script.answer(HOST, source=STRANGE)
    assert script.punch.state is PunchState.PUNCHING


def test_an_error_is_like_no_answer() -> None:
    script = Script()
    script.begin(HOST)
    refusal = BindingError(script.sent[-1][2].transaction_id, 487, "Role Conflict")
    script.punch.receive(refusal, HOST, script.now)
    assert script.punch.state is PunchState.PUNCHING
    script.wait(0.05)
    assert len(script.sent) == 2


def test_a_check_of_the_peers_is_checked_back_at_once() -> None:
    script = Script()
    script.begin(HOST)
    script.wait(0.07)
    script.check(HOST)
    script.wait(0.06)
    assert script.times_s(HOST) == [0, 0.05, 0.07, 0.12]


def test_an_address_the_peer_turns_out_to_have_is_tried_too() -> None:
    script = Script()
    script.begin(HOST)
    script.wait(0.02)
    script.check(STRANGE)
    assert script.times_s(STRANGE) == [0.02]
    script.answer(STRANGE)
    assert PairFound(STRANGE, 0.0) in script.punch.events()


def test_what_came_before_we_began_is_not_forgotten() -> None:
    script = Script()
    script.check(STRANGE)
    script.wait(1)
    script.begin(HOST)
    assert [address for _, address, _ in script.sent] == [HOST, STRANGE]


def test_a_hostile_peer_cannot_make_us_probe_more_than_the_limits() -> None:
    script = Script()
    script.begin(HOST)
    for number in range(2_000):
        script.check(Address("192.0.2.66", 1 + number % 100))
        script.check(HOST)
        script.wait(0.01)
    addresses = {address for _, address, _ in script.sent}
    assert len(addresses) == 1 + LEARNT_MAX
    for address in addresses:
        assert len(script.times_s(address)) <= PROBES_PER_PAIR_MAX


def test_the_controlling_end_settles_at_once_when_nothing_better_can_come() -> None:
    script = Script()
    script.begin(HOST, OTHER)
    script.wait(0.03)
    script.answer(HOST)
    assert [request.use_candidate for _, _, request in script.sent] == [
        False,
        False,
        True,
    ]
    script.punch.events()
    script.answer(HOST)
    assert script.punch.events() == [PairNominated(HOST)]
    assert script.punch.state is PunchState.NOMINATED


def test_it_waits_100_ms_for_an_answer_from_a_better_address() -> None:
    script = Script()
    script.begin(HOST, OTHER)
    script.wait(0.01)
    script.answer(OTHER)
    script.wait(0.09)
    assert not any(request.use_candidate for _, _, request in script.sent)
    script.answer(HOST)  # of a check that was sent just now: the shorter way
    settled = [to for _, to, request in script.sent if request.use_candidate]
    assert settled == [HOST]


def test_it_settles_on_the_second_best_if_the_best_does_not_answer() -> None:
    script = Script()
    script.begin(HOST, OTHER)
    script.wait(0.01)
    script.answer(OTHER)
    script.wait(0.1)
    settled = [(at_s, to) for at_s, to, request in script.sent if request.use_candidate]
    assert settled == [(0.11, OTHER)]


def test_settling_is_repeated_until_the_peer_knows() -> None:
    script = Script()
    script.begin(HOST)
    script.answer(HOST)
    script.wait(0.2)
    assert sum(request.use_candidate for _, _, request in script.sent) == 5
    script.answer(HOST)
    script.wait(1)
    assert sum(request.use_candidate for _, _, request in script.sent) == 5


def test_the_controlled_end_never_nominates_and_takes_what_it_is_told() -> None:
    script = Script(controlling=False)
    script.begin(HOST, OTHER)
    script.answer(HOST)
    script.answer(OTHER)
    script.wait(0.3)
    assert not any(request.use_candidate for _, _, request in script.sent)
    script.check(OTHER, use_candidate=True)
    assert PairNominated(OTHER) in script.punch.events()


def test_being_told_before_our_own_check_is_answered_counts_once_it_is() -> None:
    script = Script(controlling=False)
    script.begin(HOST)
    script.check(HOST, use_candidate=True)
    assert PairNominated(HOST) not in script.punch.events()
    script.answer(HOST)
    assert PairNominated(HOST) in script.punch.events()


def test_a_forgotten_address_is_found_again_by_the_peers_check() -> None:
    script = Script()
    script.begin(HOST)
    script.answer(HOST)
    script.punch.forget(HOST)
    script.punch.events()
    script.check(HOST)
    script.answer(HOST)
    assert PairFound(HOST, 0.0) in script.punch.events()


def reach(state: PunchState) -> Script:
    """Bring a machine into a state."""
    script = Script()
    if state is not PunchState.IDLE:
        script.begin(HOST, OTHER)
    if state in (PunchState.FOUND, PunchState.NOMINATED):
        script.answer(HOST)
    if state is PunchState.NOMINATED:
        script.answer(HOST)
    if state is PunchState.FAILED:
        script.wait(2)
    assert script.punch.state is state
    return script


ACTS: dict[Cause, Callable[[Script], None]] = {
    Cause.BEGAN: lambda script: script.begin(HOST),
    Cause.CHECKED: lambda script: script.check(OTHER),
    Cause.ANSWERED: lambda script: script.answer(OTHER),
    Cause.NOMINATED: lambda script: script.answer(HOST),
    Cause.EXPIRED: lambda script: script.wait(2),
}


@pytest.mark.parametrize(
    ("state", "cause"),
    [(state, cause) for state, causes in TRANSITIONS.items() for cause in causes],
)
def test_every_move_of_the_table_happens(state: PunchState, cause: Cause) -> None:
    script = reach(state)
    ACTS[cause](script)
    assert script.punch.state is TRANSITIONS[state][cause]


PLACES = [Address("203.0.113.1", port) for port in range(6_000, 6_012)]


class AnyOrder(RuleBasedStateMachine):
    """Whatever the peer does and whenever we begin: bounded probes, known targets."""

    def __init__(self) -> None:
        super().__init__()
        self.script = Script()
        self.controlled = Script(controlling=False)
        self.allowed: set[Address] = set()
        self.begun = 0

    @rule(places=st.lists(st.sampled_from(PLACES), max_size=10))
    def begin(self, places: list[Address]) -> None:
        for script in (self.script, self.controlled):
            script.begin(*places)
        self.begun += 1

    @rule(place=st.sampled_from(PLACES), use_candidate=st.booleans())
    def peer_checks(self, place: Address, use_candidate: bool) -> None:
        self.script.check(place)
        self.controlled.check(place, use_candidate=use_candidate)

    @rule(which=st.integers(0, 40), source=st.none() | st.sampled_from(PLACES))
    def peer_answers(self, which: int, source: Address | None) -> None:
        for script in (self.script, self.controlled):
            if script.sent:
                _, address, request = script.sent[-1 - which % len(script.sent)]
                response = BindingResponse(request.transaction_id, OURS)
                script.punch.receive(response, source or address, script.now)
                script.drain()

    @rule(place=st.sampled_from(PLACES))
    def forget(self, place: Address) -> None:
        self.script.punch.forget(place)

    @rule(duration_s=st.floats(0, 3))
    def wait(self, duration_s: float) -> None:
        for script in (self.script, self.controlled):
            script.wait(duration_s)

    @rule(duration_s=st.floats(0, 3))
    def come_late(self, duration_s: float) -> None:
        for script in (self.script, self.controlled):
            script.now += duration_s
            script.punch.handle_timeout(script.now)
            assert script.punch.next_timeout() > script.now
            script.drain()

    @invariant()
    def probes_go_where_they_were_announced(self) -> None:
        for script in (self.script, self.controlled):
            for event in script.punch.events():
                if isinstance(event, ProbingBegan):
                    self.allowed.add(event.address)
            assert {address for _, address, _ in script.sent} <= self.allowed

    @invariant()
    def probes_are_bounded(self) -> None:
        pairs_max = self.begun * (8 + LEARNT_MAX)
        for script in (self.script, self.controlled):
            assert len(script.sent) <= pairs_max * PROBES_PER_PAIR_MAX


AnyOrderTest = AnyOrder.TestCase
AnyOrderTest.settings = settings(deadline=None)


@pytest.mark.parametrize(("ours", "theirs", "direct"), CELLS)
@pytest.mark.parametrize("skew_s", [0.0, 0.05, 0.15])
def test_pairs_get_through_where_theory_says_so(
    ours: str, theirs: str, direct: bool, skew_s: float
) -> None:
    caller, callee = call(World(), (ours, theirs))
    punch(caller, callee, skew_s)
    caller.world.play(3)
    for end in (caller, callee):
        assert bool(end.events(PathAdded)) is direct
        assert len(end.paths.media_routes()) == direct
        assert bool(end.events(PunchFailed)) is not direct
        assert end.refused == 0


@pytest.mark.parametrize(
    ("skew_s", "limit_s"), [(0.0, 0.1), (0.05, 0.15), (0.15, 0.25)]
)
def test_a_port_restricted_pair_needs_one_round_trip_after_the_later_start(
    skew_s: float, limit_s: float
) -> None:
    caller, callee = call(World(), ("port-restricted", "port-restricted"))
    punch(caller, callee, skew_s)
    caller.world.play(3)
    for end in (caller, callee):
        assert end.times_s(PathAdded)[0] <= limit_s


@pytest.mark.parametrize("seed", range(20))
def test_a_tenth_of_all_datagrams_lost_does_not_keep_a_pair_apart(seed: int) -> None:
    world = World(loss=0.1, seed=seed)
    caller, callee = call(world, ("port-restricted", "address-restricted"))
    punch(caller, callee)
    world.play(3)
    for end in (caller, callee):
        assert end.paths.media_routes()


def test_a_call_moves_from_its_relay_through_both_nats() -> None:
    world = World()
    caller, callee = call(world, ("home", "address-restricted"))
    for end in (caller, callee):
        end.join(RELAY)
        end.speak()
    world.play(1)
    punch(caller, callee, skew_s=0.08)
    world.play(4)
    for end in (caller, callee):
        (route,) = end.paths.media_routes()
        assert isinstance(route, Direct)
        assert end.longest_gap_s(since_s=1) < 0.05
