"""The short form of the fuzz run, with other inputs than the long one."""

from __future__ import annotations

import pytest

from nat.errors import WireError
from tests.fuzz.decoders import DECODERS, Decoder
from tests.fuzz.run import TARGETS, Fell, fuzz, run_round

SEED = 20_240
INPUTS = {"leaf": 1_000, "supernode": 1_000}


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_its_own_refusal_leaves_a_target(target: str) -> None:
    (figures,) = fuzz(INPUTS.get(target, 3_000), SEED, (target,))
    assert figures.refused > 0


def test_samples_are_what_decoders_accept() -> None:
    """Or else mutations of them would never get far."""
    never = {"record_payloads", "handshake", "noise_initiator"}  # made for other keys
    for name, decoder in DECODERS.items():
        if name not in never:
            taken = [
                any(decoder._takes(function, sample) for function in decoder.functions)
                for sample in decoder.samples
            ]
            assert sum(taken) >= len(taken) / 2, name


def test_a_failure_names_the_line_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(data: bytes) -> object:
        if len(data) > 1_000:
            raise IndexError(len(data))
        raise WireError("no")

    monkeypatch.setitem(TARGETS, "broken", Decoder((fails,), (b"x",)).run)
    with pytest.raises(Fell, match="--target broken --seed 3 --round 0"):
        run_round("broken", 3, 0, 5_000)
