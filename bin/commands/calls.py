"""`koe reject`, `hangup`, `mute`, `calls` and `stats`: the calls of the daemon."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import click
import trio

from bin.commands.ask import ask_daemon, json_option, show, with_daemon
from bin.commands.call import describe_path, print_call
from bin.commands.pick import pick_call
from bin.control_client import Control
from bin.output import print_json, print_table, screen
from bin.places import Places
from bin.reports import CallReport, CallsReport, StatsReport
from bin.requests import MuteParams, WhichCall

__all__ = ["calls", "hangup", "mute", "reject", "stats"]

WATCH_S: Final = 1.0
ALIVE: Final = ("offering", "ringing", "connected")

call_argument = click.argument("call_id", metavar="[CALL]", required=False)


@click.command()
@call_argument
@json_option
@click.pass_obj
def reject(places: Places, call_id: str | None, as_json: bool) -> None:
    """Refuse a call that rings here. Without CALL, the only one."""
    show(_act(places, "reject", call_id, ("ringing",)), as_json, print_call)


@click.command()
@call_argument
@json_option
@click.pass_obj
def hangup(places: Places, call_id: str | None, as_json: bool) -> None:
    """End a call. Without CALL, the only one."""
    show(_act(places, "hang_up", call_id, ALIVE), as_json, print_call)


@click.command()
@call_argument
@click.option("--off", is_flag=True, help="Let the microphone be heard again.")
@json_option
@click.pass_obj
def mute(places: Places, call_id: str | None, off: bool, as_json: bool) -> None:
    """Send silence instead of the microphone. Without CALL, the only one."""

    async def act(control: Control) -> CallReport:
        picked = await pick_call(control, call_id, ALIVE)
        params = MuteParams(picked, muted=not off)
        return await control.ask("mute", CallReport, params)

    said = "heard again" if off else "muted"
    show(
        with_daemon(places, act),
        as_json,
        lambda report: click.echo(f"{report.id}, {report.peer}: {said}"),
    )


@click.command()
@json_option
@click.pass_obj
def calls(places: Places, as_json: bool) -> None:
    """Show calls, present and past."""
    show(ask_daemon(places, "calls", CallsReport), as_json, _print_calls)


@click.command()
@click.option("--watch", is_flag=True, help="Show them again each second; Ctrl-C ends.")
@json_option
@click.pass_obj
def stats(places: Places, watch: bool, as_json: bool) -> None:
    """Show how calls go, and all counts.

    With --watch and --json, prints one report after the other.
    """
    if not watch:
        show(ask_daemon(places, "stats", StatsReport), as_json, _print_stats)
        return

    async def again(control: Control) -> None:
        with screen() as display:
            while True:
                report = await control.ask("stats", StatsReport)
                if as_json:
                    print_json(report)
                else:
                    display("\n".join(_lines_of(report)))
                await trio.sleep(WATCH_S)

    with_daemon(places, again)


def _act(
    places: Places, method: str, call_id: str | None, states: Sequence[str]
) -> CallReport:
    async def act(control: Control) -> CallReport:
        picked = await pick_call(control, call_id, states)
        return await control.ask(method, CallReport, WhichCall(picked))

    return with_daemon(places, act)


def _print_calls(report: CallsReport) -> None:
    print_table(
        ("CALL", "WITH", "", "STATE", "BEGUN", "PATH"),
        [
            (
                call.id,
                call.peer,
                "in" if call.incoming else "out",
                call.state + (f" ({call.ended_reason})" if call.ended_reason else ""),
                _begun(call),
                next((path.route for path in call.paths if path.chosen), "-"),
            )
            for call in report.calls
        ],
        empty="no calls yet",
    )


def _begun(call: CallReport) -> str:
    instants = call.timeline.values()
    return time.strftime("%H:%M:%S", time.localtime(min(instants))) if instants else "-"


def _print_stats(report: StatsReport) -> None:
    for line in _lines_of(report):
        click.echo(line)


def _lines_of(report: StatsReport) -> list[str]:
    talks = [f"{call.id}  {describe_path(call)}" for call in report.calls]
    width = max(map(len, report.counters), default=0)
    counts = [
        f"{name.ljust(width)}  {count}"
        for name, count in sorted(report.counters.items())
    ]
    return [*(talks or ["no calls are on"]), "", *counts]
