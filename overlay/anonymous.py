"""Questions asked without saying who asks: Noise NK, one round trip, no session.

Each is padded to a whole datagram, since its answer may be no longer than it is.
Sans-IO; raises `WireError` for what is wrong with an answer, which is then as if it had
never come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

from nat.address import Address
from overlay.ask import Peer
from overlay.deadlines import Deadlines
from overlay.dial import Dial, Local
from overlay.endpoint_events import Answered, Expired
from overlay.envelope import Envelope, EnvelopeKind, encode_envelope
from overlay.handshake import INITIATION_BYTES_MAX, CookieReply, Response
from overlay.noise import Pattern

__all__ = ["AnonymousQuestions"]

UNDER_WAY_MAX: Final = 512
# 64 look-ups (`overlay.searches`) of eight owners each; more fail at once.

End: TypeAlias = Answered | Expired


@dataclass(frozen=True, slots=True)
class _Asked:
    dial: Dial
    peer: Peer
    request: int


class AnonymousQuestions:
    """Our own that are under way; lives as long as the node."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._asked: dict[int, _Asked] = {}
        self._by_index: dict[int, int] = {}
        self._deadlines = Deadlines[int]()
        self._unsent: dict[int, None] = {}
        self._ends: list[End] = []

    def __contains__(self, index: object) -> bool:
        return index in self._by_index

    def ask(self, request: int, peer: Peer, body: bytes, now: float) -> None:
        """Ask a peer whose key is known; `request` names the end that is told."""
        if len(self._asked) >= UNDER_WAY_MAX:
            self._ends.append(Expired(request))
            return
        dial = Dial(
            self._local,
            Pattern.NK,
            peer.known_static,
            request=encode_envelope(Envelope(EnvelopeKind.REQUEST, 0, body)),
            size=INITIATION_BYTES_MAX,
        )
        dial.begin(now)
        asked = self._asked[request] = _Asked(dial, peer, request)
        self._touch(asked)

    def receive(
        self, datagram: bytes, message: Response | CookieReply, now: float
    ) -> Address | None:
        """Take what came for one of our indexes.

        Gives the address that was asked if this ended the question.
        """
        asked = self._asked[self._by_index[message.receiver_index]]
        established = asked.dial.receive(datagram, message, now)
        if established is None:
            self._touch(asked)
            return None
        self._forget(asked)
        if established.response is None:
            self._ends.append(Expired(asked.request))
        else:
            body = established.response.body
            rtt_s, static = established.rtt_s, established.their_static
            self._ends.append(Answered(asked.request, body, rtt_s, static))
        return asked.peer.address

    def handle_timeout(self, now: float) -> None:
        """Repeat what is due, and give up what is over."""
        for request in self._deadlines.pop_due(now):
            asked = self._asked[request]
            asked.dial.handle_timeout(now)
            if asked.dial.failed:
                self._forget(asked)
                self._ends.append(Expired(request))
            else:
                self._touch(asked)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        return self._deadlines.next_at()

    def messages_to_send(self) -> list[tuple[Address, bytes]]:
        """Drain the datagrams to send."""
        unsent, self._unsent = self._unsent, {}
        return [
            (asked.peer.address, datagram)
            for asked in map(self._asked.get, unsent)
            if asked is not None
            for datagram in asked.dial.messages_to_send()
        ]

    def ends(self) -> list[End]:
        """Drain how questions ended."""
        ends, self._ends = self._ends, []
        return ends

    def _touch(self, asked: _Asked) -> None:
        self._by_index.update(dict.fromkeys(asked.dial.indexes, asked.request))
        self._deadlines.set(asked.request, asked.dial.next_timeout())
        self._unsent[asked.request] = None

    def _forget(self, asked: _Asked) -> None:
        del self._asked[asked.request]
        for index in asked.dial.indexes:
            self._by_index.pop(index, None)
        self._deadlines.set(asked.request, math.inf)
