"""A mesh of real daemons on this machine: planned, started, awaited.

Each node has its own home directory and, where the system has all of 127/8, its own
loopback address in a /16 of its own, so that the mesh looks to the overlay like nodes
all over the world; elsewhere (macOS) the nodes differ in their ports. The first nodes
are supernodes, named node-1, node-2...; the others are leaves with people's names. All
are each other's contacts and answer at once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

import bin as programs
from bin.contacts import ContactBook
from bin.control_client import open_control
from bin.errors import ProgramError
from bin.mesh_state import (
    MeshNode,
    MeshState,
    end_mesh,
    living,
    read_mesh,
    write_mesh,
)
from bin.processes import Process, is_alive, process_of
from bin.reports import StatusReport
from overlay.keyfile import load_or_create

__all__ = ["NODES_MAX", "claim_root", "plan_mesh", "start_mesh", "wait_for_mesh"]

NODES_MAX: Final = 200
# 20 MB and one process each; and 127.10/16 to 127.209/16.
PORTS: Final = range(17_000, 18_000)
# Away from 7000, which is for a daemon of the user's own.
PATIENCE_S: Final = 30.0
# Many times what the slowest machine takes.
POLL_S: Final = 0.01
LOG_TAIL_BYTES: Final = 500
NAMES: Final = [
    "alice",
    "bob",
    "carol",
    "dave",
    "erin",
    "frank",
    "grace",
    "heidi",
    "ivan",
    "judy",
    "kevin",
    "laura",
    "mike",
    "nina",
    "oscar",
    "peggy",
    "quinn",
    "rupert",
    "sybil",
    "trent",
    "uma",
    "victor",
    "wendy",
    "xavier",
    "yvonne",
    "zoe",
]


def claim_root(root: Path) -> None:
    """Make the directory of a mesh, or take over what a dead one left there.

    Raises `ProgramError` 808 if a mesh runs there that somebody still wants.
    """
    state = read_mesh(root)
    orphaned = state is not None and state.owner and not is_alive(state.owner)
    if state is not None and not orphaned and (running := living(state.nodes)):
        raise ProgramError.of("808", f"{len(running)} nodes of {root} are running")
    end_mesh(root)
    root.mkdir(mode=0o700, parents=True)


def plan_mesh(
    root: Path, nodes: int, supernodes: int, owner: Process | None = None
) -> MeshState:
    """Choose names and free addresses, and write all homes and the plan."""
    leaves = nodes - supernodes
    spare = [f"leaf-{number}" for number in range(len(NAMES) + 1, leaves + 1)]
    names = [f"node-{number}" for number in range(1, supernodes + 1)]
    names += [*NAMES, *spare][:leaves]
    addresses = _free_addresses(nodes)
    planned = [
        MeshNode(
            name=name,
            address=address,
            home=str(root / name),
            supernode=number < supernodes,
        )
        for number, (name, address) in enumerate(zip(names, addresses, strict=True))
    ]
    state = MeshState(nodes=planned, owner=owner)
    write_mesh(root, state)
    _introduce(planned)
    return state


def start_mesh(root: Path, state: MeshState) -> MeshState:
    """Start all daemons, writing down each at once."""
    seeds = [node.address for node in state.nodes if node.supernode]
    for place, node in enumerate(state.nodes):
        process = _start(node, [seed for seed in seeds if seed != node.address])
        nodes = list(state.nodes)
        nodes[place] = msgspec.structs.replace(node, process=process)
        state = msgspec.structs.replace(state, nodes=nodes)
        write_mesh(root, state)
    return state


async def wait_for_mesh(state: MeshState, tell: Callable[[str], None]) -> None:
    """Wait until every node is connected to the network.

    Raises `ProgramError` 809 if a daemon ends, or is not ready after `PATIENCE_S`.
    """
    ready = 0

    async def wait(node: MeshNode) -> None:
        nonlocal ready
        await _wait_for_node(node)
        ready += 1
        tell(f"{ready} of {len(state.nodes)} nodes ready")

    with trio.move_on_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for node in state.nodes:
                nursery.start_soon(wait, node)
        return
    raise ProgramError.of(
        "809", f"{ready} of {len(state.nodes)} nodes were ready after {PATIENCE_S:g} s"
    )


async def _wait_for_node(node: MeshNode) -> None:
    while True:
        try:
            async with open_control(node.places.control_socket) as control:
                await control.ask("wait_ready", StatusReport)
            return
        except* ProgramError as group:
            # Not yet there, or gone again: the process tells which.
            if any(each.problem.code != "801" for each in _errors(group)):
                raise
        if node.process is None or not is_alive(node.process):
            raise ProgramError.of("809", f"{node.name} ended: {_last_words(node)}")
        await trio.sleep(POLL_S)


def _errors(group: ExceptionGroup[ProgramError]) -> list[ProgramError]:
    errors: list[ProgramError] = []
    for each in group.exceptions:
        errors += _errors(each) if isinstance(each, ExceptionGroup) else [each]
    return errors


def _last_words(node: MeshNode) -> str:
    try:
        log = node.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
    except OSError:
        log = ""
    return f"{log.strip() or 'without a word'} ({node.log})"


def _introduce(nodes: Sequence[MeshNode]) -> None:
    """Make the homes and identities, and everyone everyone's contact."""
    keys: dict[str, bytes] = {}
    for node in nodes:
        node.places.make()
        identity = load_or_create(node.places.identity_file)
        keys[node.name] = identity.public_key
    for node in nodes:
        others = {name: key for name, key in keys.items() if name != node.name}
        ContactBook(node.places.contacts_file).add_all(others, time.time())


def _start(node: MeshNode, seeds: Sequence[str]) -> Process | None:
    command = [sys.executable, "-m", "bin", "--home", node.home, "daemon"]
    command += ["--name", node.name, "--bind", node.address]
    command += ["--supernode", "on" if node.supernode else "off", "--answer", "auto"]
    command += ["--microphone", "null", "--speaker", "null"]
    for seed in seeds:
        command += ["--seed", seed]
    # The packages are found even where they are not installed.
    packages = [str(Path(programs.__file__).parent.parent)]
    if "PYTHONPATH" in os.environ:
        packages.append(os.environ["PYTHONPATH"])
    with node.log.open("ab") as log:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(packages)},
        )
    # It is not ours to wait for: whoever ends the mesh does.
    started.returncode = 0
    return process_of(started.pid)


def _free_addresses(count: int) -> list[str]:
    """Give addresses that can be bound now."""
    hosts = [f"127.{10 + number}.2.1" for number in range(count)]
    if not _is_free(hosts[0], 0):
        return _free_ports(count)
    for port in _ports():
        if all(_is_free(host, port) for host in hosts):
            return [f"{host}:{port}" for host in hosts]
    raise ProgramError.of("201", f"all of {PORTS.start} to {PORTS.stop - 1} are taken")


def _ports() -> list[int]:
    """Give all ports; meshes that are planned at the same time begin elsewhere."""
    first = os.getpid() % len(PORTS)
    return [*PORTS[first:], *PORTS[:first]]


def _free_ports(count: int) -> list[str]:
    free = [port for port in _ports() if _is_free("127.0.0.1", port)][:count]
    if len(free) < count:
        raise ProgramError.of("201", f"only {len(free)} ports of {count} are free")
    return [f"127.0.0.1:{port}" for port in free]


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
