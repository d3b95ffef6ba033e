"""The voice of one call: devices at one end, the call's channel at the other.

This is where `media` and `overlay` meet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import trio

from bin.errors import Problem, ProgramError, problem_of
from bin.node import Line
from bin.reports import AudioReport
from bin.sound import Devices, describe_audio
from overlay.call_state import CallState

if TYPE_CHECKING:
    from media.voice import Voice

__all__ = ["Talk"]

PLAYED_OUT_PATIENCE_S: Final = 3.0
# Three of the other side's reports; without any, it is not there to listen.


class Talk:
    """What this daemon knows of a call besides its line: its voice, and its trouble.

    `peer` is what the other side is called here: a name, or else the id.
    """

    def __init__(self, line: Line, peer: str) -> None:
        self.line: Final = line
        self.peer: Final = peer
        self.problem: Problem | None = None
        self.devices: Devices | None = None
        self._muted = False
        self._voice: Voice | None = None
        self._last: AudioReport | None = None
        self._silent = trio.Event()
        self._silent.set()

    def mute(self, muted: bool) -> None:
        """Send silence instead of the microphone, or the microphone again."""
        self._muted = muted
        if self._voice is not None:
            self._voice.muted = muted

    async def wait_silent(self) -> None:
        """Wait until no device is used any more, and every recording is complete."""
        await self._silent.wait()

    @contextlib.contextmanager
    def speaking(self) -> Iterator[None]:
        """Mark the time in which devices are open; `wait_silent` waits for its end."""
        self._silent = trio.Event()
        try:
            yield
        finally:
            self._silent.set()

    def report(self) -> AudioReport | None:
        """Tell how the voice goes, or went; None if there never was any."""
        if self._voice is not None and self.devices is not None:
            return describe_audio(self.devices, self._voice.statistics())
        return self._last

    async def converse(
        self,
        devices: Devices,
        *,
        hang_up_when_played: bool = False,
        hang_up_after_s: float | None = None,
    ) -> None:
        """Talk from when the call is connected until its end, and see that it ends.

        What goes wrong ends in `problem`. A cancelled talk hangs up.
        """
        self.devices = devices
        try:
            await self.line.wait_for(CallState.CONNECTED, CallState.ENDED)
            if self.line.state is CallState.CONNECTED:
                await self._speak(devices, hang_up_when_played, hang_up_after_s)
        except Exception as error:
            self.problem = problem_of(error)
        finally:
            self.line.hang_up()

    async def _speak(
        self, devices: Devices, when_played: bool, after_s: float | None
    ) -> None:
        from media.voice import open_voice

        async with open_voice(
            self.line.channel, devices.microphone, devices.speaker, clock=time.time
        ) as voice:
            voice.muted = self._muted
            self._voice = voice
            try:
                async with trio.open_nursery() as nursery:
                    if when_played:
                        nursery.start_soon(self._hang_up_when_played, voice)
                    if after_s is not None:
                        nursery.start_soon(self._hang_up_after, after_s)
                    await self.line.wait_for(CallState.ENDED)
                    nursery.cancel_scope.cancel()
            finally:
                statistics = voice.statistics()
                self._last = describe_audio(devices, statistics)
                self._voice = None
        broken = statistics.microphone_error or statistics.speaker_error
        if broken is not None:
            self.problem = problem_of(broken)

    async def _hang_up_when_played(self, voice: Voice) -> None:
        await voice.finished_playing_in.wait()
        with trio.move_on_after(PLAYED_OUT_PATIENCE_S) as patience:
            await voice.wait_played_out()
        if patience.cancelled_caught:
            said = f"{self.peer} did not confirm having heard all"
            self.problem = ProgramError.of("607", said).problem
        self.line.hang_up()

    async def _hang_up_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.line.hang_up()
