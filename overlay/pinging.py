"""The best way to a peer that shows itself within a moment, by a call without sound."""

from __future__ import annotations

from typing import Final

import trio

from nat.paths import Direct, PathReport
from overlay.call_messages import EndReason
from overlay.call_state import CallState
from overlay.errors import NotOnline, NoWayToPeer
from overlay.handles import CallHandle
from overlay.views import Pinged, route_text

__all__ = ["measure"]

PING_DIRECT_S: Final = 1.5
# How long a direct path is waited for: as long as plain punching takes.


async def measure(line: CallHandle, peer: str) -> Pinged:
    """Wait for a call to connect and for its best path. Raises `OverlayError`."""
    state = await line.wait_for(CallState.CONNECTED, CallState.ENDED)
    if state is CallState.ENDED and line.ended_reason is EndReason.NOT_ONLINE:
        raise NotOnline(f"none of {peer}'s homes has it now")
    best = None
    with trio.move_on_after(PING_DIRECT_S):
        while line.state is CallState.CONNECTED:
            best = _best_path(line)
            direct = best is not None and isinstance(best.route, Direct)
            if direct or (best is not None and not line.is_contact):
                break
            await line.wait_changed()
    if line.ended_reason is not None:
        who = "the ping of" if line.ended_by == "us" else "the other end of the ping of"
        reason = line.ended_reason.name.lower().replace("_", " ")
        raise NoWayToPeer(f"{who} {peer} ended it: {reason}")
    if best is None or best.rtt_s is None:
        raise NoWayToPeer(f"{peer} answers, but no path between us works")
    is_direct = isinstance(best.route, Direct)
    return Pinged(best.rtt_s, is_direct, route_text(best.route), line.steps)


def _best_path(line: CallHandle) -> PathReport | None:
    measured = [r for r in line.call.path_reports() if r.rtt_s is not None]
    return max(measured, key=lambda report: report.chosen, default=None)
