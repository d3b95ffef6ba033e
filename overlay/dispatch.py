"""From the machines that ask to the sessions, and the answers back.

Each `Ask` ends in exactly one `answered` or `failed` of the machine it came from. What
a node asks itself is served at once, and its answer handed over in the next round, so
that no machine is called while it calls. Sans-IO.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

from nat.address import Address
from nat.errors import WireError
from overlay.ask import Ask, Asker
from overlay.endpoint import Endpoint
from overlay.endpoint_events import Answered, Expired, Question
from overlay.messages import Answer, Request, decode_answer, encode_body

__all__ = ["Dispatch"]

UNDER_WAY_MAX: Final = 8_192
# Twice as many as sessions; more fail at once.

Serve = Callable[[Request, Question, float], Answer | None]


class Dispatch:
    """The asks of one node; lives as long as the node."""

    def __init__(
        self, endpoint: Endpoint, static: bytes, address: Address, serve: Serve
    ) -> None:
        self._endpoint = endpoint
        self._static = static
        self._address = address
        self._serve = serve
        self._under_way: dict[int, tuple[Asker, Hashable]] = {}
        self._own: deque[tuple[Asker, Hashable, Answer | None]] = deque()
        self.answers_refused = 0

    def send(self, asker: Asker, ask: Ask, now: float) -> None:
        """Ask for this machine."""
        peer = ask.peer
        if peer.static == self._static or (
            peer.static is None and peer.address == self._address
        ):
            question = Question(self._static, self._address, 0, proven=True)
            answer = self._serve(ask.request, question, now)
            self._own.append((asker, ask.tag, answer))
            return
        if len(self._under_way) >= UNDER_WAY_MAX:
            self._own.append((asker, ask.tag, None))
            return
        body = encode_body(ask.request)
        if ask.anonymous:
            request = self._endpoint.request_anonymously(peer, body, now)
        else:
            request = self._endpoint.request(peer, body, now)
        self._under_way[request] = (asker, ask.tag)

    def answered(self, event: Answered, now: float) -> None:
        """Take an answer to the machine that waits for it."""
        found = self._under_way.pop(event.request, None)
        if found is None:
            return
        asker, tag = found
        try:
            answer = decode_answer(event.body)
        except WireError:
            self.answers_refused += 1
            asker.failed(tag, now)
            return
        asker.answered(tag, answer, event.rtt_s, now)

    def expired(self, event: Expired, now: float) -> None:
        """Tell a machine that nobody answered it."""
        found = self._under_way.pop(event.request, None)
        if found is not None:
            asker, tag = found
            asker.failed(tag, now)

    def hand_over_own(self, now: float) -> bool:
        """Hand over what we answered ourselves; whether there was anything."""
        own, self._own = self._own, deque()
        for asker, tag, answer in own:
            if answer is None:
                asker.failed(tag, now)
            else:
                asker.answered(tag, answer, 0.0, now)
        return bool(own)
