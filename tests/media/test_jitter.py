"""The jitter buffer: what it decides, how it adapts, and that nothing upsets it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from media.frame import FRAME_S
from media.jitter import (
    FRAMES_MAX,
    TRANSITIONS,
    Conceal,
    JitterBuffer,
    Play,
    Playout,
    Recover,
    Silent,
)
from media.packet import Quiet, QuietReason, VoiceFrame

NETWORK_S = 0.05


def voice(slot: int, sequence: int | None = None) -> VoiceFrame:
    payload = slot.to_bytes(4, "big")
    return VoiceFrame(slot if sequence is None else sequence, slot, payload)


def slot_of(payload: bytes) -> int:
    return int.from_bytes(payload, "big")


Arrival = tuple[float, VoiceFrame | Quiet]


def run(
    arrivals: Iterable[Arrival],
    ticks: int,
    *,
    buffer: JitterBuffer | None = None,
    quiet: Callable[[int], bool] = lambda tick: False,
) -> list[Playout]:
    """Pull `ticks` times, 20 ms apart from 0 on, while packets arrive."""
    buffer = buffer or JitterBuffer()
    coming = sorted(arrivals, key=lambda arrival: arrival[0])
    playouts = []
    for tick in range(ticks):
        due = tick * FRAME_S
        while coming and coming[0][0] <= due:
            now, packet = coming.pop(0)
            buffer.receive(packet, now)
        playouts.append(buffer.pull(due, quiet=quiet(tick)))
    return playouts


def steady(
    slots: Iterable[int], late_s: Callable[[int], float] = lambda slot: 0.0
) -> list[Arrival]:
    return [(s * FRAME_S + NETWORK_S + late_s(s), voice(s)) for s in slots]


def played(playouts: Sequence[Playout]) -> list[int]:
    return [slot_of(p.payload) for p in playouts if isinstance(p, Play)]


def kinds(playouts: Sequence[Playout]) -> Counter[str]:
    return Counter(type(playout).__name__ for playout in playouts)


def test_nothing_came_nothing_is_missing() -> None:
    assert run([], 10) == [Silent()] * 10


def test_a_clean_stream_is_played_whole_and_in_order() -> None:
    playouts = run(steady(range(200)), 206)
    assert played(playouts) == list(range(200))
    assert kinds(playouts) == {"Silent": 6, "Play": 200}


def test_playing_starts_the_target_delay_after_the_first_frame() -> None:
    buffer = JitterBuffer()
    playouts = run(steady(range(200)), 200, buffer=buffer)
    # 50 ms network + 60 ms target, then the next beat
    assert [type(p) for p in playouts[:7]] == [Silent] * 6 + [Play]
    assert 0.06 <= buffer.statistics().delay_s < 0.08


def test_a_lost_frame_is_recovered_from_the_next() -> None:
    playouts = run(steady(s for s in range(50) if s != 20), 56)
    assert playouts[26] == Recover(voice(21).payload)
    assert kinds(playouts) == {"Silent": 6, "Play": 49, "Recover": 1}


def test_a_burst_is_concealed_up_to_its_last_frame() -> None:
    playouts = run(steady(s for s in range(50) if s not in (20, 21, 22)), 56)
    assert playouts[26:29] == [Conceal(), Conceal(), Recover(voice(23).payload)]


def test_a_loss_costs_no_delay() -> None:
    buffer = JitterBuffer()
    lost = set(range(20, 35))
    playouts = run(steady(s for s in range(100) if s not in lost), 106, buffer=buffer)
    assert len(playouts) - 6 == 100
    assert played(playouts)[-1] == 99
    assert buffer.statistics().delay_s < 0.08


def test_reordered_frames_are_put_in_order() -> None:
    arrivals = steady(range(50), late_s=lambda s: 0.045 if s % 10 == 3 else 0.0)
    assert played(run(arrivals, 56)) == list(range(50))


def test_a_duplicate_changes_nothing_but_its_count() -> None:
    buffer = JitterBuffer()
    playouts = run(steady(range(50)) + steady(range(50)), 56, buffer=buffer)
    assert played(playouts) == list(range(50))
    assert buffer.statistics().late == 50


def test_a_frame_after_its_time_is_dropped_and_counted() -> None:
    buffer = JitterBuffer()
    arrivals = steady(range(50), late_s=lambda s: 0.3 if s == 20 else 0.0)
    playouts = run(arrivals, 60, buffer=buffer)
    assert 20 not in played(playouts)
    assert buffer.statistics().late == 1


def test_a_stall_is_waited_for_so_that_its_frames_are_still_played() -> None:
    # The way is blocked from 0.5 s to 0.6 s; then everything comes at once.
    arrivals = [
        (now if not 0.5 <= now < 0.6 else 0.6, p) for now, p in steady(range(100))
    ]
    playouts = run(arrivals, 115)
    assert set(range(100)) - set(played(playouts)) == set()


def test_the_delay_grows_with_the_jitter() -> None:
    chance = random.Random(3)
    buffer = JitterBuffer()
    arrivals = steady(range(1000), late_s=lambda s: chance.uniform(0, 0.12))
    playouts = run(arrivals, 1000, buffer=buffer)
    assert 0.1 <= buffer.statistics().target_s <= 0.14
    assert kinds(playouts[500:])["Play"] >= 485


def test_the_delay_shrinks_where_it_is_quiet() -> None:
    chance = random.Random(3)
    buffer = JitterBuffer()
    arrivals = steady(
        range(5000), late_s=lambda s: chance.uniform(0, 0.12) if s < 500 else 0.0
    )
    run(arrivals, 5000, buffer=buffer, quiet=lambda tick: tick % 50 == 0)
    assert buffer.statistics().target_s == pytest.approx(0.02, abs=0.001)
    assert buffer.statistics().delay_s < 0.06
    assert buffer.statistics().dropped >= 3


def test_a_slightly_deep_delay_is_left_alone_in_speech() -> None:
    buffer = JitterBuffer()
    playouts = run(steady(range(4000)), 4000, buffer=buffer)
    assert buffer.statistics().target_s < 0.03
    assert buffer.statistics().dropped == 0
    assert played(playouts) == list(range(3994))


def test_a_cut_frame_comes_along_to_fade_over_from() -> None:
    buffer = JitterBuffer()
    playouts = run(steady(range(4000)), 4000, buffer=buffer, quiet=lambda tick: True)
    cut = [p for p in playouts if isinstance(p, Play) and p.skipped is not None]
    assert cut
    for play in cut:
        assert play.skipped is not None
        assert slot_of(play.skipped) == slot_of(play.payload) - 1


def test_a_slower_path_does_not_count_twice() -> None:
    # 100 ms longer from slot 500 on: after the window has passed, that is the new base.
    buffer = JitterBuffer()
    arrivals = steady(range(1000), late_s=lambda s: 0.1 if s >= 500 else 0.0)
    run(arrivals, 1000, buffer=buffer)
    assert buffer.statistics().target_s <= 0.06


def test_a_drifting_clock_is_followed() -> None:
    # The sender's clock is 1,000 ppm slow: 60 ms in a minute.
    buffer = JitterBuffer()
    arrivals = steady(range(3000), late_s=lambda s: s * FRAME_S * 1e-3)
    playouts = run(arrivals, 3000, buffer=buffer)
    assert kinds(playouts)["Conceal"] <= 4
    assert buffer.statistics().delay_s < 0.1


def test_with_losses_the_delay_leaves_room_for_repair() -> None:
    buffer = JitterBuffer()
    playouts = run(
        steady(s for s in range(5000) if s % 20),
        5000,
        buffer=buffer,
        quiet=lambda tick: True,
    )
    assert buffer.statistics().target_s == pytest.approx(0.03)
    assert kinds(playouts)["Conceal"] == 0
    assert kinds(playouts)["Recover"] == pytest.approx(250, abs=3)


def muted_between(first: int, last: int) -> list[Arrival]:
    """Voice with a pause, announced once; sequences go on, slots leave it out."""
    arrivals = steady(range(first))
    arrivals.append(
        (first * FRAME_S + NETWORK_S, Quiet(QuietReason.MUTED, first, first))
    )
    for slot in range(last, last + 50):
        frame = voice(slot, sequence=slot - last + first)
        arrivals.append((slot * FRAME_S + NETWORK_S, frame))
    return arrivals


def test_a_pause_is_silent_and_no_loss() -> None:
    playouts = run(muted_between(50, 100), 156)
    assert kinds(playouts) == {"Silent": 6 + 50, "Play": 100}


def test_a_pause_of_ten_minutes_is_no_jump() -> None:
    buffer = JitterBuffer()
    playouts = run(muted_between(50, 30_000), 30_056, buffer=buffer)
    assert kinds(playouts)["Play"] == 100
    assert buffer.statistics().jumps == 0


def test_a_pause_that_nobody_announced_is_silent_once_voice_goes_on() -> None:
    arrivals = [a for a in muted_between(50, 60) if isinstance(a[1], VoiceFrame)]
    playouts = run(arrivals, 130)
    assert kinds(playouts)["Play"] == 100


def test_frames_lost_right_before_a_pause_are_concealed() -> None:
    arrivals = [
        (now, p)
        for now, p in muted_between(50, 100)
        if not (isinstance(p, VoiceFrame) and p.slot in (48, 49))
    ]
    playouts = run(arrivals, 156)
    assert kinds(playouts) == {"Silent": 6 + 50, "Play": 98, "Conceal": 2}


def test_a_late_announcement_of_a_pause_costs_no_delay() -> None:
    arrivals: list[Arrival] = []
    for now, packet in muted_between(50, 100):
        if isinstance(packet, Quiet):
            arrivals.append((now + 0.1, packet))
        elif packet.slot not in (48, 49):
            arrivals.append((now, packet))
    playouts = run(arrivals, 156)
    # 80 ms are made up for want of news; the 52 slots after 47 still take 52 pulls
    assert kinds(playouts) == {"Silent": 6 + 48, "Play": 98, "Conceal": 4}


def test_an_old_announcement_of_quiet_is_ignored() -> None:
    buffer = JitterBuffer()
    late = (0.7, Quiet(QuietReason.MUTED, 10, 10))
    run([*steady(range(50)), late], 50, buffer=buffer)
    assert buffer.quiet is None


def test_the_end_is_when_all_before_it_is_played() -> None:
    buffer = JitterBuffer()
    end = (50 * FRAME_S + NETWORK_S, Quiet(QuietReason.ENDED, 50, 50))
    arrivals = [*steady(range(50)), end]
    run(arrivals, 55, buffer=buffer)
    assert not buffer.has_ended
    buffer = JitterBuffer()
    run(arrivals, 56, buffer=buffer)
    assert buffer.has_ended
    assert buffer.played_to_slot == 50


def test_after_a_second_without_frames_it_fills_up_again() -> None:
    buffer = JitterBuffer()
    arrivals = [
        *steady(range(50)),
        *(
            (now + 5.0, voice(p.slot + 250, p.slot + 50))
            for now, p in steady(range(50))
            if isinstance(p, VoiceFrame)
        ),
    ]
    playouts = run(arrivals, 306, buffer=buffer)
    assert kinds(playouts)["Play"] == 100
    assert kinds(playouts)["Conceal"] == 51
    assert buffer.statistics().delay_s < 0.1


@pytest.mark.parametrize("restart_at", [0, 100_000, 2**32 - 100])
def test_a_sender_that_begins_anew_is_followed_at_once(restart_at: int) -> None:
    buffer = JitterBuffer()
    again = [
        (10.0 + s * FRAME_S, voice(restart_at + s, restart_at + s)) for s in range(50)
    ]
    playouts = run([*steady(range(490)), *again], 560, buffer=buffer)
    assert played(playouts)[-50:] == list(range(restart_at, restart_at + 50))
    assert buffer.statistics().jumps == 1


def test_a_flood_is_bounded_and_the_oldest_go() -> None:
    buffer = JitterBuffer()
    for slot in range(400):
        buffer.receive(voice(slot), now=1.0)
    assert buffer.statistics().buffer_s == pytest.approx(FRAMES_MAX * FRAME_S)
    assert buffer.statistics().dropped == 300


def test_after_a_long_stall_one_cut_brings_the_delay_back() -> None:
    arrivals = [
        (max(now, 2.0) if now > 1.0 else now, p) for now, p in steady(range(300))
    ]
    buffer = JitterBuffer()
    run(arrivals, 110, buffer=buffer)
    assert buffer.statistics().delay_s < 0.5


def test_every_move_leads_to_a_state_with_moves() -> None:
    for moves in TRANSITIONS.values():
        assert set(moves.values()) <= set(TRANSITIONS)


class Abuse(RuleBasedStateMachine):
    """Anything may arrive at any time; pulls may come whenever."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = JitterBuffer()
        self.now = 0.0
        self.slot = 0
        self.given: set[bytes] = set()
        self.decoded: list[bytes] = []

    def receive(self, slot: int, sequence: int) -> None:
        payload = len(self.given).to_bytes(4, "big")
        self.given.add(payload)
        self.buffer.receive(VoiceFrame(sequence, slot, payload), self.now)

    @rule(count=st.integers(1, 120))
    def stream(self, count: int) -> None:
        for _ in range(count):
            self.slot += 1
            self.receive(self.slot, self.slot)
            self.pull()

    @rule(off=st.integers(-600, 600), sequence_off=st.integers(-5, 5))
    def arrive_near(self, off: int, sequence_off: int) -> None:
        slot = max(0, self.slot + off)
        self.receive(slot, max(0, slot + sequence_off))

    @rule(slot=st.integers(0, 2**32 - 1), sequence=st.integers(0, 2**32 - 1))
    def arrive_anywhere(self, slot: int, sequence: int) -> None:
        self.receive(slot, sequence)

    @rule(
        reason=st.sampled_from(QuietReason),
        off=st.integers(-600, 600),
        next_sequence=st.integers(0, 2**32 - 1),
    )
    def go_quiet(self, reason: QuietReason, off: int, next_sequence: int) -> None:
        since = max(0, self.slot + off)
        self.buffer.receive(Quiet(reason, next_sequence, since), self.now)

    @rule(count=st.integers(1, 120))
    def lose(self, count: int) -> None:
        self.slot += count
        for _ in range(count):
            self.pull()

    @rule(elapsed_s=st.floats(0, 30))
    def pass_time(self, elapsed_s: float) -> None:
        self.now += elapsed_s

    @rule(quiet=st.booleans())
    def pull(self, quiet: bool = False) -> None:
        self.now += FRAME_S
        match self.buffer.pull(self.now, quiet=quiet):
            case Play(payload, skipped):
                self.decoded += [payload] if skipped is None else [skipped, payload]
            case Recover() | Conceal() | Silent():
                pass

    @invariant()
    def no_frame_is_played_twice(self) -> None:
        assert len(self.decoded) == len(set(self.decoded))
        assert set(self.decoded) <= self.given

    @invariant()
    def it_is_bounded(self) -> None:
        statistics = self.buffer.statistics()
        assert statistics.buffer_s <= FRAMES_MAX * FRAME_S
        assert 0.02 <= statistics.target_s <= 0.4


TestAbuse = Abuse.TestCase
TestAbuse.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
