"""`koe demo`: a mesh, a call by name, real speech through a supernode, and the proof.

Three supernodes and three leaves are started; alice calls bob. What bob hears goes to a
WAV file (and to the sound card, if there is one). The mesh goes when the demo does,
however that ends; what a killed demo leaves behind, the next one removes.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from bin.control_client import Control
from bin.errors import ProgramError
from bin.mesh import claim_root, plan_mesh, start_mesh, wait_for_mesh
from bin.mesh_call import BothEnds, call_in_mesh
from bin.mesh_state import MeshState, end_mesh, end_nodes
from bin.output import Progress
from bin.processes import process_of
from bin.reports import CallReport, EventReport
from bin.requests import Audio, CallParams

__all__ = ["CALLEE", "CALLER", "Demo", "Story", "run_demo", "writable_recording"]

NODES: Final = 6
SUPERNODES: Final = 3
CALLER: Final = "alice"
CALLEE: Final = "bob"


@dataclass(frozen=True, slots=True)
class Demo:
    """What to show. `kept` leaves the mesh running."""

    root: Path
    play: Path
    record: Path
    direct: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Story:
    """What happened."""

    mesh: MeshState
    set_up_s: float
    ends: BothEnds


def run_demo(demo: Demo, shown: Progress) -> Story:
    """Form the mesh, make the call, take the mesh down; tell each step on the way.

    Of a demo that failed, the logs remain for whoever looks for the reason.
    """
    claim_root(demo.root)
    try:
        story = trio.run(_play_until_told, demo, shown)
    except Exception:
        end_nodes(demo.root)
        raise
    except BaseException:
        end_mesh(demo.root)
        raise
    if not demo.kept:
        end_mesh(demo.root)
    return story


def writable_recording(chosen: Path | None) -> Path:
    """Give where the recording goes: as chosen, or here, or where there is room."""
    if chosen is not None:
        return chosen.expanduser().absolute()
    here = Path.cwd() / "koe-demo.wav"
    if os.access(here if here.exists() else here.parent, os.W_OK):
        return here
    return Path(tempfile.mkdtemp(prefix="koe-demo-")) / "koe-demo.wav"


async def _play_until_told(demo: Demo, shown: Progress) -> Story:
    """Play, and take a closed terminal or a polite kill for Ctrl-C."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_interrupt_on, signals)
            story = await _play(demo, shown)
            nursery.cancel_scope.cancel()
    return story


async def _interrupt_on(signals: AsyncIterator[int]) -> None:
    async for _ in signals:
        raise KeyboardInterrupt


async def _play(demo: Demo, shown: Progress) -> Story:
    begun_at = time.monotonic()
    owner = None if demo.kept else process_of(os.getpid())
    shown.step(f"starting {NODES} nodes, {SUPERNODES} of them supernodes...")
    mesh = plan_mesh(demo.root, NODES, SUPERNODES, owner)
    mesh = start_mesh(demo.root, mesh)
    await wait_for_mesh(mesh, shown.live)
    set_up_s = time.monotonic() - begun_at
    shown.step(f"{NODES} nodes are up after {set_up_s:.1f} s")
    caller, callee = mesh.node(CALLER), mesh.node(CALLEE)
    assert caller is not None
    assert callee is not None
    params = CallParams(
        peer=CALLEE,
        microphone=f"file:{demo.play}",
        speaker="null",
        relay_only=not demo.direct,
        hang_up_when_played=True,
        attached=True,
    )
    listening = Audio("null", "default", str(demo.record))
    shown.step(f"{CALLER} looks up {CALLEE} and calls...")

    async def follow(
        control: Control,
        placed: CallReport,
        events: trio.MemoryReceiveChannel[EventReport],
    ) -> CallReport:
        async for event in events:
            if event.call is None or event.call.id != placed.id:
                continue
            shown.step(_news(event))
            if event.kind == "call_ended":
                return event.call
        raise ProgramError.of("801", "the caller's daemon ended during the call")

    ends = await call_in_mesh(caller, callee, params, listening, follow)
    if ends.caller.problem is not None:
        raise ProgramError(ends.caller.problem)
    return Story(mesh, set_up_s, ends)


def _news(event: EventReport) -> str:
    if event.kind == "path_changed":
        return f"path: {event.text}"
    assert event.call is not None
    match event.call.state:
        case "ringing":
            return f"it rings at {CALLEE}"
        case "connected":
            return f"{CALLEE} has answered; the speech is playing..."
        case state:
            return f"the call is {state}"
