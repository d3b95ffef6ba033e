"""A call with oneself: microphone to speaker through everything but a network.

Encoder, packets, jitter buffer and decoder are the ones of a real call, so what is
heard and measured here is what the devices and this machine can do. A service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from media.device import Microphone, Speaker
from media.voice import Voice, VoiceSettings, VoiceStatistics, open_voice

__all__ = ["open_loopback", "run_loopback"]

DATAGRAMS_MAX: Final = 64
# 1 s of voice; the receiving task empties it 50 times a second.


class _Loop(trio.abc.Channel[bytes]):
    """A channel whose two ends are one."""

    def __init__(self) -> None:
        self._into, self._out_of = trio.open_memory_channel[bytes](DATAGRAMS_MAX)

    async def send(self, value: bytes) -> None:
        await self._into.send(value)

    async def receive(self) -> bytes:
        return await self._out_of.receive()

    async def aclose(self) -> None:
        self._into.close()
        self._out_of.close()


@asynccontextmanager
async def open_loopback(
    microphone: Microphone, speaker: Speaker, settings: VoiceSettings | None = None
) -> AsyncIterator[Voice]:
    """Play what the microphone hears until the context is left."""
    async with (
        _Loop() as channel,
        open_voice(channel, microphone, speaker, settings) as voice,
    ):
        yield voice


async def run_loopback(
    microphone: Microphone, speaker: Speaker, settings: VoiceSettings | None = None
) -> VoiceStatistics:
    """Play the microphone's file to its end and give what was measured.

    A microphone without an end plays until cancelled; use `open_loopback` for that.
    """
    async with open_loopback(microphone, speaker, settings) as voice:
        await voice.wait_played_out()
        return voice.statistics()
