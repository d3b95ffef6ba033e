"""CPU of the media of one duplex call, as % of a core; beside it the codec's floor.

One process carries one side of a call in real time: it captures, encodes, sends,
receives, decodes and plays. The channel gives back its own packets, so as much comes in
as goes out. The floor is the codec alone: the same frames encoded and decoded in a
plain loop. Medians of rounds that take turns.

    python -m benchmarks.voice_cpu [--seconds 10] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Final

import trio

from media.device import open_microphone
from media.errors import EndOfAudio, Notice
from media.frame import FRAME_S, Pcm
from media.loopback import open_loopback
from media.opus import Decoder, Encoder, library_version
from media.ticks import Ticks
from media.tone import NullSpeaker
from media.voice import VoiceSettings

SPEECH: Final = Path(__file__).parents[1] / "bin/speech/sense-and-sensibility.wav"
SETTINGS: Final = VoiceSettings()


class RepeatingMicrophone:
    """Speaks the same frames over and over, in real time."""

    notices: tuple[Notice, ...] = ()

    def __init__(self, frames: list[Pcm]) -> None:
        self._frames = frames
        self._next = 0
        self._ticks: Ticks | None = None

    async def read(self) -> Pcm:
        """Wait for the next beat and give its frame."""
        self._ticks = self._ticks or Ticks()
        await self._ticks.wait()
        self._next += 1
        return self._frames[self._next % len(self._frames)]


async def read_speech() -> list[Pcm]:
    """Give the shipped clip as frames."""
    frames = []
    async with open_microphone(f"file:{SPEECH}") as microphone:
        try:
            while True:
                frames.append(await microphone.read())
        except EndOfAudio:
            return frames


async def measure_call(frames: list[Pcm], seconds: float) -> float:
    """Give the CPU of a running call, in % of a core."""
    async with open_loopback(RepeatingMicrophone(frames), NullSpeaker()) as voice:
        await trio.sleep(1.0)  # past loading and starting
        cpu_s, began_at = time.process_time(), time.perf_counter()
        await trio.sleep(seconds)
        cpu_s, elapsed_s = time.process_time() - cpu_s, time.perf_counter() - began_at
        counts = voice.statistics()
        assert counts.concealed == 0, counts
    return 100 * cpu_s / elapsed_s


def measure_codec(frames: list[Pcm], seconds: float) -> float:
    """Give what encoding and decoding take of 20 ms a frame, in %."""
    encoder = Encoder(
        bitrate_bps=SETTINGS.bitrate_bps,
        complexity=SETTINGS.complexity,
        fec=SETTINGS.fec,
        expected_loss_percent=SETTINGS.expected_loss_percent,
    )
    decoder = Decoder()
    count = int(seconds / FRAME_S)
    cpu_s = time.process_time()
    for index in range(count):
        decoder.decode(encoder.encode(frames[index % len(frames)]))
    return 100 * (time.process_time() - cpu_s) / (count * FRAME_S)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    frames = await read_speech()
    calls, codecs = [], []
    for _ in range(arguments.rounds):
        calls.append(await measure_call(frames, arguments.seconds))
        codecs.append(measure_codec(frames, arguments.seconds))
    call, codec = statistics.median(calls), statistics.median(codecs)
    print(f"{library_version().partition(' (')[0]}, {SETTINGS}")
    print(f"codec alone         {codec:5.2f} % of a core")
    print(
        f"one duplex call     {call:5.2f} % of a core, {call / codec:.2f} x the codec"
    )


if __name__ == "__main__":
    trio.run(main)
