"""Whether the two ends of a call may know each other's addresses, and what follows.

Only contacts of each other, only after accepting, and not if either wants to stay
relayed. Trying an address shows ours to whoever is there, so that is bound by the same
rule; and the other end names whom we probe, so it is counted. Sans-IO.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from nat.candidate import Candidate
from nat.errors import WireError

__all__ = ["Disclosure"]

PUNCHES_MAX: Final = 4
# In one call: the other end names whom we probe, and may change its network meanwhile.


class Disclosure:
    """One call's addresses; `own()` gives our candidates as they are now."""

    def __init__(
        self, own: Callable[[], Sequence[Candidate]], *, allowed: bool
    ) -> None:
        self.allowed = allowed
        self._own = own
        self._punches_left = PUNCHES_MAX

    def ours(self) -> tuple[str, ...]:
        """Give what the other end may be told: nothing, or our candidates."""
        if not self.allowed:
            return ()
        return tuple(candidate.format() for candidate in self._own())

    def to_try(self, theirs: Sequence[str]) -> list[Candidate]:
        """Give which of the other end's candidates may be tried; counts each time."""
        if not self.allowed or not theirs or not self._punches_left:
            return []
        self._punches_left -= 1
        readable = []
        for text in theirs:
            with contextlib.suppress(WireError):
                readable.append(Candidate.parse(text))
        return readable
