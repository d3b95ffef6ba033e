"""The shipped clip of real speech, for tests that need more than a hum."""

from __future__ import annotations

import wave
from functools import cache
from pathlib import Path

import av
import numpy as np
from pesq import pesq

from media.frame import FRAME_SAMPLES, RATE_HZ, Pcm

__all__ = ["SPEECH", "opinion_of", "read_wav", "resample", "speech_frames"]

SPEECH = Path(__file__).parents[2] / "bin" / "speech" / "sense-and-sensibility.wav"
PESQ_RATE_HZ = 16_000


def read_wav(path: Path) -> tuple[Pcm, int]:
    """Give a mono file's samples and rate, read without any code of ours."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        samples = file.readframes(file.getnframes())
        return np.frombuffer(samples, np.int16), file.getframerate()


def resample(samples: Pcm, from_hz: int, to_hz: int) -> Pcm:
    """Change the rate, by FFmpeg."""
    resampler = av.AudioResampler("s16", "mono", to_hz)
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
    frame.sample_rate = from_hz
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces])


@cache
def speech_frames() -> tuple[Pcm, ...]:
    """Give the clip as frames."""
    samples = resample(*read_wav(SPEECH), RATE_HZ)
    whole = len(samples) // FRAME_SAMPLES * FRAME_SAMPLES
    return tuple(samples[:whole].reshape(-1, FRAME_SAMPLES))


def opinion_of(recording: Path) -> float:
    """Score a recording of the clip: wide-band PESQ (P.862.2), 1.0 to 4.6."""
    heard = resample(*read_wav(recording), PESQ_RATE_HZ)
    score: float = pesq(PESQ_RATE_HZ, read_wav(SPEECH)[0], heard, "wb")
    return score
