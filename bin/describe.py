"""A node's values as reports: what `bin.reports` prints of what `overlay` knows."""

from __future__ import annotations

from collections.abc import Iterable

from bin.errors import CATALOGUE, Problem
from bin.node import Line
from bin.reports import (
    FoundReport,
    HomeReport,
    PathReport,
    PingReport,
    StepReport,
    SupernodeReport,
)
from overlay import errors as overlay_errors
from overlay.call_messages import EndReason
from overlay.names import format_key
from overlay.views import Found, HomeInfo, Pinged, Step, SupernodeInfo

__all__ = [
    "describe_end",
    "describe_found",
    "describe_homes",
    "describe_paths",
    "describe_ping",
    "describe_steps",
    "describe_supernode",
]

_CODES_BY_REASON = {
    EndReason.REFUSED: "604",
    EndReason.BUSY: "605",
    EndReason.NO_ANSWER: "606",
    EndReason.CANCELLED: "608",
    EndReason.LOST: "607",
    EndReason.NO_RELAY: "401",
    EndReason.SHUT_DOWN: "611",
}


def describe_steps(steps: Iterable[Step]) -> list[StepReport]:
    """Tell the questions of a look-up, in order."""
    return [StepReport(str(step.who), step.answer, step.rtt_s) for step in steps]


def describe_found(peer: str, found: Found) -> FoundReport:
    """Tell what a look-up found."""
    return FoundReport(
        peer=peer,
        name=found.name,
        short_id=found.short_id,
        public_key=format_key(found.public_key),
        homes=[str(home.address) for home in found.presence.homes],
        elapsed_s=found.elapsed_s,
        steps=describe_steps(found.steps),
    )


def describe_ping(peer: str, pinged: Pinged) -> PingReport:
    """Tell the way to a peer."""
    return PingReport(
        peer=peer,
        rtt_s=pinged.rtt_s,
        direct=pinged.direct,
        route=pinged.route,
        steps=describe_steps(pinged.steps),
    )


def describe_homes(homes: Iterable[HomeInfo]) -> list[HomeReport]:
    """Tell the homes of this node, the primary first."""
    told = [
        HomeReport(
            address=str(home.address),
            primary=home.primary,
            registered=home.registered,
            rtt_s=home.rtt_s,
            load=home.load,
        )
        for home in homes
    ]
    return sorted(told, key=lambda home: not home.primary)


def describe_supernode(info: SupernodeInfo) -> SupernodeReport:
    """Tell a supernode and its share of the index."""
    return SupernodeReport(
        address=str(info.address),
        short_id=info.short,
        role=info.role,
        share=info.share,
        state=info.state,
        rtt_s=info.rtt_s,
        load=info.load,
        keys_held=info.keys_held,
        version=info.version,
    )


def describe_paths(line: Line) -> list[PathReport]:
    """Tell the paths of a call, the chosen one first."""
    told = [
        PathReport(path.route, path.rtt_s, path.loss, path.chosen, path.why)
        for path in line.paths()
    ]
    return sorted(told, key=lambda path: not path.chosen)


def describe_end(line: Line, peer: str) -> Problem | None:
    """Tell why a call ended otherwise than by someone's hanging up."""
    reason = line.ended_reason
    if reason is None or reason is EndReason.HUNG_UP:
        return None
    said = f"the call with {peer} ended: {reason.name.lower().replace('_', ' ')}"
    if reason in _CODES_BY_REASON:
        code = _CODES_BY_REASON[reason]
        entry = CATALOGUE[code]
        return Problem(code, entry.title, said, entry.next_step)
    error = (
        overlay_errors.NotOnline
        if reason is EndReason.NOT_ONLINE
        else overlay_errors.CallFailed
    )
    return Problem(error.code, error.title, said, error.next_step)
