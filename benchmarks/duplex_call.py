"""What one call costs the daemons of the two who talk, and the one that relays.

    python -m benchmarks.duplex_call [--seconds N] [--rounds N]

A mesh of real daemons on this machine, one supernode and two leaves. One leaf calls the
other and plays speech; the other answers with silence, which costs nearly as much at a
constant bit rate. Once over the relay and once directly, CPU time of each daemon is
read before and after from the kernel's count of that process, so nothing else that runs
here is in it. Beside it, in the same rounds, the floor: encoding and decoding the same
speech with the same settings, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import trio

from benchmarks.voice_cpu import SPEECH, measure_codec, read_speech

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
SETTLE_S: Final = 3.0
# Before the count begins: connecting, and the first fast checks of paths.
KOE: Final = (sys.executable, "-m", "bin")
SOURCE: Final = Path(__file__).parent.parent


def koe(home: Path, *words: str) -> dict[str, object]:
    """Run a command to its end; gives its JSON."""
    command = [*KOE, "--home", str(home), *words, "--json"]
    done = subprocess.run(command, cwd=SOURCE, stdout=subprocess.PIPE, check=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def cpu_s(pid: int) -> float:
    """Give the CPU time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def measure_idle(pids: Mapping[str, int], seconds: float) -> dict[str, float]:
    """Give what each daemon takes while nothing goes on, in % of a core."""
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    began_at = time.perf_counter()
    time.sleep(seconds)
    elapsed_s = time.perf_counter() - began_at
    return {n: 100 * (cpu_s(p) - before[n]) / elapsed_s for n, p in pids.items()}


def measure_call(
    mesh: Path, pids: Mapping[str, int], speech: Path, seconds: float, *options: str
) -> dict[str, float]:
    """Give what each daemon takes during a call, in % of a core."""
    words = ["mesh", "call", "alice", "bob", "--play", str(speech), *options]
    last_s = str(seconds + SETTLE_S + 2)
    command = [*KOE, "--home", str(mesh), *words, "--hang-up-after", last_s]
    with subprocess.Popen(command, cwd=SOURCE, stdout=subprocess.DEVNULL) as call:
        time.sleep(SETTLE_S)
        taken = measure_idle(pids, seconds)
        assert call.poll() is None, "the call ended before it was measured"
    return taken


def repeat_speech(target: Path, seconds: float) -> None:
    """Write the shipped clip over and over until it is long enough."""
    with wave.open(str(SPEECH)) as clip:
        parameters, frames = clip.getparams(), clip.readframes(clip.getnframes())
    clip_s = parameters.nframes / parameters.framerate
    with wave.open(str(target), "wb") as written:
        written.setparams(parameters)
        for _ in range(int(seconds / clip_s) + 1):
            written.writeframes(frames)


def show(label: str, rounds: list[dict[str, float]], codec: float) -> None:
    """Print the medians of some rounds."""
    for name in rounds[0]:
        median = statistics.median(taken[name] for taken in rounds)
        print(f"{label:12} {name:9} {median:6.2f} % of a core {median / codec:5.2f} x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    seconds: float = arguments.seconds
    frames = trio.run(read_speech)
    idle, relayed, direct, codecs = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        mesh, speech = Path(folder), Path(folder) / "speech.wav"
        repeat_speech(speech, seconds + SETTLE_S + 10)
        up = koe(mesh, "mesh", "up", "--nodes", "3", "--supernodes", "1")
        nodes = up["nodes"]
        assert isinstance(nodes, list)
        names = {"alice": "caller", "bob": "callee", "node-1": "relay"}
        pids = {names[node["name"]]: node["pid"] for node in nodes}
        try:
            for _ in range(arguments.rounds):
                idle.append(measure_idle(pids, seconds))
                relay_only = "--relay-only"
                relayed.append(measure_call(mesh, pids, speech, seconds, relay_only))
                direct.append(measure_call(mesh, pids, speech, seconds))
                codecs.append(measure_codec(frames, seconds))
        finally:
            koe(mesh, "mesh", "down")
    codec = statistics.median(codecs)
    print(f"codec alone            {codec:6.2f} % of a core  1.00 x")
    for label, rounds in (("idle", idle), ("relayed", relayed), ("direct", direct)):
        show(label, rounds, codec)


if __name__ == "__main__":
    main()
