"""What the commands share: the options they all have, and talking to the daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
import msgspec
import trio

from bin.control_client import Control, open_control
from bin.output import print_json
from bin.places import Places

__all__ = ["ask_daemon", "json_option", "peer_argument", "show", "with_daemon"]

R = TypeVar("R")
S = TypeVar("S", bound=msgspec.Struct)
F = TypeVar("F", bound=Callable[..., object])


def json_option(command: F) -> F:
    """Give a command `--json`; failures are then told as JSON, too."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_remember_json,
        help="Print JSON (with a schema version) instead of text.",
    )(command)


def _remember_json(
    context: click.Context, parameter: click.Parameter, value: bool
) -> bool:
    # Failures are printed by the group, which sees no options of its commands.
    context.meta["json"] = value or context.meta.get("json", False)
    return value


def peer_argument(command: F) -> F:
    """Give a command its peer."""
    return click.argument("peer")(command)


def with_daemon(places: Places, act: Callable[[Control], Awaitable[R]]) -> R:
    """Connect to the daemon and do something with it."""

    async def connected() -> R:
        async with open_control(places.control_socket) as control:
            return await act(control)

    return trio.run(connected)


def ask_daemon(
    places: Places, method: str, result: type[S], params: msgspec.Struct | None = None
) -> S:
    """Ask the daemon one thing."""

    async def ask(control: Control) -> S:
        return await control.ask(method, result, params)

    return with_daemon(places, ask)


def show(report: S, as_json: bool, for_people: Callable[[S], None]) -> None:
    """Print a report as its reader wants it."""
    if as_json:
        print_json(report)
    else:
        for_people(report)
