"""A home, and a daemon around a fake node that lives there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bin.daemon_fixture import ThreadedDaemon, run_in_thread
from tests.bin.fake_node import FakeNode


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def daemon(home: Path) -> Iterator[ThreadedDaemon]:
    with run_in_thread(home, FakeNode) as running:
        yield running
