"""`koe demo`: see and hear that it works."""

from __future__ import annotations

import time
from pathlib import Path

import click

from bin.commands.ask import json_option, show
from bin.demo import CALLEE, CALLER, Demo, Story, run_demo, writable_recording
from bin.mesh_call import SPEECH
from bin.output import milliseconds, percent, print_notice, print_pairs, progress
from bin.places import Places
from bin.reports import CallReport, DemoReport, MeshNodeReport

__all__ = ["demo"]


@click.command()
@click.option("--keep", is_flag=True, help="Leave the mesh running: `koe mesh status`.")
@click.option(
    "--play",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What is said; default: a clip of real speech.",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What is heard, as WAV; default: koe-demo.wav here.",
)
@click.option(
    "--direct",
    is_flag=True,
    help="Let the call leave the relay for a direct path, as calls of contacts do.",
)
@json_option
@click.pass_obj
def demo(
    places: Places,
    keep: bool,
    play: Path | None,
    record: Path | None,
    direct: bool,
    as_json: bool,
) -> None:
    """See and hear a call.

    Forms a mesh of 6 nodes, plays real speech through a supernode, shows the result.

    The speech is encrypted from end to end, and kept on a relay to show that it gets
    through there; with --direct the call moves on to a direct path.
    """
    begun_at = time.monotonic()
    told = Demo(
        root=places.mesh,
        play=(play or SPEECH).expanduser().absolute(),
        record=writable_recording(record),
        direct=direct,
        kept=keep,
    )
    with progress(as_json=as_json) as shown:
        story = run_demo(told, shown)
    report = _report(told, story, time.monotonic() - begun_at)
    show(report, as_json, _print_demo)


def _report(demo: Demo, story: Story, elapsed_s: float) -> DemoReport:
    caller, callee = story.ends.caller, story.ends.callee
    heard_at = None if callee.audio is None else callee.audio.first_heard_at
    return DemoReport(
        nodes=[
            MeshNodeReport(
                name=node.name,
                address=node.address,
                home=node.home,
                log=str(node.log),
                pid=None if node.process is None else node.process.pid,
                alive=demo.kept,
                status=None,
            )
            for node in story.mesh.nodes
        ],
        set_up_s=story.set_up_s,
        ringing_s=caller.timeline["ringing"] - caller.timeline["placed"],
        first_audio_s=(
            None if heard_at is None else heard_at - caller.timeline["connected"]
        ),
        caller=caller,
        callee=callee,
        played=str(demo.play),
        recorded=str(demo.record),
        kept=demo.kept,
        elapsed_s=elapsed_s,
    )


def _print_demo(report: DemoReport) -> None:
    names = {node.address: node.name for node in report.nodes}
    for notice in (*report.caller.notices, *report.callee.notices):
        # That the clip of the house is of 16 kHz is no news.
        if notice.code != "105" or report.played != str(SPEECH):
            print_notice(notice)
    click.echo(_picture(report, names))
    pairs = [("mesh", f"{len(report.nodes)} nodes up in {report.set_up_s:.2f} s")]
    pairs += [(name, address) for address, name in names.items()]
    pairs += _look_up(report.caller, names)
    pairs += _way(report.caller, names)
    pairs += [
        ("ringing", f"{milliseconds(report.ringing_s)} after the call was placed")
    ]
    pairs += _heard(report)
    pairs += [
        ("played", report.played),
        ("received", report.recorded),
        (
            "mesh",
            "left running: `koe mesh status`, `koe mesh down`"
            if report.kept
            else f"taken down; all in {report.elapsed_s:.1f} s",
        ),
    ]
    print_pairs(pairs)


def _picture(report: DemoReport, names: dict[str, str]) -> str:
    """Draw the way of the speech."""
    chosen = next((path for path in report.callee.paths if path.chosen), None)
    if chosen is None:
        return ""
    stations = [CALLER, CALLEE]
    if chosen.route != "direct":
        stations.insert(1, _named(chosen.route, names).split()[0].split("(")[1])
    way = " ──sealed──> ".join(stations)
    return f"\n    {way}\n"


def _look_up(call: CallReport, names: dict[str, str]) -> list[tuple[str, str]]:
    steps = [
        f"{CALLER} asked {_named(step.who, names)}: {step.answer}"
        f" ({milliseconds(step.rtt_s)})"
        for step in call.steps
    ]
    return [("look-up", step) for step in steps] + [("found", call.short_id)]


def _way(call: CallReport, names: dict[str, str]) -> list[tuple[str, str]]:
    relays = ", ".join(_named(relay, names) for relay in call.relays)
    return [("relays", relays or "none")] + [
        (
            "path",
            f"{_named(path.route, names)}: RTT {milliseconds(path.rtt_s)}, "
            f"loss {percent(path.loss)}, {path.why}",
        )
        for path in call.paths
    ]


def _heard(report: DemoReport) -> list[tuple[str, str]]:
    heard = report.callee.audio
    if heard is None:
        return []
    return [
        ("first audio", f"{milliseconds(report.first_audio_s)} after the answer"),
        (
            f"{CALLEE} heard",
            f"{heard.packets_received} packets, {percent(heard.loss)} lost, "
            f"{heard.frames_concealed} frames made up",
        ),
        ("RTT", milliseconds(heard.rtt_s)),
        ("jitter", milliseconds(heard.jitter_s)),
        ("quality", "-" if heard.mos is None else f"MOS {heard.mos:.2f} (estimated)"),
    ]


def _named(text: str, names: dict[str, str]) -> str:
    """Put the name of a node before its address."""
    for address, name in names.items():
        if address in text:
            return text.replace(address, f"{name} {address}")
    return text
