"""Which path of a call carries its media: pure rules over measured paths.

    cost = round trip + 0.5 s x loss, where one lost check of the last 20 is forgiven

- Nothing chosen, or what was chosen is lost: the cheapest path that answers, else the
  oldest one, at once.
- Chosen without any answer so far (a call starts on the first relay it has): the first
  path that answers.
- A direct path needs no relay: it replaces one unless it costs over 10 ms more, and is
  left for one only if that is 10 ms better on top of it.
- Otherwise a change must be worth it: 10 ms and a third better, both paths measured by
  3 answers.

The two ends of a call choose on their own; nothing has to agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from nat.path import MEASURED_ANSWERS, Path, PathState

__all__ = ["best", "explain", "prefer"]

LOSS_PENALTY_S: Final = 0.5
# One lost packet in 20 is as bad as 25 ms; concealment hides less than 3 %.
LOST_FORGIVEN: Final = 1
# A single lost check proves nothing.
DIRECT_BONUS_S: Final = 0.010
# Less than anybody hears; relays are scarce. 1 in 10 punched paths is slower than it.
BETTER_S: Final = 0.010
BETTER_SHARE: Final = 1 / 3
# As for the choice of a home: both, or a change is not worth its risk.


def prefer(chosen: Path | None, paths: Sequence[Path]) -> tuple[Path, str] | None:
    """Give the path to change to, and why; None to leave things as they are."""
    if chosen is None or not chosen.alive:
        path = best(each for each in paths if each.alive)
        if path is None:
            return None
        return path, "the first path" if chosen is None else "the last one was lost"
    if chosen.state is PathState.NEW:
        path = best(each for each in paths if each.state is PathState.UP)
        return None if path is None else (path, "the first to answer")
    better = [each for each in paths if _beats(each, chosen)]
    path = best(better)
    if path is None:
        return None
    if path.direct and not chosen.direct:
        return path, f"{_ms(path)} ms, {_ms(chosen)} ms by the relay"
    return path, f"better: {_ms(path)} ms instead of {_ms(chosen)} ms"


def best(paths: Iterable[Path]) -> Path | None:
    """Give the cheapest path of those that answer, else the oldest one that may."""
    return min(paths, key=_rank, default=None)


def explain(path: Path, chosen: Path | None) -> str:
    """Say in a few words why a path is not the chosen one."""
    if chosen is None or path.state is not PathState.UP:
        return path.state.value
    difference_ms = round(1_000 * (cost_s(path) - cost_s(chosen)))
    if difference_ms > 0:
        return f"{difference_ms} ms worse"
    return f"{-difference_ms} ms better, which is not worth a change"


def cost_s(path: Path) -> float:
    """Give the round trip with what its losses are worth; infinite if not measured."""
    if path.rtt_s is None:
        return math.inf
    return path.rtt_s + LOSS_PENALTY_S * path.loss_beyond(LOST_FORGIVEN)


def _rank(path: Path) -> tuple[bool, bool, float]:
    bonus_s = DIRECT_BONUS_S if path.direct else 0.0
    cost = cost_s(path) - bonus_s
    return path.state is not PathState.UP, path.state is PathState.NEW, cost


def _beats(challenger: Path, chosen: Path) -> bool:
    if challenger is chosen or challenger.state is not PathState.UP:
        return False
    gain_s = cost_s(chosen) - cost_s(challenger)
    if challenger.direct and not chosen.direct:
        return gain_s >= -DIRECT_BONUS_S
    if chosen.direct and not challenger.direct:
        gain_s -= DIRECT_BONUS_S
    measured = min(challenger.answers, chosen.answers) >= MEASURED_ANSWERS
    return measured and gain_s >= BETTER_S and gain_s >= BETTER_SHARE * cost_s(chosen)


def _ms(path: Path) -> int:
    return round(1_000 * (path.rtt_s or 0.0))
