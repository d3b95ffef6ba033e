"""Everything that can go wrong for a user of the programs, and how it is told.

Each failure has a stable code (`K201`), a title, its own cause, and a next step. The
hundreds tell the part: 1xx audio, 2xx network, 3xx NAT, 4xx relay, 5xx index, 6xx
peer, 7xx gateway, 8xx this machine. Packages below carry theirs on their exception
classes; `CATALOGUE` adds those that only the programs know. `problem_of` turns any
exception into a `Problem`, `docs/exit-codes.md` lists them all, and no code is ever
reused.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

import msgspec

__all__ = [
    "CATALOGUE",
    "UNEXPECTED",
    "Entry",
    "Exit",
    "Problem",
    "ProgramError",
    "exit_of",
    "is_told",
    "problem_of",
]


class Exit(enum.IntEnum):
    """How a command ends, as its exit status."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    NOT_FOUND = 4
    NOT_ANSWERED = 5
    NETWORK = 6
    AUDIO = 7
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """What is the same for every failure with one code."""

    title: str
    next_step: str


UNEXPECTED: Final = "899"

CATALOGUE: Final[Mapping[str, Entry]] = MappingProxyType(
    {
        "201": Entry(
            "The port is taken",
            "Choose another with --bind HOST:PORT (port 0: any free one), or stop the "
            "program that has it.",
        ),
        "203": Entry(
            "The address is not of this machine",
            "Use --bind 0.0.0.0:PORT for all addresses, or one of `ip address`.",
        ),
        "204": Entry(
            "No network",
            "Connect this machine to a network; the daemon goes on by itself.",
        ),
        "205": Entry(
            "The port needs more rights",
            "Use --bind with a port of 1024 or above.",
        ),
        "206": Entry(
            "Nothing happened in time",
            "Wait longer; `koe status` shows how this node is connected.",
        ),
        "401": Entry(
            "No relay and no direct path came up",
            "Try again in some seconds; `koe status` shows the homes that relay.",
        ),
        "604": Entry("They refused the call", "Ask them when it suits."),
        "605": Entry("They are in another call", "Try again later."),
        "606": Entry("No answer", "Try again later."),
        "607": Entry(
            "The connection was lost",
            "Call again; `koe status` shows whether this node is connected.",
        ),
        "608": Entry("The call was cancelled", "Call again."),
        "611": Entry("The daemon of the call was stopped", "Start it and call again."),
        "612": Entry("No call to do this with", "`koe calls` lists the calls."),
        "801": Entry("The daemon is not running", "Start it with `koe daemon`."),
        "802": Entry(
            "A daemon is already running here",
            "Use it as it is, stop it first, or give this one its own --home DIR.",
        ),
        "803": Entry(
            "The identity file is open to others",
            "Make it private with `chmod 600`; if others may have read it, delete it "
            "and start anew with a new identity.",
        ),
        "804": Entry(
            "The identity file cannot be read",
            "Restore it from a copy, or move it away to become somebody new.",
        ),
        "805": Entry("Not a usable value", "See `koe COMMAND --help`."),
        "806": Entry(
            "The daemon was not understood",
            "Restart the daemon, so that both are of one version (`koe --version`).",
        ),
        "807": Entry("No mesh is running", "Start one with `koe mesh up`."),
        "808": Entry(
            "A mesh is already running", "Use it, or end it with `koe mesh down`."
        ),
        "809": Entry(
            "The mesh did not come up",
            "Read the log named above, then `koe mesh down`.",
        ),
        "810": Entry(
            "The contacts file cannot be read",
            "Repair it, or move it away to start with no contacts.",
        ),
        "811": Entry(
            "This machine refused",
            "Check that the path exists, that you may use it, and that there is space.",
        ),
        "812": Entry("No such contact", "`koe contacts list` shows them."),
        "813": Entry(
            "The contact is known under another identity",
            "If you are sure of the new one: `koe contacts remove NAME`, then add it.",
        ),
        "814": Entry(
            "The daemon is busy",
            "Wait for other commands to end, or close programs that are connected.",
        ),
        "815": Entry("No such node in the mesh", "`koe mesh status` lists its nodes."),
        UNEXPECTED: Entry(
            "Something unexpected happened inside koe",
            "The details are in the log named above; please report them.",
        ),
    }
)

