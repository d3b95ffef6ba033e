"""The catalogue of failures: told in one form, documented, never lost in a group."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import media.errors
import overlay.errors
from bin.errors import CATALOGUE, Exit, exit_of, problem_of
from media.errors import MediaError
from overlay.errors import OverlayError, PeerNotFound

DOCUMENT = Path(__file__).parents[2] / "docs" / "exit-codes.md"


def _titles() -> dict[str, str]:
    """Give the title of every code that a user may see."""
    titles = {code: entry.title for code, entry in CATALOGUE.items()}
    for told in (*_subclasses(OverlayError), *_subclasses(MediaError)):
        titles[told.code] = told.title
    return titles | {"105": "Audio file resampled", "500": OverlayError.title}


def _subclasses(
    parent: type[OverlayError] | type[MediaError],
) -> Iterator[type[OverlayError] | type[MediaError]]:
    for child in parent.__subclasses__():
        if "code" in vars(child):
            yield child
        yield from _subclasses(child)


def test_no_code_means_two_things() -> None:
    below = [told.code for told in _subclasses(OverlayError)]
    below += [told.code for told in _subclasses(MediaError)]
    assert len(below) == len(set(below))
    assert not set(below) & set(CATALOGUE)


def test_every_code_is_documented_with_its_title_and_exit_status() -> None:
    row = re.compile(r"^\| K(\d{3}) \| (.+?) \| (\d+) \|$", re.MULTILINE)
    documented = {
        code: (title, int(status))
        for code, title, status in row.findall(DOCUMENT.read_text(encoding="utf-8"))
    }
    assert documented == {
        code: (title, 0 if code == "105" else int(exit_of(code)))
        for code, title in _titles().items()
    }


def test_every_exit_status_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for status in Exit:
        assert re.search(rf"^\| {int(status)} \| ", text, re.MULTILINE), status


def test_every_entry_says_what_to_do_next() -> None:
    for code, entry in CATALOGUE.items():
        assert entry.title[0].isupper(), code
        assert entry.title[-1] not in ".!", code
        assert entry.next_step.endswith("."), code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EADDRINUSE, "201"),
        (errno.EADDRNOTAVAIL, "203"),
        (errno.ENETUNREACH, "204"),
        (errno.ENOSPC, "811"),
    ],
)
def test_what_the_system_refuses_has_a_code(number: int, code: str) -> None:
    problem = problem_of(OSError(number, "why", "/some/file"))
    assert problem.code == code
    assert problem.cause == "/some/file: why"


def test_errors_of_the_overlay_tell_themselves() -> None:
    problem = problem_of(PeerNotFound("nobody is called that"))
    assert (problem.code, problem.cause) == ("502", "nobody is called that")
    assert problem.exit is Exit.NOT_FOUND


def test_errors_of_media_tell_themselves_without_repeating_their_title() -> None:
    problem = problem_of(media.errors.NoDevice("there is no sound card"))
    assert (problem.code, problem.cause) == ("101", "there is no sound card")
    assert problem.exit is Exit.AUDIO


def test_of_a_group_the_most_telling_member_is_told() -> None:
    group = ExceptionGroup(
        "",
        [
            ValueError("a bug"),
            ExceptionGroup("", [OSError(5, "io"), PeerNotFound("x")]),
        ],
    )
    assert problem_of(group).code == "502"


def test_anything_else_is_unexpected() -> None:
    assert problem_of(ZeroDivisionError("x")).code == "899"


def test_the_overlays_own_names_are_all_exported() -> None:
    assert {told.__name__ for told in _subclasses(OverlayError)} <= set(
        overlay.errors.__all__
    )
