"""`@simulate`: run an async test on a virtual internet, once for each of many seeds.

    @simulate(seeds=range(20), limit_s=60)
    async def test_two_hosts_talk(internet: Internet) -> None: ...

makes a plain function for pytest, with the other arguments left as fixtures and
parameters (one value of them serves all seeds). Each run has a new `Internet` and a new
virtual clock, and is over after `limit_s` virtual seconds at the latest. One seed is
one run: the same schedule, the same randomness, the same trace, on every machine.

A failure carries the seed and the line that replays it alone:

    env KOE_SEED=7 pytest 'tests/vnet/test_host.py::test_two_hosts_talk'
"""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Concatenate, Final, ParamSpec

import trio
import trio._core._run as trio_run

from tests.vnet.internet import Internet

__all__ = ["SEED_VARIABLE", "run_deterministically", "simulate"]

SEED_VARIABLE: Final = "KOE_SEED"

WAITS_SHOWN_MAX: Final = 40
# More than that nobody reads.

P = ParamSpec("P")


def simulate(
    seeds: Iterable[int] = range(20), limit_s: float = 60.0
) -> Callable[[Callable[Concatenate[Internet, P], Awaitable[None]]], Callable[P, None]]:
    """Decorate an async test whose first argument is the `Internet` to run on."""

    def decorate(
        test: Callable[Concatenate[Internet, P], Awaitable[None]],
    ) -> Callable[P, None]:
        @functools.wraps(test)
        def test_every_seed(*args: P.args, **kwargs: P.kwargs) -> None:
            for seed in _seeds_asked_for(seeds):
                try:
                    internet = Internet(seed)
                    body = functools.partial(test, internet, *args, **kwargs)
                    run_deterministically(internet, body, limit_s)
                except BaseException as failure:
                    failure.add_note(f"seed {seed}; replay: {_replay(test, seed)}")
                    raise

        signature = inspect.signature(test)
        _, *others = signature.parameters.values()
        test_every_seed.__signature__ = signature.replace(  # type: ignore[attr-defined] # read by inspect, and so by pytest
            parameters=others
        )
        return test_every_seed

    return decorate


def run_deterministically(
    internet: Internet, body: Callable[[], Awaitable[None]], limit_s: float
) -> None:
    """Run `body` in the virtual time of `internet`, scheduled by its seed.

    Raises `trio.TooSlowError` after `limit_s` virtual seconds, and what an observer of
    the internet asserted.
    """

    clock = internet.run.clock
    waits: list[str] = []

    async def main() -> None:
        clock.plan(limit_s, lambda: waits.extend(_where_tasks_wait()))
        try:
            with trio.fail_after(limit_s), internet.run.ended_by_observers():
                await body()
        except trio.TooSlowError as failure:
            if clock.spun_at_s is not None:
                failure.add_note(f"tasks spin: time stood still at {clock.spun_at_s} s")
            if waits:
                failure.add_note("\n".join([f"at {limit_s} s tasks wait:", *waits]))
            raise

    with _deterministic_scheduling(internet.run.seed):
        trio.run(main, clock=clock)


@contextmanager
def _deterministic_scheduling(seed: int) -> Iterator[None]:
    """Make trio's choice between runnable tasks a function of the seed.

    This is the only place that touches trio's private parts.
    """
    allowed = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    state = trio_run._r.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc] # as hypothesis does
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = allowed  # type: ignore[misc]
        trio_run._r.setstate(state)


def _where_tasks_wait() -> list[str]:
    """Give, for every task outside trio, its name and where it waits."""
    root = trio.lowlevel.current_root_task()
    waits, tasks = [], [root] if root else []
    while tasks:
        task = tasks.pop()
        for nursery in task.child_nurseries:
            tasks.extend(nursery.child_tasks)
        places = [
            f"{frame.f_code.co_filename}:{line}"
            for frame, line in task.iter_await_frames()
            if not frame.f_globals.get("__name__", "").startswith("trio.")
        ]
        if places:
            waits.append(f"  {task.name} at {places[-1]}")
    return sorted(waits)[:WAITS_SHOWN_MAX]


def _seeds_asked_for(seeds: Iterable[int]) -> Iterable[int]:
    replayed = os.environ.get(SEED_VARIABLE)
    return [int(replayed)] if replayed else seeds


def _replay(test: Callable[..., object], seed: int) -> str:
    node = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    name = node or f"{test.__module__}::{test.__qualname__}"
    return f"env {SEED_VARIABLE}={seed} pytest {shlex.quote(name)}"
