"""`koe devices` and `koe loopback`: this machine's sound, without any network."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import click
import trio

from bin.commands.ask import json_option, show
from bin.commands.audio import audio_choice, audio_options
from bin.errors import problem_of
from bin.output import (
    Progress,
    milliseconds,
    percent,
    print_notice,
    print_pairs,
    print_problem,
    print_table,
    progress,
)
from bin.reports import AudioReport, DeviceReport, DevicesReport, LoopbackReport
from bin.requests import Audio
from bin.sound import describe_audio, notices_of, open_devices

if TYPE_CHECKING:
    from media.voice import Voice

__all__ = ["devices", "loopback"]

REFRESH_S = 0.5
# As often as a person can read numbers that change.


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """Show microphones and speakers."""
    from media.device import VIRTUAL_DEVICES, list_devices
    from media.errors import DeviceError

    problem = None
    try:
        found = list_devices()
    except DeviceError as error:
        problem = problem_of(error)
        found = VIRTUAL_DEVICES
    told = [
        DeviceReport(d.spec, d.description, d.inputs, d.outputs, d.is_default)
        for d in found
    ]
    show(DevicesReport(told, problem), as_json, _print_devices)


@click.command()
@audio_options
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End after so long, instead of with the file or Ctrl-C.",
)
@json_option
def loopback(
    play: str | None,
    record: str | None,
    microphone: str | None,
    speaker: str | None,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Hear yourself.

    Sound goes through everything of a call but the network.

    Tests microphone, speaker, Opus and this machine. Use headphones.
    """
    choice = audio_choice(play, record, microphone, speaker)
    audio = Audio(
        choice.microphone or "default", choice.speaker or "default", choice.record
    )
    with progress(as_json=as_json) as shown:
        report = trio.run(_loop, audio, seconds, shown)
    show(report, as_json, _print_loopback)


async def _loop(audio: Audio, seconds: float | None, shown: Progress) -> LoopbackReport:
    from media.loopback import open_loopback

    async with open_devices(audio, silence_will_do=False) as opened:
        begun_at = time.monotonic()
        async with open_loopback(opened.microphone, opened.speaker) as voice:
            shown.step("listening to yourself; Ctrl-C ends")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_end_on_signal, nursery.cancel_scope)
                with trio.move_on_after(float("inf") if seconds is None else seconds):
                    await _show_until_played(voice, shown)
                nursery.cancel_scope.cancel()
            statistics = voice.statistics()
        for broken in (statistics.microphone_error, statistics.speaker_error):
            if broken is not None:
                raise broken
        return LoopbackReport(
            elapsed_s=time.monotonic() - begun_at,
            notices=notices_of(opened),
            audio=describe_audio(opened, statistics),
        )


async def _end_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _show_until_played(voice: Voice, shown: Progress) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_show, voice, shown)
        await voice.wait_played_out()
        nursery.cancel_scope.cancel()


async def _show(voice: Voice, shown: Progress) -> None:
    while True:
        await trio.sleep(REFRESH_S)
        heard = voice.statistics()
        quality = "-" if heard.mos is None else f"{heard.mos:.1f}"
        shown.live(
            f"{heard.received} frames heard, {percent(heard.loss)} lost, "
            f"delay {heard.delay_ms:.0f} ms, MOS {quality}; Ctrl-C ends"
        )


def _print_devices(report: DevicesReport) -> None:
    print_table(
        ("SPEC", "", "IN", "OUT", ""),
        [
            (
                each.spec,
                each.description,
                str(each.inputs),
                str(each.outputs),
                "default" if each.default else "",
            )
            for each in report.devices
        ],
        empty="no devices",
    )
    if report.problem is not None:
        print_problem(report.problem, as_json=False)


def _print_loopback(report: LoopbackReport) -> None:
    for notice in report.notices:
        print_notice(notice)
    print_pairs([("lasted", f"{report.elapsed_s:.1f} s"), *_pairs_of(report.audio)])


def _pairs_of(audio: AudioReport) -> list[tuple[str, str]]:
    return [
        ("microphone", audio.microphone),
        ("speaker", audio.speaker + (f" and {audio.record}" if audio.record else "")),
        ("heard", f"{audio.packets_received} packets, {percent(audio.loss)} lost"),
        ("made up", f"{audio.frames_concealed} frames"),
        ("jitter", milliseconds(audio.jitter_s)),
        ("quality", "-" if audio.mos is None else f"MOS {audio.mos:.2f}"),
    ]
