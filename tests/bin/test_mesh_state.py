"""Ending a mesh after every kind of crash, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bin.mesh_state import MeshNode, MeshState, end_mesh, read_mesh, write_mesh
from bin.places import Places
from bin.processes import (
    Process,
    _begun_by_ps,
    _command_lines_by_ps,
    end_processes,
    is_alive,
    process_of,
)

pytestmark = pytest.mark.real

SLEEPS = "import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def _start(
    started: list[subprocess.Popen[str]], script: str, *arguments: str
) -> Process:
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True
    )
    started.append(child)
    if "print" in script:
        assert child.stdout is not None
        assert child.stdout.readline() == "deaf\n"
    process = process_of(child.pid)
    assert process is not None
    return process


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "mesh"
    root.mkdir()
    return root


def _node(root: Path, name: str, process: Process | None) -> MeshNode:
    home = root / name
    home.mkdir()
    return MeshNode(
        name=name,
        address="127.0.0.1:1",
        home=str(home),
        supernode=False,
        process=process,
    )


def test_the_state_comes_back_as_it_was_written(root: Path) -> None:
    state = MeshState(nodes=[_node(root, "alice", Process(1, "2"))])
    write_mesh(root, state)
    assert read_mesh(root) == state


def test_all_processes_and_files_of_a_mesh_go(
    root: Path, started: list[subprocess.Popen[str]]
) -> None:
    processes = [_start(started, SLEEPS) for _ in range(3)]
    nodes = [_node(root, f"n{n}", each) for n, each in enumerate(processes)]
    write_mesh(root, MeshState(nodes=nodes))
    assert end_mesh(root) == 3
    assert not any(is_alive(each) for each in processes)
    assert not root.exists()


def test_a_process_that_does_not_listen_is_killed(
    started: list[subprocess.Popen[str]],
) -> None:
    deaf = _start(started, "print('deaf', flush=True);" + DEAF)
    end_processes([deaf])
    assert not is_alive(deaf)


def test_a_foreign_process_with_the_same_number_is_left_alone(
    root: Path, started: list[subprocess.Popen[str]]
) -> None:
    foreign = _start(started, SLEEPS)
    ours = msgspec.structs.replace(foreign, begun="1")
    write_mesh(root, MeshState(nodes=[_node(root, "alice", ours)]))
    assert end_mesh(root) == 0
    assert is_alive(foreign)


def test_a_daemon_that_was_started_but_not_written_down_is_found_by_its_command(
    root: Path, started: list[subprocess.Popen[str]]
) -> None:
    node = _node(root, "alice", None)
    daemon = _start(started, SLEEPS, "--home", node.home, "daemon")
    write_mesh(root, MeshState(nodes=[node]))
    assert end_mesh(root) == 1
    assert not is_alive(daemon)


def test_a_mesh_whose_state_is_lost_is_ended_by_its_homes(
    root: Path, started: list[subprocess.Popen[str]]
) -> None:
    node = _node(root, "alice", None)
    daemon = _start(started, SLEEPS, "--home", node.home, "daemon")
    (root / "mesh.json").write_text("{")
    assert end_mesh(root) == 1
    assert not is_alive(daemon)
    assert not Places.under(Path(node.home)).runtime.exists()
    assert not root.exists()


def test_who_merely_mentions_a_home_is_left_alone(
    root: Path, started: list[subprocess.Popen[str]]
) -> None:
    node = _node(root, "alice", None)
    reader = _start(started, SLEEPS, f"{node.home}/daemon.log")
    write_mesh(root, MeshState(nodes=[node]))
    assert end_mesh(root) == 0
    assert is_alive(reader)


def test_ending_what_is_not_there_does_nothing(tmp_path: Path) -> None:
    assert end_mesh(tmp_path / "none") == 0


def test_a_process_is_not_alive_once_it_is_a_zombie() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = process_of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process is None or not is_alive(process)
    child.wait()


def test_where_there_is_no_proc_ps_tells_the_same() -> None:
    ours = _begun_by_ps(os.getpid())
    assert ours
    assert ours == _begun_by_ps(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert _begun_by_ps(child.pid) is None


def test_where_there_is_no_proc_ps_finds_the_same_processes(
    started: list[subprocess.Popen[str]],
) -> None:
    process = _start(started, SLEEPS, "--home", "/some/where", "daemon")
    found = [
        pid for pid, line in _command_lines_by_ps() if " --home /some/where " in line
    ]
    assert found == [process.pid]
