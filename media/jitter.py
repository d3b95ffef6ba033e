"""The jitter buffer: packets in as they come, one decision for each 20 ms out.

Frames wait here until they are played at a steady pace, `target` after the earliest
instant they could have come (`media/transit.py`). What a pull finds decides:

    the frame is there                              Play
    it is missing, but the next one is there        Recover (from its in-band FEC)
    it is missing, later ones are there             Conceal
    no frame is there                               Conceal, and wait: the delay grows
    the sender is quiet, or sent none in this slot  Silent

Waiting on an empty buffer keeps late frames useful. If the frames turn out to be lost
instead, the frames concealed while waiting are set off against the lost ones, so that
a loss costs no delay. The delay also grows by holding a frame back when the target
rises, and shrinks by leaving one out, if possible where it is quiet, when it has been
too deep for 200 ms.

    WAITING --filled--> PLAYING --starved (1 s without a frame), jumped--> WAITING

The full form, which weighs delay against loss by the E-model, stretches by pitch
periods and uses redundant copies, belongs here and in `media/transit.py`.

A machine whose deadlines are the pulls: call `pull` once per 20 ms with the instant
the frame is due. Everything is bounded; nothing that arrives raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from media.frame import FRAME_S
from media.packet import Quiet, VoiceFrame
from media.transit import Transit

__all__ = [
    "Conceal",
    "JitterBuffer",
    "JitterStatistics",
    "Play",
    "Playout",
    "Recover",
    "Silent",
]

FRAMES_MAX: Final = 100
# 2 s of voice, five times the largest target.
AHEAD_SLOTS_MAX: Final = 500
BEHIND_SLOTS_MAX: Final = 100
# A frame 10 s ahead or 2 s behind what is playing is not late: the sender began anew.
STARVED_PULLS: Final = 50
# After 1 s without a frame, fill up again before going on.
HOLD_SLACK_S: Final = 0.01
# Half a frame: the delay moves in whole frames, and must not flutter around the target.
DEEP_S: Final = FRAME_S + HOLD_SLACK_S
DEEP_FOR_S: Final = 0.2
SHRINK_GAP_S: Final = 0.06
# Leave out at most one frame in three.
LOUD_DEEP_S: Final = 0.06
# Deeper than this, leave out speech too.
JUMP_DEEP_S: Final = 0.2
# Deeper than this (after a stall) one cut is better than a second of small ones.
LOSS_MEMORY_FRAMES: Final = 250
LOSSY: Final = 0.01
FEC_FLOOR_S: Final = 0.03
# A frame and a half: with less the next packet, which repairs this one, comes too late.


@dataclass(frozen=True, slots=True)
class Play:
    """Decode and play this packet; fade over from `skipped`, if any, to cut it out."""

    payload: bytes
    skipped: bytes | None = None


@dataclass(frozen=True, slots=True)
class Recover:
    """The frame is lost; the packet after it may repeat it."""

    next_payload: bytes


@dataclass(frozen=True, slots=True)
class Conceal:
    """There should be voice here, and there is none: make some up."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing to play, and nothing is missing."""


Playout: TypeAlias = Play | Recover | Conceal | Silent


@dataclass(frozen=True, slots=True)
class JitterStatistics:
    """Counts since the start, and the depth now."""

    late: int
    """Frames that came after their time, or twice."""
    dropped: int
    """Frames left out to shorten the delay, or for want of room."""
    held: int
    """Frames concealed to lengthen the delay."""
    jumps: int
    """Times the sender's numbering began anew."""
    buffer_s: float
    """Voice waiting."""
    delay_s: float
    """How long the next frame will have waited if it came as early as possible."""
    target_s: float
    """What the delay should be."""


class _State(Enum):
    WAITING = auto()
    PLAYING = auto()


class _Cause(Enum):
    FILLED = auto()
    STARVED = auto()
    JUMPED = auto()


TRANSITIONS: Final[Mapping[_State, Mapping[_Cause, _State]]] = {
    _State.WAITING: {
        _Cause.FILLED: _State.PLAYING,
        _Cause.JUMPED: _State.WAITING,
    },
    _State.PLAYING: {
        _Cause.STARVED: _State.WAITING,
        _Cause.JUMPED: _State.WAITING,
    },
}


