"""What an endpoint tells its owner: questions, answers, notices, where peers are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nat.address import Address

__all__ = [
    "Answered",
    "Asked",
    "EndpointEvent",
    "Expired",
    "Noticed",
    "Question",
    "SessionClosed",
    "SessionMoved",
]


@dataclass(frozen=True, slots=True)
class Question:
    """Who asked what, for the answer to find its way: opaque to the owner.

    `static` is the asker's key, None if it asked anonymously. `proven` says that the
    asker has shown to receive at `source`; a source that is not may be forged.
    """

    static: bytes | None
    source: Address
    number: int
    proven: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A peer asks; the owner answers with `Endpoint.answer(question, body)`."""

    question: Question
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """Our request was answered by this peer after `rtt_s`."""

    request: int
    body: bytes
    rtt_s: float
    static: bytes


@dataclass(frozen=True, slots=True)
class Expired:
    """Our request was not answered."""

    request: int


@dataclass(frozen=True, slots=True)
class Noticed:
    """A peer says something that needs no answer."""

    static: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class SessionMoved:
    """The peer has proved that it is at another address now."""

    static: bytes
    address: Address


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session with this peer is over."""

    static: bytes


EndpointEvent: TypeAlias = (
    Asked | Answered | Expired | Noticed | SessionMoved | SessionClosed
)
