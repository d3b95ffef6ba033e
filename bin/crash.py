"""Where the details of what should never happen go: a file, never the terminal."""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path
from typing import Final

from bin.errors import CATALOGUE, UNEXPECTED, Problem, is_told, problem_of

__all__ = ["tell"]

CRASH_LOG_BYTES_MAX: Final = 1_000_000
# Then it starts anew: the last crash is worth more than the first thousand.


def tell(file: Path, error: BaseException) -> Problem:
    """Tell any failure; one that is unexpected is logged, and told with where.

    What a daemon found unexpected it has logged itself.
    """
    problem = problem_of(error)
    if problem.code != UNEXPECTED or is_told(error):
        return problem
    _log(file, error)
    entry = CATALOGUE[UNEXPECTED]
    cause = f"{type(error).__name__}; the details are in {file}"
    return Problem(UNEXPECTED, entry.title, cause, entry.next_step)


def _log(file: Path, error: BaseException) -> None:
    """Append the traceback; where that fails, too, it is lost."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size > CRASH_LOG_BYTES_MAX:
            file.unlink()
        descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write(time.strftime("-- %Y-%m-%d %H:%M:%S %z\n"))
            stream.writelines(traceback.format_exception(error))
    except OSError:
        return
