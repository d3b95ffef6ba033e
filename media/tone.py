"""Devices made of nothing but time: a tone, silence, and a speaker nobody hears."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from media.errors import Notice
from media.frame import FRAME_SAMPLES, RATE_HZ, Pcm, silence
from media.ticks import Ticks

__all__ = ["NullMicrophone", "NullSpeaker", "ToneMicrophone"]

AMPLITUDE: Final = 8_192
# -12 dBFS: clearly heard, and nobody jumps.


class ToneMicrophone:
    """A steady sine, from the first `read` on."""

    notices: Sequence[Notice] = ()

    def __init__(self, frequency_hz: float) -> None:
        self._step = 2 * math.pi * frequency_hz / RATE_HZ
        self._phase = 0.0
        self._ticks: Ticks | None = None

    async def read(self) -> Pcm:
        """Wait for the next beat; no part of the tone is lost if cancelled."""
        self._ticks = self._ticks or Ticks()
        await self._ticks.wait()
        phases = self._phase + self._step * np.arange(FRAME_SAMPLES)
        self._phase = (self._phase + self._step * FRAME_SAMPLES) % (2 * math.pi)
        frame: Pcm = (AMPLITUDE * np.sin(phases)).astype(np.int16)
        return frame


class NullMicrophone:
    """Silence, from the first `read` on."""

    notices: Sequence[Notice] = ()

    def __init__(self) -> None:
        self._ticks: Ticks | None = None

    async def read(self) -> Pcm:
        """Wait for the next beat."""
        self._ticks = self._ticks or Ticks()
        await self._ticks.wait()
        return silence()


class NullSpeaker:
    """Nobody listens."""

    notices: Sequence[Notice] = ()

    def write(self, frame: Pcm) -> None:
        """Throw the frame away."""
