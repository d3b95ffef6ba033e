"""The rules of the house that no linter knows, checked on the code itself."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("nat", "overlay", "media", "bin")

FILE_LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 70
# Seven code bases that read well have files of 139 to 302 lines and functions of 3 to 9
# in the median; past these limits something wants to be two things.

EMPTY_WORDS: Final = re.compile(r"Manager|Handler|Helper|Util|Common|Base(?![0-9a-z])")
UNFINISHED: Final = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")

SOURCES: Final = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)


def name_of(path: Path) -> str:
    """Give the path as it reads in a failure: nat/gate.py."""
    return path.relative_to(ROOT).as_posix()


def modules_with_a_kind() -> Iterator[str]:
    """Yield the modules that setup.cfg calls codec, machine or service."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for kind in ("codecs", "machines", "services"):
        listed = settings[f"importlinter:contract:{kind}"]["source_modules"]
        yield from listed.split()


def test_every_module_is_a_codec_or_a_machine_or_a_service() -> None:
    there = {
        f"{path.parent.name}.{path.stem}"
        for path in SOURCES
        if path.parent.name in ("nat", "overlay", "media") and path.stem != "__init__"
    }
    listed = Counter(modules_with_a_kind())
    assert there - listed.keys() == set(), "in no list of setup.cfg"
    assert listed.keys() - there == set(), "in setup.cfg, but gone"
    assert [module for module, times in listed.items() if times > 1] == []


@pytest.mark.parametrize(
    ("path", "line", "imported"),
    [
        ("nat/gate.py", "import time", "time"),
        ("overlay/session.py", "def late() -> None:\n    import trio", "trio"),
        ("overlay/names.py", "from nat import udp", "nat.udp"),
        ("nat/relay.py", "from aioice import stun", "aioice"),
        ("media/packet.py", "from nat.address import Address", "nat.address"),
        ("bin/errors.py", "import nacl", "nacl"),
    ],
)
def test_a_forbidden_import_breaks_a_contract(
    tmp_path: Path, path: str, line: str, imported: str
) -> None:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=lambda *_: ["__pycache__"]
        )
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    with (tmp_path / path).open("a") as source:
        source.write(f"\n{line}\n")
    linter = Path(sys.executable).with_name("lint-imports")
    ended = subprocess.run(
        [linter, "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"},
    )
    assert ended.returncode == 1
    assert f"{path.removesuffix('.py').replace('/', '.')} -> {imported}" in ended.stdout


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_can_be_read_at_one_go(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= FILE_LINES_MAX
    assert not UNFINISHED.findall(text)
    functions = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    long = [
        f"{function.name}, line {function.lineno}"
        for function in functions
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_is_public_in_words_that_mean_something(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [name for name in names if EMPTY_WORDS.search(name)] == []
    assert path.stem not in ("utils", "util", "common", "base", "helpers", "misc")
    if any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in tree.body):
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert "__all__" in assigned


def test_every_package_is_in_the_metadata() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    there = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in SOURCES
        if path.name == "__init__.py"
    }
    assert set(settings["options"]["packages"].split()) == there
