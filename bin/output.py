"""How commands print: for people, with colours where there are any; or JSON.

Reports go to standard output, notices and progress to standard error, so that
`koe ... --json | jq` always works. rich is loaded for a terminal only: it takes 40 ms.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click
import msgspec

from bin.errors import Problem
from bin.reports import ErrorReport, NoticeReport, StepReport

if TYPE_CHECKING:
    from rich.status import Status

__all__ = [
    "Progress",
    "milliseconds",
    "percent",
    "print_json",
    "print_notice",
    "print_pairs",
    "print_problem",
    "print_steps",
    "print_table",
    "progress",
    "screen",
    "wants_color",
]


def wants_color() -> bool | None:
    """Give click's three-valued answer: no with NO_COLOR, else by the terminal."""
    return False if os.environ.get("NO_COLOR") else None


def print_json(report: msgspec.Struct) -> None:
    """Print a report as JSON, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())


def print_problem(problem: Problem, *, as_json: bool) -> None:
    """Print why a command failed."""
    if as_json:
        print_json(ErrorReport(problem))
        return
    head = click.style(f"error K{problem.code}:", fg="red", bold=True)
    click.echo(f"{head} {problem.title}", err=True, color=wants_color())
    click.echo(f"  cause: {problem.cause}", err=True)
    click.echo(f"  next step: {problem.next_step}", err=True)


def print_notice(notice: NoticeReport) -> None:
    """Print what stopped nothing but is worth knowing."""
    head = click.style(f"notice K{notice.code}:", fg="yellow")
    click.echo(f"{head} {notice.title}: {notice.cause}", err=True, color=wants_color())
    click.echo(f"  next step: {notice.next_step}", err=True)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, aligned."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        label = click.style(name.ljust(width), dim=True)
        click.echo(f"{label}  {value}", color=wants_color())


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str
) -> None:
    """Print rows in columns as wide as their content; `empty` if there are none."""
    if not rows:
        click.echo(empty)
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    head = "  ".join(map(str.ljust, columns, widths)).rstrip()
    click.echo(click.style(head, bold=True), color=wants_color())
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())


def print_steps(steps: Sequence[StepReport], indent: str = "  ") -> None:
    """Print the questions of a look-up, one a line."""
    for number, step in enumerate(steps, 1):
        took = "no answer" if step.rtt_s is None else milliseconds(step.rtt_s)
        click.echo(f"{indent}{number}. asked {step.who}: {step.answer} ({took})")


def milliseconds(length_s: float | None) -> str:
    """Write a short length of time."""
    return "-" if length_s is None else f"{1000 * length_s:.1f} ms"


def percent(share: float) -> str:
    """Write a share of 1."""
    return f"{100 * share:.1f} %"


class Progress(Protocol):
    """How far something is, for who waits for it."""

    def step(self, text: str) -> None:
        """Show what happens now; it stays to be read."""
        ...

    def live(self, text: str) -> None:
        """Show values that change all the time, if there is a terminal."""
        ...


class _Silent:
    def step(self, text: str) -> None:
        """Show nothing."""

    def live(self, text: str) -> None:
        """Show nothing."""


class _Lines:
    """Without a terminal there is nothing to rewrite."""

    def __init__(self) -> None:
        self._last = ""

    def step(self, text: str) -> None:
        """Write a line, if it says anything new."""
        if text != self._last:
            click.echo(text, err=True)
        self._last = text

    def live(self, text: str) -> None:
        """Show nothing: it would be an endless list."""


class _Spinner(_Lines):
    """A line at the bottom of a terminal that moves while something is done."""

    def __init__(self, status: Status) -> None:
        super().__init__()
        self._status = status

    def step(self, text: str) -> None:
        """Write a line, and go on below it."""
        # By the spinner's own console, which takes its line away meanwhile.
        self._status.console.print(text, markup=False, highlight=False)
        self._status.update(" ")  # an empty text would leave the one before

    def live(self, text: str) -> None:
        """Put this beside the spinner."""
        from rich.markup import escape

        self._status.update(escape(text))


@contextmanager
def progress(*, as_json: bool) -> Iterator[Progress]:
    """Show the progress of long work on standard error; nothing with `--json`."""
    if as_json:
        yield _Silent()
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        from rich.console import Console

        with Console(stderr=True).status("") as status:
            yield _Spinner(status)


@contextmanager
def screen() -> Iterator[Callable[[str], None]]:
    """Give a way to show text of several lines, in place of the one before.

    Without a terminal, one follows the other.
    """
    if not sys.stdout.isatty():
        yield click.echo
    else:
        from rich.live import Live
        from rich.text import Text

        with Live(auto_refresh=False) as live:
            yield lambda text: live.update(Text(text), refresh=True)