class JitterBuffer:
    """The frames of one sender that have come and are not played yet."""

    def __init__(self) -> None:
        self._state = _State.WAITING
        self._transit = Transit()
        self._frames: dict[int, VoiceFrame] = {}
        self._quiet: Quiet | None = None
        self._newest_slot = -1
        self._next_slot: int | None = None
        self._next_sequence = 0
        self._waited = 0
        self._deep_at = math.inf
        self._shrink_at = -math.inf
        self._held_last = False
        self._delay_s = 0.0
        self._loss = 0.0
        self._late = self._dropped = self._held = self._jumps = 0

    @property
    def played_to_slot(self) -> int:
        """The slot that will be played next; 0 before anything was."""
        return self._next_slot or 0

    @property
    def quiet(self) -> Quiet | None:
        """What the sender said of its pause, if it is in one."""
        return self._quiet

    @property
    def has_ended(self) -> bool:
        """Whether the sender is quiet and all that came before has been played."""
        return (
            self._quiet is not None
            and not self._frames
            and self.played_to_slot >= self._quiet.since
        )

    def statistics(self) -> JitterStatistics:
        """Give the counts and the depth of now."""
        return JitterStatistics(
            late=self._late,
            dropped=self._dropped,
            held=self._held,
            jumps=self._jumps,
            buffer_s=len(self._frames) * FRAME_S,
            delay_s=self._delay_s,
            target_s=self._target_s(),
        )

    def receive(self, packet: VoiceFrame | Quiet, now: float) -> None:
        """Take in what came `now`."""
        if isinstance(packet, Quiet):
            if packet.since > self._newest_slot:
                self._quiet = packet
            return
        slot = packet.slot
        if self._is_elsewhere(slot):
            self._jump()
        if slot > self._newest_slot:
            self._newest_slot = slot
            self._quiet = None
        self._transit.observe(slot, now)
        played = self._next_slot is not None and slot < self._next_slot
        if played or slot in self._frames:
            self._late += 1
            return
        self._frames[slot] = packet
        if len(self._frames) > FRAMES_MAX:
            del self._frames[min(self._frames)]
            self._dropped += 1

    def pull(self, now: float, *, quiet: bool = False) -> Playout:
        """Decide what to play in the 20 ms from `now` on.

        `quiet` tells that what was played last was nearly silent, so that the delay
        may change here unheard.
        """
        if self._state is _State.WAITING and not self._start(now):
            return Silent()
        if not self._frames:
            return self._pull_empty()
        self._set_off_waiting()
        assert self._next_slot is not None
        self._delay_s = self._transit.delay_s(self._next_slot, now)
        if self._delay_s > self._target_s() + JUMP_DEEP_S:
            self._cut(now)
        frame = self._frames.get(self._next_slot)
        if self._must_hold(quiet or frame is None):
            self._held += 1
            return Silent() if self._is_pause() else Conceal()
        if frame is None:
            return self._pull_gap()
        skipped = self._shrink(now, quiet=quiet)
        return Play(self._take().payload, skipped)

    def _target_s(self) -> float:
        floor_s = FEC_FLOOR_S if self._loss >= LOSSY else 0.0
        return max(self._transit.target_s, floor_s)

    # Starting, starving, starting over

    def _start(self, now: float) -> bool:
        if not self._frames:
            if self._quiet:
                self._next_slot = max(self.played_to_slot, self._quiet.since)
            return False
        first = self._frames[min(self._frames)]
        self._delay_s = self._transit.delay_s(first.slot, now)
        if self._delay_s < self._target_s():
            return False
        self._next_slot, self._next_sequence = first.slot, first.sequence
        self._move(_Cause.FILLED)
        return True

    def _pull_empty(self) -> Playout:
        assert self._next_slot is not None
        if self._quiet:
            while self._waited and self._next_slot < self._quiet.since:
                self._waited -= 1
                self._lose()
            if self._next_slot < self._quiet.since:
                self._lose()
                return Conceal()
            self._next_slot += 1
            return Silent()
        self._waited += 1
        if self._waited > STARVED_PULLS:
            self._move(_Cause.STARVED)
        return Conceal()

    def _is_elsewhere(self, slot: int) -> bool:
        if self._next_slot is None:
            return False
        ahead = slot - self._next_slot
        if self._state is _State.PLAYING and ahead > AHEAD_SLOTS_MAX:
            return True
        return ahead < -BEHIND_SLOTS_MAX

    def _jump(self) -> None:
        self._jumps += 1
        self._dropped += len(self._frames)
        self._frames.clear()
        self._quiet = None
        self._newest_slot = -1
        self._next_slot = None
        self._transit = Transit()
        self._move(_Cause.JUMPED)

    def _move(self, cause: _Cause) -> None:
        self._state = TRANSITIONS[self._state][cause]
        self._waited = 0
        self._deep_at = math.inf

    # One slot of playing

    def _take(self) -> VoiceFrame:
        """Remove the frame of the next slot, which is there, and go on."""
        assert self._next_slot is not None
        frame = self._frames.pop(self._next_slot)
        self._next_slot += 1
        self._next_sequence = frame.sequence + 1
        self._waited = 0
        self._loss -= self._loss / LOSS_MEMORY_FRAMES
        return frame

    def _lose(self) -> None:
        """Give up the frame of the next slot."""
        assert self._next_slot is not None
        self._next_slot += 1
        self._next_sequence += 1
        self._loss += (1 - self._loss) / LOSS_MEMORY_FRAMES

    def _set_off_waiting(self) -> None:
        """Let missing slots be those already concealed while waiting for them."""
        while self._waited and self._next_slot not in self._frames:
            self._waited -= 1
            self._pass_gap()

    def _pass_gap(self) -> bool:
        """Go past a slot without a frame; True if that frame was sent, and lost."""
        if self._is_pause():
            assert self._next_slot is not None
            self._next_slot += 1
            return False
        self._lose()
        return True

    def _pull_gap(self) -> Playout:
        """Decide for a slot without a frame, with later ones there."""
        following = self._following()
        if not self._pass_gap():
            return Silent()
        if following.slot == self._next_slot:
            return Recover(following.payload)
        return Conceal()

    def _is_pause(self) -> bool:
        """Whether the sender sent no frame in the next slot."""
        following = self._following()
        missing = following.slot != self._next_slot
        return missing and following.sequence <= self._next_sequence

    def _following(self) -> VoiceFrame:
        return self._frames[min(self._frames)]

    # More and less delay

    def _must_hold(self, unheard: bool) -> bool:
        """Whether to let the delay grow by a frame instead of going on.

        In speech only every other time, so that a rising target thins it out instead
        of stopping it.
        """
        shallow = self._delay_s < self._target_s() - HOLD_SLACK_S
        self._held_last = shallow and (unheard or not self._held_last)
        return self._held_last

    def _shrink(self, now: float, *, quiet: bool) -> bytes | None:
        """Take the next frame out if the delay has been too deep for long enough."""
        over_s = self._delay_s - self._target_s()
        if over_s < DEEP_S:
            self._deep_at = math.inf
            return None
        self._deep_at = min(self._deep_at, now + DEEP_FOR_S)
        due = now >= max(self._deep_at, self._shrink_at)
        audible = not quiet and over_s < LOUD_DEEP_S
        assert self._next_slot is not None
        if not due or audible or self._next_slot + 1 not in self._frames:
            return None
        self._shrink_at = now + SHRINK_GAP_S
        self._dropped += 1
        return self._take().payload

    def _cut(self, now: float) -> None:
        """Skip ahead at once to where the delay is right, or to the newest frame."""
        newest = max(self._frames)
        assert self._next_slot is not None
        over_s = self._delay_s - self._target_s()
        slot = min(newest, self._next_slot + int(over_s / FRAME_S))
        for old in [old for old in self._frames if old < slot]:
            del self._frames[old]
            self._dropped += 1
        following = self._following()
        self._next_slot, self._next_sequence = slot, following.sequence
        self._delay_s = self._transit.delay_s(slot, now)
