"""What is written down about a local mesh, so that it can be ended after any crash.

    mesh/mesh.json      the plan, and after each start of a node its process
    mesh/NAME/          the home of a node: identity, contacts, socket, daemon.log

The plan is written before the first process starts. A process that was started when
the mesh command died before it could write so is found by its command line, which names
its home.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bin.places import Places
from bin.processes import Process, end_processes, is_alive, processes_with

__all__ = [
    "MeshNode",
    "MeshState",
    "end_mesh",
    "end_nodes",
    "living",
    "read_mesh",
    "write_mesh",
]

EXEC_S: Final = 0.05
# A process that was started in this very moment has no command line yet.


class MeshNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a mesh."""

    name: str
    address: str
    home: str
    supernode: bool
    process: Process | None = None

    @property
    def places(self) -> Places:
        """The directories of its daemon."""
        return Places.under(Path(self.home))

    @property
    def log(self) -> Path:
        """What its daemon has to say."""
        return Path(self.home) / "daemon.log"


class MeshState(msgspec.Struct, frozen=True, kw_only=True):
    """A mesh. One with an `owner` is not to outlive that process (`koe demo`)."""

    schema: int = 1
    nodes: list[MeshNode]
    owner: Process | None = None

    def node(self, name: str) -> MeshNode | None:
        """Give a node by name."""
        return next((node for node in self.nodes if node.name == name), None)


def write_mesh(root: Path, state: MeshState) -> None:
    """Write the state, whole or not at all."""
    fresh = root / "mesh.new"
    fresh.write_bytes(msgspec.json.encode(state))
    fresh.replace(root / "mesh.json")


def read_mesh(root: Path) -> MeshState | None:
    """Read the state; None if there is no mesh, or none that can be read."""
    try:
        return msgspec.json.decode((root / "mesh.json").read_bytes(), type=MeshState)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


def living(nodes: Sequence[MeshNode]) -> list[Process]:
    """Give the processes of these nodes that still run."""
    known = [node.process for node in nodes if node.process is not None]
    commands = [("--home", node.home, "daemon") for node in nodes]
    return list({*filter(is_alive, known), *processes_with(commands)})


def end_nodes(root: Path) -> int:
    """End all processes of the mesh, and leave its files; give how many ran.

    Also ends what a state that cannot be read does not tell.
    """
    nodes = _nodes(root)
    if any(node.process is None for node in nodes):
        time.sleep(EXEC_S)
    processes = living(nodes)
    end_processes(processes)
    return len(processes)


def end_mesh(root: Path) -> int:
    """End all processes of the mesh and remove its files; give how many ran."""
    ended = end_nodes(root)
    for node in _nodes(root):
        shutil.rmtree(node.places.runtime, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    return ended


def _nodes(root: Path) -> list[MeshNode]:
    """Give the nodes that are written down, and the homes that are not."""
    state = read_mesh(root)
    nodes = [] if state is None else list(state.nodes)
    known = {node.home for node in nodes}
    return nodes + [
        MeshNode(name=home.name, address="", home=str(home), supernode=False)
        for home in sorted(root.glob("*/"))
        if str(home) not in known
    ]
