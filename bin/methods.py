"""What can be asked of the daemon on its control socket.

    who_am_i status wait_ready look_up ping supernodes stats
    call answer reject hang_up mute calls set_answers subscribe

Names, parameters (`bin.requests`) and results (`bin.reports`) are version 1 of the
schema: within it they are only added to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bin.control_server import Client, Method, method
from bin.describe import (
    describe_found,
    describe_homes,
    describe_ping,
    describe_supernode,
)
from bin.node import Node
from bin.reports import (
    CallReport,
    CallsReport,
    Done,
    FoundReport,
    IdentityReport,
    Nothing,
    PingReport,
    StatsReport,
    StatusReport,
    SupernodesReport,
)
from bin.requests import (
    AnswerParams,
    AnswersParams,
    Audio,
    CallParams,
    MuteParams,
    PeerParams,
    WhichCall,
)
from bin.switchboard import Answers, Placing, Switchboard
from nat.address import Address
from overlay.identity import short_id
from overlay.names import PeerName, format_key

__all__ = ["About", "methods_of"]

SEEDS_MAX: Final = 2
# One may be gone when the link is used; more make it unwieldy.
UNSPECIFIED: Final = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class About:
    """What is fixed about a daemon from start to end."""

    name: str | None
    version: str
    identity_file: str
    default_audio: Audio
    started_at: float
    now: Callable[[], float]

    def audio(self, chosen: CallParams | AnswerParams | AnswersParams) -> Audio:
        """Fill in what a client left open."""
        return Audio(
            chosen.microphone or self.default_audio.microphone,
            chosen.speaker or self.default_audio.speaker,
            chosen.record or self.default_audio.record,
        )


def methods_of(
    node: Node, switchboard: Switchboard, about: About
) -> Mapping[str, Method]:
    """Give the methods of one daemon by name."""
    asked = _Methods(node, switchboard, about)
    return {
        "who_am_i": method(Nothing, asked.who_am_i),
        "status": method(Nothing, asked.status),
        "wait_ready": method(Nothing, asked.wait_ready),
        "look_up": method(PeerParams, asked.look_up),
        "ping": method(PeerParams, asked.ping),
        "supernodes": method(Nothing, asked.supernodes),
        "stats": method(Nothing, asked.stats),
        "call": method(CallParams, asked.call),
        "answer": method(AnswerParams, asked.answer),
        "reject": method(WhichCall, asked.reject),
        "hang_up": method(WhichCall, asked.hang_up),
        "mute": method(MuteParams, asked.mute),
        "calls": method(Nothing, asked.calls),
        "show_call": method(WhichCall, asked.show_call),
        "set_answers": method(AnswersParams, asked.set_answers),
    }


@dataclass(frozen=True, slots=True)
class _Methods:
    node: Node
    switchboard: Switchboard
    about: About

    async def who_am_i(self, client: Client, params: Nothing) -> IdentityReport:
        public_key = self.node.identity.public_key
        name = PeerName.of_key(public_key, self.about.name, self._seeds())
        return IdentityReport(
            name=self.about.name,
            short_id=short_id(public_key),
            public_key=format_key(public_key),
            link=name.link(),
            identity_file=self.about.identity_file,
        )

    def _seeds(self) -> tuple[Address, ...]:
        """Give the supernodes by which a newcomer with our link finds the network."""
        status = self.node.status()
        homes = tuple(home.address for home in status.homes)
        if status.role == "supernode":
            ours = status.observed or status.address
            homes = homes if ours.host in UNSPECIFIED else (ours, *homes)
        return homes[:SEEDS_MAX]

    async def status(self, client: Client, params: Nothing) -> StatusReport:
        status = self.node.status()
        homes = describe_homes(status.homes)
        return StatusReport(
            version=self.about.version,
            pid=os.getpid(),
            up_s=self.about.now() - self.about.started_at,
            ready=self.node.ready and (status.role == "supernode" or bool(homes)),
            name=self.about.name,
            short_id=short_id(self.node.identity.public_key),
            role=status.role,
            why_role=status.why_role,
            address=str(status.address),
            observed=None if status.observed is None else str(status.observed),
            answering=self.switchboard.answers.policy,
            homes=homes,
            supernodes_known=status.supernodes_known,
            records_held=status.records_held,
            leaves_registered=status.leaves_registered,
            sessions=status.sessions,
            relay_calls=status.relay_calls,
            calls=len(self.switchboard.live_calls()),
        )

    async def wait_ready(self, client: Client, params: Nothing) -> StatusReport:
        await self.node.wait_ready()
        return await self.status(client, params)

    async def look_up(self, client: Client, params: PeerParams) -> FoundReport:
        return describe_found(params.peer, await self.node.look_up(params.peer))

    async def ping(self, client: Client, params: PeerParams) -> PingReport:
        return describe_ping(params.peer, await self.node.ping(params.peer))

    async def supernodes(self, client: Client, params: Nothing) -> SupernodesReport:
        overview = await self.node.supernodes_overview()
        overview = sorted(overview, key=lambda each: each.address.pack())
        return SupernodesReport([describe_supernode(each) for each in overview])

    async def stats(self, client: Client, params: Nothing) -> StatsReport:
        return StatsReport(
            counters=dict(self.node.status().counters),
            calls=self.switchboard.live_calls(),
        )

    async def call(self, client: Client, params: CallParams) -> CallReport:
        placing = Placing(
            peer=params.peer,
            audio=self.about.audio(params),
            relay_only=params.relay_only,
            hang_up_when_played=params.hang_up_when_played,
            hang_up_after_s=params.hang_up_after_s,
        )
        report = await self.switchboard.place(placing)
        return self._attached(client, report) if params.attached else report

    async def answer(self, client: Client, params: AnswerParams) -> CallReport:
        audio = self.about.audio(params)
        report = await self.switchboard.answer(params.call, audio)
        return self._attached(client, report) if params.attached else report

    def _attached(self, client: Client, report: CallReport) -> CallReport:
        line = self.node.line(report.id)
        client.at_close(line.hang_up)
        return report

    async def reject(self, client: Client, params: WhichCall) -> CallReport:
        return self.switchboard.refuse(params.call)

    async def hang_up(self, client: Client, params: WhichCall) -> CallReport:
        return self.switchboard.hang_up(params.call)

    async def mute(self, client: Client, params: MuteParams) -> CallReport:
        return self.switchboard.mute(params.call, params.muted)

    async def calls(self, client: Client, params: Nothing) -> CallsReport:
        return CallsReport(self.switchboard.calls())

    async def show_call(self, client: Client, params: WhichCall) -> CallReport:
        return self.switchboard.report(params.call)

    async def set_answers(self, client: Client, params: AnswersParams) -> Done:
        audio = self.about.audio(params)
        self.switchboard.answers = Answers(params.policy, audio)
        return Done()
