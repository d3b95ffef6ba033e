"""One version, written down twice."""

from __future__ import annotations

import configparser
from pathlib import Path

from bin.version import VERSION


def test_the_version_is_that_of_setup_cfg() -> None:
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[2] / "setup.cfg")
    assert settings["metadata"]["version"] == VERSION
