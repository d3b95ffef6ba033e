"""Processes of ours, known by more than a number that the system gives to others later.

A process is its id *and* the instant it began, as the system tells it; so nothing
foreign is ever ended. A zombie counts as gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Process", "end_processes", "is_alive", "process_of", "processes_with"]

GRACE_S: Final = 3.0
# For SIGTERM: a daemon hangs up and takes its leave in a tenth of that.
POLL_S: Final = 0.01
HAS_PROC: Final = Path("/proc/self/stat").exists()


class Process(msgspec.Struct, frozen=True):
    """One process of this machine, past or present."""

    pid: int
    begun: str


def process_of(pid: int) -> Process | None:
    """Name the process that has this id now; None if there is none."""
    begun = _begun(pid)
    return None if begun is None else Process(pid, begun)


def is_alive(process: Process) -> bool:
    """Whether this very process still runs."""
    return _begun(process.pid) == process.begun


def processes_with(commands: Sequence[Sequence[str]]) -> list[Process]:
    """Find the processes whose command line has one of these rows of arguments.

    A space counts as the end of an argument, because `ps` shows it so.
    """
    lines = _command_lines_by_proc() if HAS_PROC else _command_lines_by_ps()
    rows = [f" {' '.join(command)} " for command in commands]
    found = [process_of(pid) for pid, line in lines if any(row in line for row in rows)]
    return [process for process in found if process is not None]


def end_processes(processes: Sequence[Process]) -> None:
    """End processes, kindly at first; returns when all are gone."""
    living = [each for each in processes if is_alive(each)]
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for process in living:
            _send(process, signal_number)
        gives_up_at = time.monotonic() + GRACE_S
        while living and time.monotonic() < gives_up_at:
            time.sleep(POLL_S)
            living = [each for each in living if not _is_over(each)]


def _is_over(process: Process) -> bool:
    # Our own children stay zombies until they are waited for.
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    return not is_alive(process)


def _send(process: Process, signal_number: signal.Signals) -> None:
    if is_alive(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal_number)


def _begun(pid: int) -> str | None:
    return _begun_by_proc(pid) if HAS_PROC else _begun_by_ps(pid)


def _begun_by_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the name, field 2, is in parentheses and may contain anything.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[22 - 4]


def _begun_by_ps(pid: int) -> str | None:
    told = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()
    return None if not told or told.startswith("Z") else told.partition(" ")[2].strip()


def _command_lines_by_proc() -> Iterator[tuple[int, str]]:
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if place.stat().st_uid != os.getuid():
                continue  # whatever it is called, it is none of ours
            line = os.fsdecode((place / "cmdline").read_bytes())
            yield int(place.name), f" {line}".replace("\0", " ")


def _command_lines_by_ps() -> Iterator[tuple[int, str]]:
    told = subprocess.run(
        ["ps", "-axww", "-o", "pid=,args="], capture_output=True, text=True
    ).stdout
    for line in told.splitlines():
        pid, _, command = line.strip().partition(" ")
        yield int(pid), f" {command.strip()} "