_EXITS: Final[Mapping[str, Exit]] = MappingProxyType(
    {
        "501": Exit.USAGE,
        "502": Exit.NOT_FOUND,
        "503": Exit.NOT_FOUND,
        "504": Exit.NOT_FOUND,
        "601": Exit.NOT_FOUND,
        "602": Exit.NETWORK,
        "604": Exit.NOT_ANSWERED,
        "605": Exit.NOT_ANSWERED,
        "606": Exit.NOT_ANSWERED,
        "607": Exit.NETWORK,
        "609": Exit.NOT_FOUND,
        "612": Exit.NOT_FOUND,
        "801": Exit.NO_DAEMON,
        "805": Exit.USAGE,
        "807": Exit.NO_DAEMON,
        "812": Exit.NOT_FOUND,
        "815": Exit.NOT_FOUND,
    }
)
# Codes that end otherwise than their hundreds do.

_EXITS_BY_HUNDRED: Final[Mapping[str, Exit]] = MappingProxyType(
    {"1": Exit.AUDIO, "2": Exit.NETWORK, "3": Exit.NETWORK, "4": Exit.NETWORK}
    | {"5": Exit.NETWORK}
)

_CODES_BY_ERRNO: Final[Mapping[int, str]] = MappingProxyType(
    {
        errno.EADDRINUSE: "201",
        errno.EADDRNOTAVAIL: "203",
        errno.ENETUNREACH: "204",
        errno.ENETDOWN: "204",
        errno.EHOSTUNREACH: "204",
    }
)


def exit_of(code: str) -> Exit:
    """Give the exit status of a command that failed with this code (no `K`)."""
    return _EXITS.get(code) or _EXITS_BY_HUNDRED.get(code[:1], Exit.FAILED)


class Problem(msgspec.Struct, frozen=True):
    """One failure as a user is told of it. `code` has no `K`: `201`."""

    code: str
    title: str
    cause: str
    next_step: str

    @property
    def exit(self) -> Exit:
        """How a command that met this ends."""
        return exit_of(self.code)


class ProgramError(Exception):
    """A failure that is ready to be told. Lives until the edge of the program."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.cause)
        self.problem: Final = problem

    @classmethod
    def of(cls, code: str, cause: str) -> ProgramError:
        """Make one of a code in the `CATALOGUE`."""
        entry = CATALOGUE[code]
        return cls(Problem(code, entry.title, cause, entry.next_step))


@runtime_checkable
class _Explained(Protocol):
    """An exception of a package below, which carries its own explanation."""

    code: str
    title: str
    next_step: str


def problem_of(error: BaseException) -> Problem:
    """Tell any exception as a `Problem`.

    Of a group it is the most telling member: one that explains itself before an
    `OSError` before anything else.
    """
    found = sorted((_told(leaf) for leaf in _leaves(error)), key=_vagueness)
    return found[0]


def is_told(error: BaseException) -> bool:
    """Whether a failure, or a member of a group, is a `Problem` already."""
    return any(isinstance(leaf, ProgramError) for leaf in _leaves(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for member in error.exceptions:
        yield from _leaves(member)


def _vagueness(problem: Problem) -> int:
    return {UNEXPECTED: 2, "811": 1}.get(problem.code, 0)


def _told(error: BaseException) -> Problem:
    match error:
        case ProgramError():
            return error.problem
        case _Explained():
            return Problem(error.code, error.title, _cause(error), error.next_step)
        case OSError():
            code = _CODES_BY_ERRNO.get(error.errno or 0, "811")
        case _:
            code = UNEXPECTED
    entry = CATALOGUE[code]
    return Problem(code, entry.title, _cause(error), entry.next_step)


def _cause(error: BaseException) -> str:
    match error:
        case OSError(strerror=str(reason), filename=filename) if filename is not None:
            return f"{filename}: {reason}"
        case OSError(strerror=str(reason)):
            return reason
        case _Explained():
            # Those of media say their title in their text, and the cause apart.
            return str(getattr(error, "cause", error)) or error.title
        case _:
            return f"{type(error).__name__}: {error}"
