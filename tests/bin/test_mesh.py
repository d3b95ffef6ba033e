"""The mesh and the demo with real processes: up, used, crashed, and gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bin.errors import Exit, ProgramError
from bin.mesh import claim_root, plan_mesh
from bin.mesh_state import MeshState, read_mesh, write_mesh
from bin.places import Places
from bin.processes import Process, is_alive, process_of

pytestmark = pytest.mark.real

PATIENCE_S = 60.0
# For a machine that does other things, too.


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    run(home, "mesh", "down")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Give half a second of a square wave of 400 Hz."""
    clip = tmp_path / "clip.wav"
    with wave.open(str(clip), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes((b"\x40\x1f" * 60 + b"\xc0\xe0" * 60) * 200)
    return clip


def wait_for_daemons(home: Path, count: int) -> list[int]:
    deadline = time.monotonic() + PATIENCE_S
    while len(running := daemons_of(home)) < count:
        assert time.monotonic() < deadline, f"{len(running)} of {count} daemons"
        time.sleep(0.01)
    return running


def begin(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bin", "--home", str(home), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def run(home: Path, *arguments: str) -> tuple[int, str, str]:
    process = begin(home, *arguments)
    out, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, errors


def daemons_of(home: Path) -> list[int]:
    """Give the processes that run below this home, by their command lines."""
    told = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True
    )
    return [
        int(line.split()[0])
        for line in told.stdout.splitlines()
        if str(home) in line and " daemon " in line
    ]


def is_heard(recording: str) -> bool:
    with wave.open(recording) as file:
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    return max(samples) > 5_000


def test_a_mesh_is_started_used_and_ended(home: Path, clip: Path) -> None:
    status, out, _ = run(
        home, "mesh", "up", "--nodes", "4", "--supernodes", "2", "--json"
    )
    assert status == Exit.OK
    nodes = json.loads(out)["nodes"]
    assert [node["name"] for node in nodes] == ["node-1", "node-2", "alice", "bob"]
    assert all(node["status"]["ready"] for node in nodes)
    slash_16s = {node["address"].split(".")[1] for node in nodes}
    assert len(slash_16s) == (4 if sys.platform == "linux" else 1)

    heard = str(home / "heard.wav")
    call = ("mesh", "call", "alice", "bob", "--play", str(clip), "--record", heard)
    status, out, _ = run(home, *call, "--relay-only", "--json")
    assert status == Exit.OK
    both = json.loads(out)
    assert both["callee"]["peer"] == "alice"
    assert both["caller"]["paths"][0]["route"].startswith("relay(")
    assert is_heard(heard)

    assert run(home, "mesh", "up")[0] == Exit.FAILED
    status, _, errors = run(home, "mesh", "call", "alice", "nobody")
    assert status == Exit.NOT_FOUND
    assert "error K815" in errors

    status, out, _ = run(home, "mesh", "down", "--json")
    assert json.loads(out) == {"schema": 1, "ended": 4}
    assert not daemons_of(home)
    assert not Places.under(home).mesh.exists()
    assert run(home, "mesh", "status")[0] == Exit.NO_DAEMON


def test_a_killed_mesh_command_and_killed_nodes_leave_nothing_after_down(
    home: Path,
) -> None:
    starting = begin(home, "mesh", "up", "--nodes", "4", "--supernodes", "2")
    running = wait_for_daemons(home, 3)
    starting.kill()
    starting.communicate()
    os.kill(running[0], signal.SIGKILL)
    assert run(home, "mesh", "down")[0] == Exit.OK
    assert not daemons_of(home)
    assert not Places.under(home).mesh.exists()


def test_a_demo_lets_speech_through_a_supernode_and_takes_its_mesh_down(
    home: Path, clip: Path, tmp_path: Path
) -> None:
    heard = str(tmp_path / "demo.wav")
    status, out, _ = run(home, "demo", "--play", str(clip), "--record", heard, "--json")
    assert status == Exit.OK
    told = json.loads(out)
    supernodes = {node["address"] for node in told["nodes"][:3]}
    assert told["caller"]["steps"][0]["who"] in supernodes
    assert set(told["caller"]["relays"]) <= supernodes
    assert all(path["route"] != "direct" for path in told["caller"]["paths"])
    assert told["callee"]["audio"]["mos"] > 3.5
    assert is_heard(heard)
    assert not daemons_of(home)
    assert not Places.under(home).mesh.exists()


def test_what_a_killed_demo_leaves_the_next_one_removes(
    home: Path, clip: Path, tmp_path: Path
) -> None:
    demo = ("demo", "--play", str(clip), "--record", str(tmp_path / "demo.wav"))
    killed = begin(home, *demo)
    wait_for_daemons(home, 1)
    killed.kill()
    killed.communicate()
    status, out, _ = run(home, *demo)
    assert status == Exit.OK
    assert "quality" in out
    assert not daemons_of(home)


@pytest.mark.parametrize("asked_by", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("daemons", [1, 6])
def test_an_interrupted_demo_takes_its_mesh_down(
    home: Path, tmp_path: Path, asked_by: signal.Signals, daemons: int
) -> None:
    demo = begin(home, "demo", "--record", str(tmp_path / "demo.wav"))
    wait_for_daemons(home, daemons)
    demo.send_signal(asked_by)
    _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == Exit.INTERRUPTED
    assert "Traceback" not in errors
    assert not daemons_of(home)
    assert not Places.under(home).mesh.exists()


def test_a_node_that_cannot_start_is_told_with_its_last_words(home: Path) -> None:
    # The plan's second node gets a home that it cannot use.
    root = Places.under(home).mesh
    starting = begin(home, "mesh", "up", "--nodes", "2", "--supernodes", "2", "--json")
    while not (root / "node-2").exists():
        time.sleep(0.001)
    (root / "node-2" / "settings.toml").write_text("nonsense = 1")
    out, _ = starting.communicate(timeout=PATIENCE_S)
    error = json.loads(out)["error"]
    assert error["code"] == "809"
    assert "nonsense" in error["cause"]
    assert not daemons_of(home)


def test_a_running_mesh_is_not_taken_over_unless_its_owner_is_gone(
    tmp_path: Path,
) -> None:
    root = tmp_path / "mesh"
    claim_root(root)
    state = plan_mesh(root, 1, 1)
    us = process_of(os.getpid())
    assert us is not None
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        node = process_of(child.pid)
        assert node is not None
        _put(root, state, node, owner=None)
        with pytest.raises(ProgramError, match="1 nodes"):
            claim_root(root)
        _put(root, state, node, owner=us)
        with pytest.raises(ProgramError, match="1 nodes"):
            claim_root(root)
        _put(root, state, node, owner=Process(us.pid, "long ago"))
        claim_root(root)
        assert not is_alive(node)
    finally:
        child.kill()
        child.wait()
    assert read_mesh(root) is None


def _put(
    root: Path, state: MeshState, process: Process | None, owner: Process | None
) -> None:
    nodes = [msgspec.structs.replace(node, process=process) for node in state.nodes]
    write_mesh(root, MeshState(nodes=nodes, owner=owner))
