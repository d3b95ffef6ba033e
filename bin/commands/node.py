"""`koe status`, `wait`, `whoami` and `supernodes`: this node and what it sees."""

from __future__ import annotations

import click
import trio

from bin.commands.ask import ask_daemon, json_option, show, with_daemon
from bin.control_client import Control
from bin.errors import ProgramError
from bin.output import milliseconds, percent, print_pairs, print_table, progress
from bin.places import Places
from bin.reports import (
    CallReport,
    CallsReport,
    IdentityReport,
    StatusReport,
    SupernodesReport,
)

__all__ = ["status", "supernodes", "wait", "whoami"]


@click.command()
@json_option
@click.pass_obj
def status(places: Places, as_json: bool) -> None:
    """Show how this node is connected."""
    show(ask_daemon(places, "status", StatusReport), as_json, _print_status)


@click.command()
@json_option
@click.pass_obj
def whoami(places: Places, as_json: bool) -> None:
    """Show this node's name, id and link."""
    show(ask_daemon(places, "who_am_i", IdentityReport), as_json, _print_identity)


@click.command()
@json_option
@click.pass_obj
def supernodes(places: Places, as_json: bool) -> None:
    """Show the supernodes and their shares."""
    report = ask_daemon(places, "supernodes", SupernodesReport)
    show(report, as_json, _print_supernodes)


@click.command()
@click.option("--ready", "what", flag_value="ready", default="ready", help="(default)")
@click.option("--call", "what", flag_value="call", help="Wait for someone to call.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS")
@json_option
@click.pass_obj
def wait(places: Places, what: str, timeout: float | None, as_json: bool) -> None:
    """Wait for the network, or for a call.

    With --timeout, ends with status 6 if it was not in time.
    """
    deadline_s = float("inf") if timeout is None else timeout

    async def until(control: Control) -> StatusReport | CallReport | None:
        with trio.move_on_after(deadline_s):
            if what == "ready":
                return await control.ask("wait_ready", StatusReport)
            return await _next_call(control)
        return None

    with progress(as_json=as_json) as shown:
        shown.step(
            "connecting to the network..." if what == "ready" else "waiting for a call"
        )
        happened = with_daemon(places, until)
    match happened:
        case StatusReport():
            show(happened, as_json, _print_status)
        case CallReport():
            show(happened, as_json, _print_incoming)
        case None:
            awaited = "the network" if what == "ready" else "a call"
            raise ProgramError.of("206", f"{timeout:g} s went by waiting for {awaited}")


async def _next_call(control: Control) -> CallReport:
    events = await control.subscribe()
    for call in (await control.ask("calls", CallsReport)).calls:
        if call.incoming and call.state == "ringing":
            return call
    async for event in events:
        if event.kind == "call_incoming" and event.call is not None:
            return event.call
    raise ProgramError.of("801", "the daemon ended while waiting for a call")


def _print_incoming(call: CallReport) -> None:
    click.echo(f"{call.id}: {call.peer} ({call.short_id}) calls")
    if call.state == "ringing":
        click.echo(f"  `koe answer {call.id}` or `koe reject {call.id}`")


def _print_identity(report: IdentityReport) -> None:
    print_pairs(
        [
            ("name", report.name or "(none: callers use the id)"),
            ("id", report.short_id),
            ("key", report.public_key),
            ("link", report.link),
            ("identity file", report.identity_file),
        ]
    )


def _print_status(report: StatusReport) -> None:
    head = "ready" if report.ready else "not connected: no supernode answers yet"
    click.echo(
        f"{click.style(head, fg='green' if report.ready else 'yellow')}: "
        f"{report.name or 'no name'} ({report.short_id}), {report.role}"
    )
    seen_as = f", seen from outside as {report.observed}" if report.observed else ""
    print_pairs(
        [
            ("role", f"{report.role} ({report.why_role})"),
            ("address", report.address + seen_as),
            ("answering", report.answering),
            ("calls", f"{report.calls} own, {report.relay_calls} relayed for others"),
            ("supernodes", f"{report.supernodes_known} known"),
            ("index", f"{report.records_held} records held here"),
            ("leaves", f"{report.leaves_registered} registered here"),
            ("sessions", str(report.sessions)),
            ("daemon", f"{report.version}, process {report.pid}, {report.up_s:.0f} s"),
        ]
    )
    print_table(
        ("HOME", "", "RTT", "LOAD"),
        [
            (
                home.address,
                _standing(home.primary, home.registered),
                milliseconds(home.rtt_s),
                percent(home.load),
            )
            for home in report.homes
        ],
        empty="no homes",
    )


def _standing(primary: bool, registered: bool) -> str:
    if not registered:
        return "not registered yet"
    return "primary" if primary else "standby"


def _print_supernodes(report: SupernodesReport) -> None:
    print_table(
        ("ADDRESS", "ID", "ROLE", "STATE", "OWNS", "KEYS", "RTT", "LOAD", "VERSION"),
        [
            (
                each.address,
                each.short_id,
                each.role,
                each.state,
                percent(each.share),
                "-" if each.keys_held is None else str(each.keys_held),
                milliseconds(each.rtt_s),
                "-" if each.load is None else percent(each.load),
                each.version,
            )
            for each in report.supernodes
        ],
        empty="no supernodes known: this node is not connected",
    )
