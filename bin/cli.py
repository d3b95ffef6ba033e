"""The command line, `koe`: one group of commands, each loaded when it is called.

A command is a client of the daemon's control socket, but for those that are or start
daemons themselves (`daemon`, `mesh`, `demo`) and those that need none (`devices`,
`loopback`, most of `contacts`). Every failure is told with its code, and never by a
traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from bin.crash import tell
from bin.errors import Exit
from bin.output import print_problem, wants_color
from bin.places import Places
from bin.version import VERSION

__all__ = ["koe", "main"]

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "daemon": "daemon",
        "status": "node",
        "wait": "node",
        "whoami": "node",
        "lookup": "peers",
        "contacts": "contacts",
        "ping": "peers",
        "call": "call",
        "answer": "call",
        "reject": "calls",
        "hangup": "calls",
        "mute": "calls",
        "calls": "calls",
        "stats": "calls",
        "devices": "sound",
        "loopback": "sound",
        "supernodes": "node",
        "mesh": "mesh",
        "demo": "demo",
    }
)
# Command to the module of `bin.commands` that has it, in the order of `koe --help`.


class _Commands(click.Group):
    """Loads a command when it is needed, and tells its failure."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a command by name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"bin.commands.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command and end with the exit status of what went wrong."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Our reader had enough. What Python would flush has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(Exit.FAILED)
        except KeyboardInterrupt:
            ctx.exit(Exit.INTERRUPTED)
        except (Exception, BaseExceptionGroup) as error:
            if _is_interrupt(error):
                ctx.exit(Exit.INTERRUPTED)
            places = ctx.obj or Places.of(os.environ)
            problem = tell(places.crash_log, error)
            print_problem(problem, as_json=bool(ctx.meta.get("json")))
            ctx.exit(problem.exit)


def _is_interrupt(error: BaseException) -> bool:
    return (
        isinstance(error, BaseExceptionGroup)
        and error.subgroup(KeyboardInterrupt) is not None
    )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep identity, settings and socket under DIR (or set KOE_HOME).",
)
@click.version_option(VERSION, prog_name="koe")
@click.pass_context
def koe(context: click.Context, home: Path | None) -> None:
    """Call people, peer to peer and end-to-end encrypted."""
    context.obj = Places.of(os.environ, home)
    context.color = wants_color()


def main() -> None:
    """Run the program; ends the process."""
    koe.main(prog_name="koe")


if __name__ == "__main__":
    main()
