"""The receiver: what the ear gets for what came, and how it is counted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest

from media.frame import FRAME_S, FRAME_SAMPLES, Pcm
from media.packet import Quiet, QuietReason, VoiceFrame
from media.receiver import Receiver
from tests.media.fakes import LOUD, PlainCodec, numbered

CODEC = PlainCodec()


def voice(slot: int) -> VoiceFrame:
    return VoiceFrame(slot, slot, CODEC.encode(numbered(slot)))


def hear(receiver: Receiver, slots: Iterable[int], ticks: int) -> list[Pcm]:
    """Frames of these slots come 1 ms late; pull from the first one's start on."""
    coming, frames = set(slots), []
    for tick in range(ticks):
        if tick in coming:
            receiver.receive(voice(tick), tick * FRAME_S - 0.019)
        frames.append(receiver.pull(tick * FRAME_S))
    return frames


def numbers(frames: Iterable[Pcm]) -> list[int]:
    """What the ear gets at the end of each frame; silence is -LOUD."""
    return [int(frame[-1]) - LOUD for frame in frames]


def start_of(frames: list[Pcm]) -> int:
    return next(tick for tick, frame in enumerate(frames) if frame.any())


def test_what_was_sent_is_heard() -> None:
    frames = hear(Receiver(CODEC), range(50), 50)
    start = start_of(frames)
    assert numbers(frames[start:]) == list(range(50 - start))
    assert not np.concatenate(frames[:start]).any()


def test_a_lost_frame_comes_out_of_the_next_packet() -> None:
    receiver = Receiver(CODEC)
    frames = hear(receiver, [s for s in range(50) if s != 20], 50)
    assert numbers(frames[start_of(frames) :])[20] == 20
    statistics = receiver.statistics()
    assert (statistics.fec_recovered, statistics.concealed, statistics.lost) == (
        1,
        0,
        1,
    )


def test_where_the_next_packet_repeats_nothing_a_frame_is_made_up() -> None:
    class WithoutFec(PlainCodec):
        def has_lbrr(self, packet: bytes) -> bool:
            return False

    receiver = Receiver(WithoutFec())
    frames = hear(receiver, [s for s in range(50) if s != 20], 50)
    assert numbers(frames[start_of(frames) :])[20] == -1
    assert receiver.statistics().concealed == 1


def test_a_long_gap_fades_by_half_a_frame_after_three_and_then_is_silent() -> None:
    receiver = Receiver(CODEC)
    frames = hear(receiver, range(20), 40)
    made_up = [int(f[-1]) for f in frames[start_of(frames) + 20 :]]
    full = LOUD - 1
    assert made_up[:3] == [full] * 3
    for index, heard in enumerate(made_up[3:9], start=1):
        assert heard == int(full / 2**index)
    assert made_up[9:] == [0] * len(made_up[9:])


def test_coming_back_after_a_fade_makes_no_step() -> None:
    receiver = Receiver(CODEC)
    frames = hear(receiver, [*range(20), *range(36, 60)], 60)
    back = frames[start_of(frames) + 35]
    assert numbers([back]) == [35]
    assert abs(int(back[0])) < 20
    assert np.abs(np.diff(back.astype(int))).max() < 20


def test_a_packet_that_is_no_opus_is_counted_and_made_up_for() -> None:
    receiver = Receiver(CODEC)
    receiver.receive(VoiceFrame(0, 0, b"?"), 0.0)
    frames = [receiver.pull(tick * FRAME_S) for tick in range(5)]
    assert numbers(frames[4:]) == [-1]
    assert receiver.statistics().garbage == 1


def test_a_next_packet_that_is_no_opus_repairs_nothing() -> None:
    receiver = Receiver(CODEC)
    for slot in range(5):
        receiver.receive(voice(slot), slot * FRAME_S)
    receiver.receive(VoiceFrame(6, 6, b"???"), 6 * FRAME_S)
    frames = [receiver.pull((3 + tick) * FRAME_S) for tick in range(8)]
    assert numbers(frames)[-4:] == [3, 4, -1, -1]
    assert receiver.statistics().fec_recovered == 0


def test_duplicates_are_counted_once_and_not_as_late() -> None:
    receiver = Receiver(CODEC)
    for _ in range(3):
        hear(receiver, range(10), 10)
    statistics = receiver.statistics()
    assert (statistics.received, statistics.duplicates) == (10, 20)
    assert statistics.buffer.late == 0


def test_a_muted_peer_is_silent_and_nothing_is_lost() -> None:
    receiver = Receiver(CODEC)
    hear(receiver, range(10), 10)
    receiver.receive(Quiet(QuietReason.MUTED, 10, 10), 10 * FRAME_S)
    assert receiver.peer_muted
    frames = [receiver.pull((10 + tick) * FRAME_S) for tick in range(20)]
    assert not np.concatenate(frames[5:]).any()
    assert receiver.statistics().concealed == 0
    assert not receiver.has_ended


def test_the_end_is_known_when_it_has_been_played() -> None:
    receiver = Receiver(CODEC)
    hear(receiver, range(10), 10)
    receiver.receive(Quiet(QuietReason.ENDED, 10, 10), 10 * FRAME_S)
    assert not receiver.has_ended
    for tick in range(10, 20):
        receiver.pull(tick * FRAME_S)
    assert receiver.has_ended


def test_there_is_no_opinion_before_there_is_voice() -> None:
    receiver = Receiver(CODEC)
    assert receiver.mos(0.0) is None
    hear(receiver, range(10), 10)
    assert receiver.mos(0.0) is not None


def test_losses_and_a_long_way_lower_the_opinion() -> None:
    clean, lossy = Receiver(CODEC), Receiver(CODEC)
    hear(clean, range(300), 300)
    hear(lossy, [s for s in range(300) if s % 5 > 1], 300)
    best, worse = clean.mos(0.0), lossy.mos(0.0)
    assert best is not None
    assert worse is not None
    assert worse < best - 0.5
    assert (clean.mos(0.4) or 5) < best - 0.5


def test_every_pull_gives_exactly_one_frame() -> None:
    receiver = Receiver(CODEC)
    for frame in hear(receiver, [s for s in range(500) if s % 7 and s % 11], 600):
        assert frame.shape == (FRAME_SAMPLES,)
        assert frame.dtype == np.int16


def test_a_cut_fades_over_from_the_frame_cut_out() -> None:
    class Ramp(PlainCodec):
        """Encodes nothing but near silence, so that the buffer may cut."""

        def decode(self, packet: bytes) -> Pcm:
            return numbered(-LOUD + int.from_bytes(packet[:2], "big") % 100)

    receiver = Receiver(Ramp())
    frames = hear(receiver, range(3_000), 3_000)
    assert receiver.statistics().buffer.dropped >= 1
    steps = [int(b[0]) - int(a[-1]) for a, b in pairwise(frames[10:])]
    assert {step for step in steps if step not in (1, -99)} <= {0}
    assert receiver.statistics().buffer.delay_s == pytest.approx(0.03, abs=0.02)
