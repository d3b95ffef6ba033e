"""Stand-ins for what is slow or random: a codec, devices, a bad network.

`tests/media/test_fakes.py` tests them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import trio

from media.errors import EndOfAudio, Notice, WireError
from media.frame import FRAME_SAMPLES, Pcm
from media.ticks import Ticks

LOUD = 1_000


def numbered(number: int) -> Pcm:
    """A loud frame that can be recognised."""
    return np.full(FRAME_SAMPLES, LOUD + number, np.int16)


class PlainCodec:
    """Encodes `numbered` frames as their number; repeats the one before, like FEC.

    A packet that is not two numbers is refused; what is made up is loud and -1.
    """

    def encode(self, frame: Pcm) -> bytes:
        number = int(frame[-1]) - LOUD
        return number.to_bytes(2, "big") + (number - 1).to_bytes(2, "big", signed=True)

    def decode(self, packet: bytes) -> Pcm:
        if len(packet) != 4:
            raise WireError("not two numbers")
        return numbered(int.from_bytes(packet[:2], "big"))

    def decode_fec(self, next_packet: bytes) -> Pcm:
        if len(next_packet) != 4:
            raise WireError("not two numbers")
        return numbered(int.from_bytes(next_packet[2:], "big", signed=True))

    def conceal(self) -> Pcm:
        return numbered(-1)

    def has_lbrr(self, packet: bytes) -> bool:
        return packet[2:3] != b"\xff"


class ListMicrophone:
    """Gives the frames of a list in real time, then ends (or fails, if told so)."""

    notices: Sequence[Notice] = ()

    def __init__(self, frames: Sequence[Pcm], end: Exception | None = None) -> None:
        self._frames = list(frames)
        self._end = end or EndOfAudio()
        self._ticks: Ticks | None = None

    async def read(self) -> Pcm:
        self._ticks = self._ticks or Ticks()
        await self._ticks.wait()
        if not self._frames:
            raise self._end
        return self._frames.pop(0)


class ListSpeaker:
    """Keeps what it was given (or fails, if told so)."""

    notices: Sequence[Notice] = ()

    def __init__(self, failure: Exception | None = None) -> None:
        self.frames: list[Pcm] = []
        self._failure = failure

    def write(self, frame: Pcm) -> None:
        if self._failure is not None:
            raise self._failure
        self.frames.append(frame)


class LossyEnd(trio.abc.Channel[bytes]):
    """One end of a channel that delays, loses and repeats datagrams, by a seed."""

    def __init__(
        self,
        incoming: trio.MemoryReceiveChannel[tuple[float, bytes]],
        outgoing: trio.MemorySendChannel[tuple[float, bytes]],
        delay_s: Callable[[], float],
        copies: Callable[[], int],
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._delay_s = delay_s
        self._copies = copies
        self.sent: list[bytes] = []

    async def send(self, value: bytes) -> None:
        self.sent.append(value)
        for _ in range(self._copies()):
            arrives_at = trio.current_time() + self._delay_s()
            await self._outgoing.send((arrives_at, value))

    async def receive(self) -> bytes:
        arrives_at, datagram = await self._incoming.receive()
        await trio.sleep_until(arrives_at)
        return datagram

    async def aclose(self) -> None:
        self._incoming.close()
        self._outgoing.close()


def lossy_pair(
    *,
    seed: int = 0,
    delay_s: float = 0.0,
    jitter_s: float = 0.0,
    loss: float = 0.0,
    duplication: float = 0.0,
) -> tuple[LossyEnd, LossyEnd]:
    """Two ends of a bad network, the same both ways. It keeps the order."""
    chance = random.Random(seed)

    def delay() -> float:
        return delay_s + chance.uniform(0, jitter_s)

    def copies() -> int:
        if chance.random() < loss:
            return 0
        return 2 if chance.random() < duplication else 1

    a_out, b_in = trio.open_memory_channel[tuple[float, bytes]](1_000)
    b_out, a_in = trio.open_memory_channel[tuple[float, bytes]](1_000)
    return LossyEnd(a_in, a_out, delay, copies), LossyEnd(b_in, b_out, delay, copies)
