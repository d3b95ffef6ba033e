"""Two voices on a bad network in virtual time, with real Opus between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from media.errors import DeviceError, DeviceFailed
from media.frame import FRAME_S, FRAME_SAMPLES, RATE_HZ, Pcm
from media.packet import Quiet, QuietReason, Report, VoiceFrame, decode
from media.voice import Voice, VoiceSettings, open_voice
from tests.media.fakes import ListMicrophone, ListSpeaker, LossyEnd, lossy_pair
from tests.media.speech import speech_frames


def hum(frames: int) -> list[Pcm]:
    """Something voiced, steadily loud."""
    times_s = np.arange(frames * FRAME_SAMPLES) / RATE_HZ
    harmonics = [np.sin(2 * np.pi * 150 * k * times_s) / k for k in range(1, 9)]
    samples = 5_000 * np.sum(harmonics, axis=0)
    return list(samples.astype(np.int16).reshape(frames, FRAME_SAMPLES))


class Call:
    """A call in which only `caller` speaks."""

    def __init__(self, here: LossyEnd, there: LossyEnd) -> None:
        self.here, self.there = here, there
        self.ear = ListSpeaker()
        self.caller: Voice
        self.callee: Voice


def voice_lengths(line: Call) -> set[int]:
    return {len(d) for d in line.here.sent if isinstance(decode(d), VoiceFrame)}


@asynccontextmanager
async def call(
    frames: Sequence[Pcm],
    *,
    settings: VoiceSettings | None = None,
    end: Exception | None = None,
    **network: float,
) -> AsyncIterator[Call]:
    found = Call(*lossy_pair(**network))  # type: ignore[arg-type]  # seed is a float
    async with (
        open_voice(
            found.here, ListMicrophone(frames, end), ListSpeaker(), settings
        ) as found.caller,
        open_voice(
            found.there, ListMicrophone([]), found.ear, settings
        ) as found.callee,
    ):
        yield found


async def test_on_a_clean_path_every_frame_is_played(autojump_clock: MockClock) -> None:
    async with call(hum(500), delay_s=0.05) as line:
        await line.caller.wait_played_out()
        heard, sent = line.callee.statistics(), line.caller.statistics()
    assert (sent.sent, heard.received, heard.played) == (500, 500, 500)
    assert (heard.lost, heard.concealed, heard.late, heard.duplicates) == (0, 0, 0, 0)


async def test_it_sounds_within_130_ms_of_speaking_on_a_50_ms_path(
    autojump_clock: MockClock,
) -> None:
    async with call(hum(50), delay_s=0.05) as line:
        await line.caller.wait_played_out()
        sent, heard = line.caller.statistics(), line.callee.statistics()
    assert sent.first_sent_at == pytest.approx(0.0)
    assert heard.first_played_at is not None
    assert heard.first_played_at <= 0.13


async def test_sending_ends_with_the_file_and_hearing_with_the_last_frame(
    autojump_clock: MockClock,
) -> None:
    async with call(hum(100), delay_s=0.05) as line:
        await line.caller.finished_playing_in.wait()
        assert line.caller.statistics().finished_sending_at == pytest.approx(2.0)
        assert not line.callee.heard_out.is_set()
        await line.callee.heard_out.wait()
        assert trio.current_time() == pytest.approx(2.12, abs=0.021)
        await line.caller.wait_played_out()
        assert trio.current_time() == pytest.approx(2.17, abs=0.021)


async def test_a_lossy_path_is_mostly_repaired(autojump_clock: MockClock) -> None:
    async with call(speech_frames() * 2, delay_s=0.05, loss=0.05, seed=3) as line:
        await line.caller.finished_playing_in.wait()
        await trio.sleep(0.5)
        heard = line.callee.statistics()
    assert 30 <= heard.lost <= 65
    assert heard.fec_recovered > 0.6 * heard.lost
    assert heard.concealed + heard.fec_recovered == pytest.approx(heard.lost, abs=2)
    assert 0.0 < heard.loss < 0.12
    assert np.concatenate(line.ear.frames).any()


async def test_jitter_grows_the_buffer_until_nothing_is_late(
    autojump_clock: MockClock,
) -> None:
    async with call(hum(1_500), delay_s=0.02, jitter_s=0.15, seed=5) as line:
        await line.caller.finished_playing_in.wait()
        heard = line.callee.statistics()
    assert heard.target_ms > 100
    assert heard.jitter_ms > 10
    assert heard.concealed < 45


async def test_duplicates_are_counted_and_not_heard(autojump_clock: MockClock) -> None:
    async with call(hum(200), duplication=0.5, seed=1) as line:
        await line.caller.wait_played_out()
        heard = line.callee.statistics()
    assert heard.played == 200
    assert 70 <= heard.duplicates <= 130
    assert heard.late == 0


async def test_both_sides_know_how_the_other_hears(autojump_clock: MockClock) -> None:
    async with call(hum(500), delay_s=0.08, loss=0.1, seed=2) as line:
        await trio.sleep(9)
        sent, heard = line.caller.statistics(), line.callee.statistics()
    assert sent.theirs is not None
    assert 0 <= heard.lost - sent.theirs.lost <= 10
    assert sent.theirs.lost > 10
    assert sent.theirs.mos_hundredths > 100
    assert sent.rtt_ms == pytest.approx(160, abs=3)
    assert heard.rtt_ms == pytest.approx(160, abs=3)


async def test_loss_and_delay_show_in_the_opinion(autojump_clock: MockClock) -> None:
    opinions = []
    for loss, delay_s in ((0.0, 0.0), (0.2, 0.0), (0.0, 0.4)):
        async with call(hum(500), loss=loss, delay_s=delay_s) as line:
            await trio.sleep(9)
            opinions.append(line.callee.statistics().mos)
    best, lossy, distant = opinions
    assert best is not None
    assert lossy is not None
    assert distant is not None
    assert best > 4.0
    assert lossy < best - 0.5
    assert distant < best - 1


async def test_muted_sends_no_voice_and_the_other_side_is_told(
    autojump_clock: MockClock,
) -> None:
    async with call(hum(300)) as line:
        await trio.sleep(1.01)
        line.caller.muted = True
        assert line.caller.muted
        await trio.sleep(0.3)
        assert line.callee.statistics().peer_muted
        before = len(line.here.sent)
        await trio.sleep(1.2)
        packets = [decode(datagram) for datagram in line.here.sent[before:]]
        assert not any(isinstance(packet, VoiceFrame) for packet in packets)
        markers = [packet for packet in packets if isinstance(packet, Quiet)]
        assert len(markers) == 20
        line.caller.muted = False
        await trio.sleep(0.3)
        assert not line.callee.statistics().peer_muted
        assert line.callee.statistics().concealed == 0
        assert not line.ear.frames[100].any()
        assert line.ear.frames[-1].any()


async def test_all_voice_has_one_length_whatever_is_said(
    autojump_clock: MockClock,
) -> None:
    silent = [np.zeros(FRAME_SAMPLES, np.int16)] * 50
    async with call([*hum(50), *silent]) as line:
        await line.caller.finished_playing_in.wait()
    assert voice_lengths(line) == {12 + 80}


async def test_settings_choose_the_rate(autojump_clock: MockClock) -> None:
    async with call(hum(20), settings=VoiceSettings(bitrate_bps=16_000)) as line:
        await line.caller.finished_playing_in.wait()
    assert voice_lengths(line) == {12 + 40}


async def test_garbage_from_the_channel_is_counted(autojump_clock: MockClock) -> None:
    async with call(hum(20)) as line:
        await line.here.send(b"")
        await line.here.send(b"\xff garbage")
        await trio.sleep(0.1)
        assert line.callee.statistics().garbage == 2


async def test_a_failing_microphone_ends_our_voice_but_not_the_call(
    autojump_clock: MockClock,
) -> None:
    failed = DeviceFailed("unplugged")
    async with call(hum(50), end=failed) as line:
        await line.caller.wait_played_out()
        assert line.caller.statistics().microphone_error is failed
        assert isinstance(decode(line.here.sent[-2]), Quiet | Report)


async def test_a_failing_speaker_does_not_stop_the_counting(
    autojump_clock: MockClock,
) -> None:
    failed: DeviceError = DeviceFailed("unplugged")
    here, there = lossy_pair()
    async with (
        open_voice(here, ListMicrophone(hum(50)), ListSpeaker()) as caller,
        open_voice(there, ListMicrophone([]), ListSpeaker(failed)) as callee,
    ):
        await caller.wait_played_out()
        assert callee.statistics().speaker_error is failed
        assert callee.statistics().played == 50


async def test_a_channel_closed_from_either_end_stops_the_voice(
    autojump_clock: MockClock,
) -> None:
    async with call(hum(500)) as line:
        await trio.sleep(1)
        await line.here.aclose()
        await line.caller.channel_closed.wait()
        await line.callee.channel_closed.wait()
        sent = line.caller.statistics().sent
        await trio.sleep(1)
        assert line.caller.statistics().sent == sent


async def test_leaving_the_context_stops_everything(autojump_clock: MockClock) -> None:
    async with call(hum(500)) as line:
        await trio.sleep(1)
    sent = len(line.here.sent)
    await trio.sleep(1)
    assert len(line.here.sent) == sent


async def test_a_process_that_was_late_loses_no_frame(
    autojump_clock: MockClock,
) -> None:
    async with call(hum(300), delay_s=0.01) as line:
        for _ in range(5):
            await trio.sleep(1)
            # What a busy machine does: time passes, and nobody runs.
            autojump_clock.jump(0.3)
        await line.caller.wait_played_out()
        heard = line.callee.statistics()
    assert (heard.played, heard.lost) == (300, 0)


async def test_the_callers_clock_dates_the_statistics(
    autojump_clock: MockClock,
) -> None:
    here, there = lossy_pair()
    async with open_voice(
        here,
        ListMicrophone(hum(50)),
        ListSpeaker(),
        clock=lambda: 1e9 + trio.current_time(),
    ) as caller:
        await caller.finished_playing_in.wait()
        statistics = caller.statistics()
    await there.aclose()
    assert statistics.first_sent_at == pytest.approx(1e9)
    assert statistics.finished_sending_at == pytest.approx(1e9 + 50 * FRAME_S)


async def test_the_end_is_announced_again_and_again(autojump_clock: MockClock) -> None:
    async with call(hum(10)) as line:
        await trio.sleep(1.2)
    ends = [p for p in map(decode, line.here.sent) if isinstance(p, Quiet)]
    assert len(ends) >= 15
    assert {(end.reason, end.next_sequence) for end in ends} == {
        (QuietReason.ENDED, 10)
    }
