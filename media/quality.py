"""How good a received stream is: losses, jitter, and what a listener would say. Pure.

`Reception` counts as RFC 3550 does (§6.4.1, appendices A.3 and A.8). `mos` estimates
with the E-model of ITU-T G.107, with constants fitted to Opus (0.12 rms over 108
measured conditions): from what was made up and repaired, the delay from mouth to ear,
and the bit rate, a mean opinion score from 1 (bad) to 4.5 (excellent).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from media.frame import FRAME_S

__all__ = ["Reception", "mos"]

WINDOW: Final = 1_024
# Sequences within which duplicates are told from news: 20 s of voice.
DROPOUT_MAX: Final = 3_000
# RFC 3550 A.1: further than this off, a sequence means that the sender began anew.
JITTER_GAIN: Final = 1 / 16
# RFC 3550 §6.4.1.
LOSS_MEMORY_FRAMES: Final = 250
# `loss` looks back about 5 s: short enough to follow a bad minute, long enough that
# 1 % of it is more than one packet.

R_MAX: Final = 93.2
# G.107: a perfect narrow-band connection, its default.
EQUIPMENT_RATES_BPS: Final = (12_000, 16_000, 24_000)
EQUIPMENT_IMPAIRMENTS: Final = (19.0, 10.0, 5.6)
FEC_IMPAIRMENTS: Final = (9.0, 5.5, 2.0)
# What the codec costs at these rates, and what arming its FEC takes from the rest;
# between them in proportion.
LOSS_ROBUSTNESS: Final = 8.6
REPAIRED_WEIGHT: Final = 0.21
# A frame out of in-band FEC hurts about a fifth of a made-up one.


class Reception:
    """What has come of one sender's sequence; lives as long as the call."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._first = 0
        self._seen = 0
        self._transit_s: float | None = None
        self.expected = 0
        self.received = 0
        self.duplicates = 0
        self.restarts = 0
        self.jitter_s = 0.0
        self.loss = 0.0

    @property
    def lost(self) -> int:
        """Frames that never came, or have not yet."""
        return self.expected - self.received

    def receive(self, sequence: int, slot: int, now: float) -> bool:
        """Count a frame; False if it came before and is to be ignored."""
        if self._highest is None or abs(sequence - self._highest) > DROPOUT_MAX:
            self._restart(sequence)
        assert self._highest is not None
        ahead = sequence - self._highest
        if ahead > 0:
            self._advance(ahead)
            self._highest = sequence
        elif ahead <= -WINDOW or self._seen >> -ahead & 1:
            self.duplicates += 1
            return False
        else:
            self._seen |= 1 << -ahead
            self._take_back(sequence)
        self.received += 1
        self._measure_jitter(now - slot * FRAME_S)
        return True

    def _restart(self, sequence: int) -> None:
        # A stray packet could cause this, but only the peer itself can send one.
        if self._highest is not None:
            self.restarts += 1
        self._highest, self._first = sequence - 1, sequence
        self._seen = 0
        self._transit_s = None

    def _advance(self, ahead: int) -> None:
        self.expected += ahead
        self._seen = (self._seen << ahead | 1) & ((1 << WINDOW) - 1)
        keep = 1 - 1 / LOSS_MEMORY_FRAMES
        self.loss = (1 - (1 - self.loss) * keep ** (ahead - 1)) * keep

    def _take_back(self, sequence: int) -> None:
        """Count as merely late what had counted as lost, or came before the first."""
        if sequence < self._first:
            self.expected += self._first - sequence
            self._first = sequence
        else:
            self.loss = max(0.0, self.loss - 1 / LOSS_MEMORY_FRAMES)

    def _measure_jitter(self, transit_s: float) -> None:
        if self._transit_s is not None:
            difference = abs(transit_s - self._transit_s)
            self.jitter_s += (difference - self.jitter_s) * JITTER_GAIN
        self._transit_s = transit_s


def mos(
    *,
    concealed: float,
    repaired: float,
    one_way_s: float,
    bitrate_bps: float,
    fec: bool = False,
) -> float:
    """Estimate the mean opinion score, 1.0 to 4.5.

    `concealed` and `repaired` are the shares (0 to 1) of frames made up and out of
    in-band FEC; `one_way_s` is from mouth to ear.
    """
    equipment = float(
        np.interp(bitrate_bps, EQUIPMENT_RATES_BPS, EQUIPMENT_IMPAIRMENTS)
    )
    if fec:
        equipment += float(np.interp(bitrate_bps, EQUIPMENT_RATES_BPS, FEC_IMPAIRMENTS))
    effective_percent = 100 * (concealed + REPAIRED_WEIGHT * repaired)
    equipment += (95 - equipment) * (
        effective_percent / (effective_percent + LOSS_ROBUSTNESS)
    )
    return _mos_of(R_MAX - _delay_impairment(one_way_s) - equipment)


def _delay_impairment(one_way_s: float) -> float:
    """Idd of G.107 (7-28): nothing up to 100 ms, 25 points at about 400 ms."""
    if one_way_s <= 0.1:
        return 0.0
    x = math.log2(one_way_s / 0.1)
    points: float = 25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2)
    return points


def _mos_of(rating: float) -> float:
    """G.107 annex B."""
    if rating <= 0:
        return 1.0
    rating = min(rating, 100.0)
    score = 1 + 0.035 * rating + rating * (rating - 60) * (100 - rating) * 7e-6
    return max(1.0, score)
