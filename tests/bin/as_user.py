"""Typing commands: to run them against a daemon, and to do something meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from bin.cli import koe

__all__ = ["meanwhile", "run", "wait_until"]


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(koe, ["--home", str(home), *arguments])


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something while a command runs (which, for its signals, has this thread)."""
    thread = threading.Thread(target=act)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 10 s"
        time.sleep(0.005)
