"""`koe mesh`: real daemons on this machine, to try things with."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import click
import trio

from bin.commands.ask import json_option, show
from bin.commands.audio import audio_choice
from bin.commands.call import follow, print_call
from bin.control_client import Control, open_control
from bin.errors import Exit, ProgramError
from bin.mesh import NODES_MAX, claim_root, plan_mesh, start_mesh, wait_for_mesh
from bin.mesh_call import SPEECH, BothEnds, call_in_mesh
from bin.mesh_state import MeshNode, MeshState, end_mesh, living, read_mesh
from bin.output import (
    Progress,
    print_problem,
    print_table,
    progress,
)
from bin.places import Places
from bin.processes import end_processes, is_alive
from bin.reports import (
    CallReport,
    EventReport,
    MeshCallReport,
    MeshDownReport,
    MeshNodeReport,
    MeshReport,
    StatusReport,
)
from bin.requests import Audio, CallParams

__all__ = ["bring_up", "mesh"]


@click.group()
def mesh() -> None:
    """Run a mesh on this machine.

    Its nodes are real daemons: the first are supernodes (node-1...), the others leaves
    (alice, bob, carol...); all know each other and answer at once.
    """


@mesh.command()
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), default=6)
@click.option("--supernodes", type=click.IntRange(1, NODES_MAX), default=3)
@click.option(
    "--wait/--no-wait", default=True, help="Wait until all are connected (default)."
)
@json_option
@click.pass_obj
def up(places: Places, nodes: int, supernodes: int, wait: bool, as_json: bool) -> None:
    """Start a mesh."""
    if supernodes > nodes:
        raise click.UsageError(f"{supernodes} supernodes of {nodes} nodes")
    begun_at = time.monotonic()
    claim_root(places.mesh)
    with progress(as_json=as_json) as shown:
        shown.step(f"starting {nodes} nodes...")
        state = start_mesh(places.mesh, plan_mesh(places.mesh, nodes, supernodes))
        if wait:
            trio.run(bring_up, state, shown)
    elapsed_s = time.monotonic() - begun_at
    show(trio.run(_look_at, state, elapsed_s), as_json, _print_mesh)


async def bring_up(state: MeshState, shown: Progress) -> None:
    """Wait for a mesh that was started; end its processes if it does not come up."""
    try:
        await wait_for_mesh(state, shown.live)
    except BaseException:
        end_processes(living(state.nodes))
        raise


@mesh.command()
@json_option
@click.pass_obj
def status(places: Places, as_json: bool) -> None:
    """Show the nodes of the mesh."""
    show(trio.run(_look_at, _running(places.mesh), None), as_json, _print_mesh)


@mesh.command()
@click.argument("caller")
@click.argument("callee")
@click.option("--play", metavar="FILE", help="What the caller says; default: a clip.")
@click.option("--record", metavar="FILE", help="A WAV of what the callee hears.")
@click.option("--relay-only", is_flag=True, help="Keep the call on a relay.")
@click.option("--hang-up-after", type=click.FloatRange(min=0), metavar="SECONDS")
@json_option
@click.pass_context
def call(
    context: click.Context,
    caller: str,
    callee: str,
    play: str | None,
    record: str | None,
    relay_only: bool,
    hang_up_after: float | None,
    as_json: bool,
) -> None:
    """Let node CALLER call node CALLEE and play a file."""
    places: Places = context.obj
    state = _running(places.mesh)
    audio = audio_choice(play or str(SPEECH), record, None, "null")
    params = CallParams(
        peer=callee,
        microphone=audio.microphone,
        speaker="null",
        relay_only=relay_only,
        hang_up_when_played=True,
        hang_up_after_s=hang_up_after,
        attached=True,
    )
    ends = (_node(state, caller), _node(state, callee))
    both = trio.run(_converse, *ends, params, audio.record, as_json)
    show(MeshCallReport(both.caller, both.callee), as_json, _print_both)
    problem = both.caller.problem
    if problem is not None and not as_json:
        print_problem(problem, as_json=False)
    context.exit(Exit.OK if problem is None else problem.exit)


async def _converse(
    caller: MeshNode,
    callee: MeshNode,
    params: CallParams,
    record: str | None,
    as_json: bool,
) -> BothEnds:
    with progress(as_json=as_json) as shown:
        shown.step(f"looking up {callee.name}...")

        async def watch(
            control: Control,
            placed: CallReport,
            events: trio.MemoryReceiveChannel[EventReport],
        ) -> CallReport:
            return await follow(control, placed, events, shown, as_json=as_json)

        listening = Audio("null", "null", record)
        return await call_in_mesh(caller, callee, params, listening, watch)


@mesh.command()
@json_option
@click.pass_obj
def down(places: Places, as_json: bool) -> None:
    """End the mesh and remove all its files, also after a crash."""
    if not places.mesh.exists():
        raise ProgramError.of("807", f"there is nothing at {places.mesh}")
    ended = end_mesh(places.mesh)
    show(
        MeshDownReport(ended),
        as_json,
        lambda report: click.echo(f"{report.ended} nodes ended, nothing left behind"),
    )


def _running(root: Path) -> MeshState:
    state = read_mesh(root)
    if state is None:
        raise ProgramError.of("807", f"there is no mesh at {root}")
    return state


def _node(state: MeshState, name: str) -> MeshNode:
    node = state.node(name)
    if node is None:
        names = ", ".join(each.name for each in state.nodes)
        raise ProgramError.of("815", f"{name!r} is none of {names}")
    return node


async def _look_at(state: MeshState, elapsed_s: float | None) -> MeshReport:
    told: dict[str, MeshNodeReport] = {}

    async def look_at(node: MeshNode) -> None:
        told[node.name] = _report(node, await _status_of(node))

    async with trio.open_nursery() as nursery:
        for node in state.nodes:
            nursery.start_soon(look_at, node)
    return MeshReport([told[node.name] for node in state.nodes], elapsed_s)


async def _status_of(node: MeshNode) -> StatusReport | None:
    status = None
    with contextlib.suppress(ProgramError):
        async with open_control(node.places.control_socket) as control:
            status = await control.ask("status", StatusReport)
    return status


def _report(node: MeshNode, status: StatusReport | None) -> MeshNodeReport:
    return MeshNodeReport(
        name=node.name,
        address=node.address,
        home=node.home,
        log=str(node.log),
        pid=None if node.process is None else node.process.pid,
        alive=node.process is not None and is_alive(node.process),
        status=status,
    )


def _print_mesh(report: MeshReport) -> None:
    print_table(
        ("NODE", "ADDRESS", "ROLE", "STATE", "PRIMARY HOME", "RECORDS", "CALLS"),
        [_row(node) for node in report.nodes],
        empty="no nodes",
    )
    if report.elapsed_s is not None:
        click.echo(f"up in {report.elapsed_s:.2f} s")


def _row(node: MeshNodeReport) -> tuple[str, ...]:
    status = node.status
    if status is None:
        state = "not answering" if node.alive else "gone"
        return (node.name, node.address, "-", state, "-", "-", "-")
    primary = next((home.address for home in status.homes if home.primary), "-")
    return (
        node.name,
        node.address,
        status.role,
        "ready" if status.ready else "connecting",
        primary,
        str(status.records_held),
        f"{status.calls} own, {status.relay_calls} relayed",
    )


def _print_both(report: MeshCallReport) -> None:
    click.echo("by the caller")
    print_call(report.caller)
    click.echo("by the callee")
    print_call(report.callee)
