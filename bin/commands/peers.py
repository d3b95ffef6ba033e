"""`koe lookup` and `koe ping`: finding a peer, and the way to it."""

from __future__ import annotations

import click

from bin.commands.ask import ask_daemon, json_option, peer_argument, show
from bin.errors import Exit, ProgramError, problem_of
from bin.output import milliseconds, print_pairs, print_problem, print_steps, progress
from bin.places import Places
from bin.reports import FoundReport, PingReport
from bin.requests import PeerParams

__all__ = ["PING_RELAYED", "PING_UNREACHABLE", "lookup", "ping"]

PING_RELAYED = 1
PING_UNREACHABLE = 2
# What `koe ping` ends with besides 0, direct; its own, as every ping has.


@click.command()
@peer_argument
@json_option
@click.pass_obj
def lookup(places: Places, peer: str, as_json: bool) -> None:
    """Find PEER in the index.

    PEER is a name, an id or a koe: link. Shows who was asked, and what came back.
    """
    with progress(as_json=as_json) as shown:
        shown.step(f"looking up {peer}...")
        report = ask_daemon(places, "look_up", FoundReport, PeerParams(peer))
    show(report, as_json, _print_found)


@click.command()
@peer_argument
@json_option
@click.pass_context
def ping(context: click.Context, peer: str, as_json: bool) -> None:
    """Show the way to PEER.

    It does not ring there.

    Ends with 0 if it is direct, 1 if it is relayed, 2 if there is none.
    """
    places: Places = context.obj
    problem = None
    try:
        with progress(as_json=as_json) as shown:
            shown.step(f"looking for a way to {peer}...")
            report = ask_daemon(places, "ping", PingReport, PeerParams(peer))
    except* ProgramError as group:
        # Older 3.11s wrap what is raised in here into a group, an exit as well.
        problem = problem_of(group)
    if problem is not None:
        print_problem(problem, as_json=as_json)
        no_daemon = problem.exit is Exit.NO_DAEMON
        context.exit(problem.exit if no_daemon else PING_UNREACHABLE)
    show(report, as_json, _print_ping)
    context.exit(Exit.OK if report.direct else PING_RELAYED)


def _print_found(report: FoundReport) -> None:
    how = milliseconds(report.elapsed_s)
    click.echo(f"found {report.peer} ({how})")
    print_pairs(
        [
            ("name", report.name or "-"),
            ("id", report.short_id),
            ("key", report.public_key),
            ("homes", ", ".join(report.homes) or "none: not online"),
        ]
    )
    print_steps(report.steps)


def _print_ping(report: PingReport) -> None:
    click.echo(f"{report.peer}: {report.route}, RTT {milliseconds(report.rtt_s)}")
    print_steps(report.steps)
