"""What the daemon tells its clients, and what `--json` prints: the schema, version 1.

One struct is one JSON object. Within a version, members are only added. Times ending in
`_at` are Unix times, those ending in `_s` are lengths in seconds; keys of identities
have 52 characters (`overlay.names`); addresses are `HOST:PORT`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bin.errors import Problem

__all__ = [
    "SCHEMA",
    "AudioReport",
    "CallReport",
    "CallsReport",
    "ContactReport",
    "ContactsReport",
    "DemoReport",
    "DeviceReport",
    "DevicesReport",
    "Done",
    "ErrorReport",
    "EventReport",
    "FoundReport",
    "HeardReport",
    "HomeReport",
    "IdentityReport",
    "LoopbackReport",
    "MeshCallReport",
    "MeshDownReport",
    "MeshNodeReport",
    "MeshReport",
    "Nothing",
    "NoticeReport",
    "PathReport",
    "PingReport",
    "StatsReport",
    "StatusReport",
    "StepReport",
    "SupernodeReport",
    "SupernodesReport",
]

SCHEMA: Final = 1


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


class Report(msgspec.Struct, frozen=True, tag_field="schema", tag=SCHEMA):
    """Anything that is printed on its own; its first member is `schema`."""


class Done(Report, frozen=True):
    """It was done; there is no more to say."""


class ErrorReport(Report, frozen=True):
    """What `--json` prints instead of its report when a command fails."""

    error: Problem


class IdentityReport(Report, frozen=True):
    """Who this node is (`whoami`)."""

    name: str | None
    short_id: str
    public_key: str
    link: str
    identity_file: str


class HomeReport(msgspec.Struct, frozen=True):
    """A supernode that this node is registered at."""

    address: str
    primary: bool
    registered: bool
    rtt_s: float | None
    load: float


class StatusReport(Report, frozen=True, kw_only=True):
    """How this node is connected (`status`)."""

    version: str
    pid: int
    up_s: float
    ready: bool
    name: str | None
    short_id: str
    role: str
    why_role: str
    address: str
    observed: str | None
    answering: str
    homes: list[HomeReport]
    supernodes_known: int
    records_held: int
    leaves_registered: int
    sessions: int
    relay_calls: int
    calls: int


class StepReport(msgspec.Struct, frozen=True):
    """One question of a look-up: who was asked, and what came back after how long."""

    who: str
    answer: str
    rtt_s: float | None


class FoundReport(Report, frozen=True, kw_only=True):
    """A peer as the index knows it (`lookup`)."""

    peer: str
    name: str | None
    short_id: str
    public_key: str
    homes: list[str]
    elapsed_s: float
    steps: list[StepReport]


class PingReport(Report, frozen=True, kw_only=True):
    """The way to a peer (`ping`)."""

    peer: str
    rtt_s: float
    direct: bool
    route: str
    steps: list[StepReport]


class PathReport(msgspec.Struct, frozen=True):
    """One path of a call: `direct` or `relay(ADDRESS)`, and why it is (not) used."""

    route: str
    rtt_s: float | None
    loss: float
    chosen: bool
    why: str


class NoticeReport(msgspec.Struct, frozen=True):
    """Something worth a line that stopped nothing."""

    code: str
    title: str
    cause: str
    next_step: str


class HeardReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the other side hears us, by its newest report."""

    packets_expected: int
    packets_received: int
    frames_concealed: int
    jitter_s: float
    delay_s: float
    mos: float | None


class AudioReport(msgspec.Struct, frozen=True, kw_only=True):
    """The voice of a call: what was sent, what was heard, and how well."""

    microphone: str
    speaker: str
    record: str | None
    muted: bool
    peer_muted: bool
    packets_sent: int
    packets_received: int
    packets_lost: int
    packets_late: int
    packets_duplicate: int
    packets_refused: int
    frames_concealed: int
    frames_repaired: int
    loss: float
    jitter_s: float
    buffer_s: float
    rtt_s: float | None
    mos: float | None
    first_sent_at: float | None
    first_heard_at: float | None
    heard_by_peer: HeardReport | None


class CallReport(Report, frozen=True, kw_only=True):
    """One call, alive or over."""

    id: str
    peer: str
    short_id: str
    public_key: str
    incoming: bool
    contact: bool
    state: str
    ended_reason: str | None
    ended_by: str | None
    problem: Problem | None
    notices: list[NoticeReport]
    timeline: dict[str, float]
    relays: list[str]
    steps: list[StepReport]
    paths: list[PathReport]
    audio: AudioReport | None


class CallsReport(Report, frozen=True):
    """The calls of this node, oldest first, those that ended included (`calls`)."""

    calls: list[CallReport]


class StatsReport(Report, frozen=True):
    """Counts since the start of the daemon, and the calls that are on (`stats`)."""

    counters: dict[str, int]
    calls: list[CallReport]


class SupernodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A supernode as this node, or its home, knows it."""

    address: str
    short_id: str
    role: str
    share: float
    state: str
    rtt_s: float | None
    load: float | None
    keys_held: int | None
    version: str


class SupernodesReport(Report, frozen=True):
    """The supernodes and their shares of the index (`supernodes`)."""

    supernodes: list[SupernodeReport]


class EventReport(Report, frozen=True, kw_only=True):
    """Something that happened, pushed to subscribers."""

    at: float
    kind: str
    text: str
    call: CallReport | None = None


class ContactReport(msgspec.Struct, frozen=True):
    """One known name (`contacts list`)."""

    name: str
    short_id: str
    public_key: str
    contact: bool
    verified: bool
    added_at: float


class ContactsReport(Report, frozen=True):
    """The known names."""

    contacts: list[ContactReport]


class DeviceReport(msgspec.Struct, frozen=True):
    """A microphone or speaker. `spec` is what --microphone and --speaker take."""

    spec: str
    description: str
    inputs: int
    outputs: int
    default: bool


class DevicesReport(Report, frozen=True):
    """The devices, and why there is no sound card among them if so (`devices`)."""

    devices: list[DeviceReport]
    problem: Problem | None


class LoopbackReport(Report, frozen=True):
    """How the local sound chain did (`loopback`)."""

    elapsed_s: float
    notices: list[NoticeReport]
    audio: AudioReport


class MeshNodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node of the local mesh; `status` is None if its daemon does not answer."""

    name: str
    address: str
    home: str
    log: str
    pid: int | None
    alive: bool
    status: StatusReport | None


class MeshReport(Report, frozen=True):
    """The local mesh (`mesh up`, `mesh status`)."""

    nodes: list[MeshNodeReport]
    elapsed_s: float | None


class MeshCallReport(Report, frozen=True):
    """A call in the local mesh, by each end (`mesh call`)."""

    caller: CallReport
    callee: CallReport


class MeshDownReport(Report, frozen=True):
    """How many nodes still ran when the mesh was ended (`mesh down`)."""

    ended: int


class DemoReport(Report, frozen=True, kw_only=True):
    """What the demo did and measured (`demo`)."""

    nodes: list[MeshNodeReport]
    set_up_s: float
    ringing_s: float
    first_audio_s: float | None
    caller: CallReport
    callee: CallReport
    played: str
    recorded: str
    kept: bool
    elapsed_s: float
