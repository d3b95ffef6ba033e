"""How long a call takes to ring, and from answering to the first sound.

    python -m benchmarks.call_setup [--seeds N]

Whole nodes on the virtual internet, every pair of hosts 80 ms of round trip apart, so
times are exact and given in round trips. The callee answers after ringing for 2 s, as a
person would, or at once, as a machine would; both begin to talk when they learn that
they are connected. Sound is tried each millisecond, so that is the resolution.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from overlay.call_state import CallState
from overlay.handles import CallHandle
from overlay.service import Node
from tests.scenarios.calling import Answering
from tests.scenarios.network import open_network
from tests.vnet import Internet
from tests.vnet.simulate import run_deterministically

RTT_S = 0.08
SUPERNODES = 12
LIMIT_S = 600


@dataclass
class Figures:
    """What was measured, in seconds."""

    ringing_by_home_s: list[float] = field(default_factory=list)
    ringing_referred_s: list[float] = field(default_factory=list)
    callee_hears_s: list[float] = field(default_factory=list)
    caller_hears_s: list[float] = field(default_factory=list)
    machine_hears_s: list[float] = field(default_factory=list)


async def talk(line: CallHandle) -> None:
    """Try to be heard, each millisecond."""
    await line.wait_for(CallState.CONNECTED)
    while line.state is CallState.CONNECTED:
        await line.channel.send(b"sound")
        await trio.sleep(0.001)


async def first_sound(line: CallHandle) -> float:
    """Wait for the first sound; gives the instant."""
    await line.channel.receive()
    return trio.current_time()


async def measure_call(
    caller: Node, callee: Node, name: str, answer_after_s: float, figures: Figures
) -> None:
    """Place one call and note its times."""
    answering = Answering(callee, answer=False)
    heard: dict[str, float] = {}

    async def note(who: str, line: CallHandle) -> None:
        heard[who] = await first_sound(line)

    async with trio.open_nursery() as nursery:
        await nursery.start(answering.serve)
        ours = await caller.place_call(name, relay_only=True)
        theirs = await answering.next_line()
        await trio.sleep(answer_after_s)
        answered_at = trio.current_time()
        theirs.answer()
        for line in (ours, theirs):
            nursery.start_soon(talk, line)
        async with trio.open_nursery() as listening:
            listening.start_soon(note, "caller", ours)
            listening.start_soon(note, "callee", theirs)
        nursery.cancel_scope.cancel()
    note_ringing(ours, figures)
    caller_s, callee_s = heard["caller"] - answered_at, heard["callee"] - answered_at
    if answer_after_s:
        figures.caller_hears_s.append(caller_s)
        figures.callee_hears_s.append(callee_s)
    else:
        figures.machine_hears_s.append(max(caller_s, callee_s))
    ours.hang_up()
    await theirs.wait_for(CallState.ENDED)
    await trio.sleep(10)


def note_ringing(line: CallHandle, figures: Figures) -> None:
    """Note the time to ringing under how the callee was found."""
    ringing_s = line.timeline["ringing"] - line.timeline["placed"]
    referred = line.steps[0].answer == "REFERRAL"
    into = figures.ringing_referred_s if referred else figures.ringing_by_home_s
    into.append(ringing_s)


async def measure(internet: Internet, figures: Figures) -> None:
    """Run one network and the calls in it."""
    names = [f"leaf{number}" for number in range(6)]
    async with open_network(internet, SUPERNODES, names) as network:
        caller = network[names[0]]
        for name in names[1:]:
            for answer_after_s in (2.0, 0.0):
                await measure_call(caller, network[name], name, answer_after_s, figures)


def show(label: str, values_s: list[float]) -> None:
    """Print a median and a worst case, in round trips."""
    if values_s:
        median, worst = statistics.median(values_s) / RTT_S, max(values_s) / RTT_S
        print(f"{label:52} {median:6.2f} {worst:6.2f} {len(values_s):5}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    figures = Figures()
    for seed in range(parser.parse_args().seeds):
        internet = Internet(seed)
        body: Callable[[], object] = partial(measure, internet, figures)
        run_deterministically(internet, body, LIMIT_S)  # type: ignore[arg-type]
    print(f"{'in round trips of 80 ms':52} {'median':>6} {'worst':>6} {'calls':>5}")
    show("call to ringing, the home owns the key", figures.ringing_by_home_s)
    show("call to ringing, the home refers to owners", figures.ringing_referred_s)
    show("answer (after 2 s) to sound at the caller", figures.caller_hears_s)
    show("answer (after 2 s) to sound at the callee", figures.callee_hears_s)
    show("answer (at once) to sound at both", figures.machine_hears_s)


if __name__ == "__main__":
    main()
