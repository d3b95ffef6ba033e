"""The demo as a user runs it: real daemons, a real call, and what was heard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.speech import opinion_of

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
LIMIT_S = 120


def run_demo(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bin", "--home", str(home), "demo", *options]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@pytest.mark.parametrize("direct", [False, True], ids=["relayed", "direct"])
def test_what_the_demo_plays_is_heard_well(tmp_path: Path, direct: bool) -> None:
    heard = tmp_path / "heard.wav"
    options = ["--json", "--record", str(heard), *(["--direct"] if direct else [])]
    done = run_demo(tmp_path / "home", *options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["schema"] == 1
    assert opinion_of(heard) >= 4.0
    left = [path for path in (tmp_path / "home").rglob("*") if path.name == "mesh"]
    assert left == []
