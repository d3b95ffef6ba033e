"""What clients ask of the daemon: the parameters of its methods, schema version 1."""

from __future__ import annotations

import msgspec

from bin.settings import Answering

__all__ = [
    "AnswerParams",
    "AnswersParams",
    "Audio",
    "CallParams",
    "MuteParams",
    "PeerParams",
    "WhichCall",
]


class Audio(msgspec.Struct, frozen=True):
    """Which microphone and speaker: `default`, `sound:NAME`, `file:PATH`, `null`...

    `record` is a WAV file that gets what the speaker gets.
    """

    microphone: str = "default"
    speaker: str = "default"
    record: str | None = None


class PeerParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One peer, as a user types it."""

    peer: str


class WhichCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One call, by its number."""

    call: str


class MuteParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the other side hears silence."""

    call: str
    muted: bool


class CallParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A call to place. Audio that is not given is the daemon's own.

    An `attached` call ends when the client that placed it closes its connection.
    """

    peer: str
    microphone: str | None = None
    speaker: str | None = None
    record: str | None = None
    relay_only: bool = False
    hang_up_when_played: bool = False
    hang_up_after_s: float | None = None
    attached: bool = False


class AnswerParams(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True
):
    """A call to answer, with which audio. `attached` as in `CallParams`."""

    call: str
    microphone: str | None = None
    speaker: str | None = None
    record: str | None = None
    attached: bool = False


class AnswersParams(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True
):
    """What becomes of calls from now on."""

    policy: Answering
    microphone: str | None = None
    speaker: str | None = None
    record: str | None = None
