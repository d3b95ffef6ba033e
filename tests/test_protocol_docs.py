"""docs/protocol.md says what the code does: numbers, messages, and bytes."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from overlay import call_messages, messages
from tests.golden import read_golden

ROOT: Final = Path(__file__).parents[1]
DOCUMENT: Final = (ROOT / "docs/protocol.md").read_text()

CONSTANT: Final = re.compile(
    r"^\| `([\w.]+)` \| `([\w.]+)` \| ([\d,.]+)(?:/(\d+)|\^(\d+))?( [\w/]+)? \|", re.M
)
MESSAGE: Final = re.compile(r"^\| (\d+) \| (\w+) \|([\w, ]*)\|", re.M)
EXAMPLE: Final = re.compile(
    r"^([a-z][\w.-]*) = ((?:[0-9a-f]|\[\d+ zero bytes\]| |\n    )+)$", re.M
)
ZEROS: Final = re.compile(r"\[(\d+) zero bytes\]")

TIMER_OR_LIMIT: Final = re.compile(r"_(?:S|S_M(?:AX|IN)|MAX|MIN)$")
NO_PROTOCOL: Final = (
    *("media.device", "media.files", "media.loopback", "media.opus", "media.quality"),
    *("media.receiver", "media.soundcard", "media.tone"),
    *("nat.model", "overlay.keyfile", "overlay.tai64n"),
)
# Modules whose limits concern one machine, its sound and files, the tests' NATs, or
# what a format can express.


def constants_shown() -> dict[tuple[str, str], tuple[str, ...]]:
    """Give the rows of the tables of timers and limits by module and name."""
    return {
        (module, name): (digits, divisor, exponent, unit.strip())
        for name, module, digits, divisor, exponent, unit in CONSTANT.findall(DOCUMENT)
    }


def value_of(module: str, name: str) -> float:
    """Give what the code has: a constant, or the default of a field of a class."""
    owner = importlib.import_module(module)
    class_name, dot, field = name.rpartition(".")
    if dot:
        return float(getattr(getattr(owner, class_name)(), field))
    return float(getattr(owner, name))


def timers_and_limits() -> Iterator[tuple[str, str]]:
    """Yield the module and name of each `Final` number named like a timer or limit."""
    for path in sorted(ROOT.glob("*/*.py")):
        module = f"{path.parent.name}.{path.stem}"
        if path.parent.name not in ("nat", "overlay", "media") or module in NO_PROTOCOL:
            continue
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.AnnAssign) or "Final" not in ast.dump(node):
                continue
            name = ast.unparse(node.target)
            if TIMER_OR_LIMIT.search(name) and not name.startswith("_"):
                yield module, name


@pytest.mark.parametrize(
    ("module", "name"), constants_shown(), ids=lambda part: str(part)
)
def test_a_timer_or_limit_is_what_the_document_says(module: str, name: str) -> None:
    digits, divisor, exponent, unit = constants_shown()[module, name]
    shown = float(digits.replace(",", ""))
    shown = shown ** int(exponent) if exponent else shown / int(divisor or 1)
    assert value_of(module, name) == pytest.approx(shown, rel=1e-9)
    in_seconds = re.search(r"_s(?:_m(?:ax|in))?$", name.lower()) is not None
    assert (unit == "s") == (in_seconds and not re.search(r"_per_s", name.lower()))


def test_every_timer_and_limit_is_in_the_document() -> None:
    assert set(timers_and_limits()) - constants_shown().keys() == set()


def test_messages_have_the_tags_and_fields_of_the_document() -> None:
    shown = {
        name: (int(tag), re.findall(r"\w+", fields))
        for tag, name, fields in MESSAGE.findall(DOCUMENT)
    }
    defined = {
        body.__name__: (body.__struct_config__.tag, list(body.__struct_fields__))
        for module in (messages, call_messages)
        for body in vars(module).values()
        if hasattr(body, "__struct_config__") and body.__module__ == module.__name__
    }
    tagged = {name: body for name, body in defined.items() if body[0] is not None}
    assert shown == tagged


def test_the_examples_are_the_goldens() -> None:
    golden = {
        name: encoded
        for path in (ROOT / "tests/golden").glob("*.txt")
        for name, encoded in read_golden(path.name).items()
        if not name.startswith("rfc5769_")  # the RFC shows them
    }
    shown = {
        name: bytes.fromhex(ZEROS.sub(lambda zeros: "00" * int(zeros[1]), digits))
        for name, digits in EXAMPLE.findall(DOCUMENT)
    }
    assert {name: golden.get(name) for name in shown} == shown
    assert golden.keys() - shown.keys() == set(), "not shown in docs/protocol.md"
