"""Rounds of inputs for each target, each round repeatable by itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final, Protocol

from tests.fuzz.decoders import DECODERS
from tests.fuzz.nodes import ROUND_INPUTS, fuzz_node

__all__ = ["TARGETS", "Fell", "Figures", "fuzz", "run_round"]

DECODER_ROUND_INPUTS: Final = 5_000
NODES: Final = ("leaf", "supernode")
NODE_SHARE: Final = 0.3
# Of the inputs, if all targets are asked for: they are slow, and worth most.


class Target(Protocol):
    """Takes so many inputs, drawn from `random`; gives how many it refused."""

    def __call__(self, random: Random, *, inputs: int) -> int: ...


TARGETS: Final[Mapping[str, Target]] = {
    **{name: decoder.run for name, decoder in DECODERS.items()},
    **{name: partial(fuzz_node, victim=name) for name in NODES},
}


class Fell(Exception):
    """A target did what it must not; the text says how to see it again."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of a target's inputs."""

    target: str
    inputs: int
    refused: int
    seconds: float


def fuzz(inputs: int, seed: int, targets: tuple[str, ...]) -> Iterator[Figures]:
    """Fuzz targets, so many inputs altogether. Raises `Fell`."""
    nodes = [name for name in targets if name in NODES]
    decoders = [name for name in targets if name not in NODES]
    share = NODE_SHARE if nodes and decoders else float(bool(nodes))
    for name in targets:
        among, part = (nodes, share) if name in nodes else (decoders, 1 - share)
        yield _fuzz_target(name, seed, math.ceil(inputs * part / len(among)))


def run_round(target: str, seed: int, number: int, inputs: int) -> int:
    """Run one round; gives how many inputs were refused. Raises `Fell`."""
    try:
        return TARGETS[target](Random(f"{seed} {target} {number}"), inputs=inputs)
    except Exception as error:
        replay = f"python -m tests.fuzz --target {target} --seed {seed}"
        raise Fell(
            f"{target} fell to seed {seed}: {type(error).__name__}: {error}\n"
            f"replay: {replay} --round {number}"
        ) from error


def _fuzz_target(target: str, seed: int, inputs: int) -> Figures:
    began, refused, left, number = time.perf_counter(), 0, inputs, 0
    round_inputs = ROUND_INPUTS if target in NODES else DECODER_ROUND_INPUTS
    while left > 0:
        some = min(left, round_inputs)
        refused += run_round(target, seed, number, some)
        left -= some
        number += 1
    return Figures(target, inputs, refused, time.perf_counter() - began)
