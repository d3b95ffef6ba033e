"""One path: every move of its table, its checks, its round trip and its loss."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from nat.checks import Checks
from nat.path import OUTSTANDING_MAX, TRANSITIONS, Cause, Path, PathState
from nat.stun import transaction_of
from tests.nat.lab import CALLER, EPOCH_S, RELAY


class Script:
    """A `Path`, the clock, and a peer that answers or does not."""

    def __init__(self) -> None:
        randbytes = random.Random(1).randbytes
        self.path = Path(
            RELAY, Checks(CALLER, controlling=True, random_bytes=randbytes), EPOCH_S
        )
        self.now = EPOCH_S
        self.rtt_s: float | None = None
        self.sent: list[tuple[float, bytes]] = []
        self.answers: list[tuple[float, bytes]] = []

    def wait(self, duration_s: float) -> None:
        """Let time pass; the peer answers each check after its round trip, if any."""
        ends_at = self.now + duration_s
        while (at := self.next_at()) <= ends_at:
            self.now = max(self.now, at)
            while self.answers and self.answers[0][0] <= self.now:
                _, transaction_id = self.answers.pop(0)
                if self.path.awaits(transaction_id):
                    self.path.answered(transaction_id, self.now)
            if self.path.next_timeout() <= self.now:
                self.path.handle_timeout(self.now)
            self.drain()
        self.now = ends_at

    def state(self) -> PathState:
        return self.path.state

    def next_at(self) -> float:
        answer_at = self.answers[0][0] if self.answers else math.inf
        return min(answer_at, self.path.next_timeout())

    def drain(self) -> None:
        for check in self.path.messages_to_send():
            self.sent.append((round(self.now - EPOCH_S, 3), transaction_of(check)))
            if self.rtt_s is not None:
                self.answers.append((self.now + self.rtt_s, transaction_of(check)))

    def times_s(self) -> list[float]:
        return [at_s for at_s, _ in self.sent]


def reach(state: PathState) -> Script:
    script = Script()
    script.rtt_s = None if state is PathState.NEW else 0.05
    script.wait(0 if state is PathState.NEW else 5)
    if state not in (PathState.NEW, PathState.UP):
        script.rtt_s = None
        script.wait(0.8)  # unanswered at 5.3, suspect at 5.7
    if state in (PathState.LOST, PathState.GONE):
        script.wait(0.6)
    if state is PathState.GONE:
        script.wait(30)
    assert script.path.state is state
    return script


def answer(script: Script) -> None:
    script.rtt_s = 0.05
    script.wait(1.1)


def fall_silent(script: Script) -> None:
    script.rtt_s = None
    for _ in range(4_000):
        before = script.path.state
        script.wait(0.01)
        if script.path.state is not before:
            return


ACTS: dict[Cause, Callable[[Script], None]] = {
    Cause.ANSWERED: answer,
    Cause.SILENT: fall_silent,
}


@pytest.mark.parametrize(
    ("state", "cause"),
    [(state, cause) for state, causes in TRANSITIONS.items() for cause in causes],
)
def test_every_move_of_the_table_happens(state: PathState, cause: Cause) -> None:
    script = reach(state)
    ACTS[cause](script)
    assert script.path.state is TRANSITIONS[state][cause]


def test_a_path_that_is_gone_wants_nothing_any_more() -> None:
    script = reach(PathState.GONE)
    assert script.path.next_timeout() == math.inf
    assert not script.path.alive


def test_a_new_path_is_checked_fast_and_then_each_second() -> None:
    script = Script()
    script.wait(4)
    fast = [round(0.1 * number, 3) for number in range(15)]
    assert script.times_s()[:15] == fast
    assert len([at_s for at_s in script.times_s() if at_s > 1.65]) == 2


def test_a_warm_path_is_checked_each_2500_ms_once_it_is_measured() -> None:
    script = Script()
    script.rtt_s = 0.05
    script.wait(11)
    assert script.times_s() == [0, 0.1, 0.2, 0.3, 2.8, 5.3, 7.8, 10.3]


def test_the_chosen_path_is_checked_each_second() -> None:
    script = reach(PathState.UP)
    script.path.choose(True, script.now)
    script.sent.clear()
    script.wait(3)
    first, second, *_ = script.times_s()
    assert second - first == pytest.approx(1)


def test_a_suspect_path_is_checked_each_100_ms() -> None:
    script = reach(PathState.SUSPECT)
    script.sent.clear()
    script.wait(0.45)
    assert len(script.sent) in (4, 5)
    assert script.path.alive


def test_the_round_trip_follows_what_is_measured() -> None:
    script = Script()
    script.rtt_s = 0.05
    script.wait(5)
    assert script.path.rtt_s == pytest.approx(0.05)
    script.rtt_s = 0.25
    script.wait(60)
    assert script.path.rtt_s == pytest.approx(0.25, abs=0.01)


def test_a_slow_path_is_given_more_time_before_it_is_suspected() -> None:
    script = Script()
    script.rtt_s = 0.6
    script.wait(30)
    assert script.path.state is PathState.UP
    assert script.path.loss == 0


def test_a_lost_check_counts_once_a_later_one_is_answered() -> None:
    script = reach(PathState.UP)
    script.rtt_s = None
    script.wait(0.4)
    script.rtt_s = 0.05
    script.wait(1)
    assert script.state() is PathState.UP
    assert script.path.loss == pytest.approx(1 / len(script.sent))
    assert script.path.loss_beyond(100) == 0


def test_loss_is_forgotten_when_the_path_comes_back_from_being_lost() -> None:
    script = reach(PathState.LOST)
    answer(script)
    assert script.path.loss == 0


def test_media_that_stops_makes_a_path_suspect_after_400_ms() -> None:
    script = reach(PathState.UP)
    script.path.heard(script.now)
    script.wait(0.25)
    assert script.state() is PathState.UP
    script.rtt_s = None
    script.wait(0.16)
    assert script.state() is PathState.SUSPECT


def test_an_answer_clears_the_suspicion_until_media_comes_and_stops_again() -> None:
    script = reach(PathState.UP)
    script.path.heard(script.now)
    script.wait(0.5)
    for _ in range(100):
        script.wait(0.1)
        assert script.state() is PathState.UP
    script.path.heard(script.now)
    script.rtt_s = None
    script.wait(0.41)
    assert script.state() is PathState.SUSPECT


def test_media_alone_does_not_clear_a_suspicion() -> None:
    script = reach(PathState.SUSPECT)
    for _ in range(70):
        script.path.heard(script.now)
        script.wait(0.01)
    assert script.path.state is PathState.LOST


def test_a_path_is_gone_30_s_after_its_last_answer() -> None:
    script = Script()
    script.rtt_s = 0.0
    script.wait(1)
    last_answer_s = script.times_s()[-1]
    script.rtt_s = None
    fall_silent(script)
    script.wait(30)
    assert script.path.state is PathState.GONE
    assert script.times_s()[-1] == pytest.approx(last_answer_s + 30, abs=1)


def test_the_checks_we_remember_are_bounded() -> None:
    script = Script()
    script.rtt_s = 9.0
    script.wait(40)
    script.rtt_s = None
    script.wait(30)
    remembered = [each for _, each in script.sent if script.path.awaits(each)]
    assert len(remembered) <= OUTSTANDING_MAX < len(script.sent)


def test_a_machine_that_slept_gives_its_paths_another_chance() -> None:
    script = reach(PathState.UP)
    script.now += 3_600
    script.path.handle_timeout(script.now)
    assert script.path.state is PathState.UP
    script.drain()
    script.rtt_s = 0.05
    script.wait(2.6)
    assert script.path.state is PathState.UP
