"""Noise handshakes a second, each side by itself, beside `noiseprotocol`.

    python -m benchmarks.handshakes

A side's time is all that it does for one handshake: making its state with its static
key, writing, reading and splitting; IK is what sessions use. `noiseprotocol` loads its
static key for every handshake, as its interface wants it.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from noise.connection import Keypair, NoiseConnection

from benchmarks.rounds import run_rounds
from overlay.noise import Handshake, KeyPair, Pattern

HANDSHAKES_PER_ROUND = 20
PROLOGUE = b"koe/1" + bytes(8)
PAYLOAD = bytes(20)
STATICS = [os.urandom(32), os.urandom(32)]
KEY_PAIRS = [KeyPair(static) for static in STATICS]


class Side(Protocol):
    """What both implementations have in common."""

    def write_message(self, payload: bytes) -> bytes:
        """Give the next message."""
        ...

    def read_message(self, message: bytes) -> bytes:
        """Give the payload of the next message."""
        ...


def open_koe(pattern: Pattern, *, initiator: bool) -> Handshake:
    """Make one side of ours."""
    anonymous = initiator and pattern is Pattern.NK
    knowing = initiator and pattern is not Pattern.XX
    return Handshake(
        pattern,
        initiator=initiator,
        prologue=PROLOGUE,
        ephemeral=os.urandom(32),
        static=None if anonymous else KEY_PAIRS[not initiator],
        remote_static=KEY_PAIRS[1].public if knowing else None,
    )


def open_noiseprotocol(pattern: Pattern, *, initiator: bool) -> NoiseConnection:
    """Make one side of theirs."""
    name = f"Noise_{pattern.name}_25519_ChaChaPoly_BLAKE2s"
    side = NoiseConnection.from_name(name.encode())
    side.set_prologue(PROLOGUE)
    if initiator:
        side.set_as_initiator()
    else:
        side.set_as_responder()
    if not (initiator and pattern is Pattern.NK):
        side.set_keypair_from_private_bytes(Keypair.STATIC, STATICS[not initiator])
    if initiator and pattern is not Pattern.XX:
        side.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, KEY_PAIRS[1].public)
    side.start_handshake()
    return side


class Stopwatch:
    """The CPU seconds each side has spent."""

    def __init__(self) -> None:
        self.spent = {"initiator": 0.0, "responder": 0.0}

    @contextmanager
    def running(self, side: str) -> Iterator[None]:
        """Count what is done inside for this side."""
        started = time.process_time()
        yield
        self.spent[side] += time.process_time() - started


def shake_hands(
    open_side: Callable[[bool], Side], messages: int, watch: Stopwatch
) -> dict[str, Side]:
    """Do one handshake, and give its two sides."""
    sides = {}
    for name in watch.spent:
        with watch.running(name):
            sides[name] = open_side(name == "initiator")
    writer, reader = "initiator", "responder"
    for _ in range(messages):
        with watch.running(writer):
            message = sides[writer].write_message(PAYLOAD)
        with watch.running(reader):
            sides[reader].read_message(bytes(message))
        writer, reader = reader, writer
    return sides


def measure(pattern: Pattern) -> Mapping[str, float]:
    """Do one round of one pattern."""
    messages = 3 if pattern is Pattern.XX else 2
    ours, theirs = Stopwatch(), Stopwatch()
    for _ in range(HANDSHAKES_PER_ROUND):
        sides = shake_hands(
            lambda initiator: open_koe(pattern, initiator=initiator), messages, ours
        )
        for name, side in sides.items():
            assert isinstance(side, Handshake)
            with ours.running(name):
                side.split()
        shake_hands(
            lambda initiator: open_noiseprotocol(pattern, initiator=initiator),
            messages,
            theirs,
        )
    return {
        f"{who} {side}": spent / HANDSHAKES_PER_ROUND
        for who, watch in (("koe", ours), ("noiseprotocol", theirs))
        for side, spent in watch.spent.items()
    }


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")  # noiseprotocol calls what is deprecated
    print("pattern  side        Koe/s   noiseprotocol/s   times as fast")
    for pattern in Pattern:
        rounds = run_rounds(partial(measure, pattern))
        for side in ("initiator", "responder"):
            ours, theirs = f"koe {side}", f"noiseprotocol {side}"
            print(
                f"{pattern.name:7}  {side:9}  {rounds.per_second(ours):6.0f}"
                f"  {rounds.per_second(theirs):16.0f}"
                f"  {rounds.speed_of(ours, theirs):14.2f}"
            )


if __name__ == "__main__":
    main()
