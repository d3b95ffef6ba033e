"""The unit of sound everywhere in Koe: one frame = 20 ms = 960 samples, 48 kHz mono."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "FRAME_S",
    "FRAME_SAMPLES",
    "RATE_HZ",
    "Pcm",
    "silence",
]

RATE_HZ: Final = 48_000
FRAME_S: Final = 0.02
FRAME_SAMPLES: Final = 960

Pcm: TypeAlias = npt.NDArray[np.int16]
"""Samples of 48 kHz mono; where a frame is meant, exactly 960 of them."""


def silence() -> Pcm:
    """Give a frame of nothing, for the caller to keep and change."""
    return np.zeros(FRAME_SAMPLES, np.int16)
