"""All sessions of one node, and the first door for datagrams of strangers.

    HS1, HS3 ----------> `overlay.responder` --> a session, or a nameless question
    HS2, COOKIE, DATA -> by receiver index   --> a session, or our nameless question

An HS1 may carry a request; its answer rides in the HS2 if the owner gives it (`answer`)
before the next drain, and is otherwise sent once the peer has confirmed the keys. A
request asked anonymously (Noise NK) leaves no session behind on either side.

An address counts as validated once it has sent us what only the receiver of random
bytes that we sent *there* can make: a valid HS2, HS3, or datagram sealed with keys that
went through it. Sealed datagrams alone prove nothing of their source: a peer that seems
to have moved is asked for new keys where it seems to be. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nat.address import Address
from nat.errors import WireError
from nat.gate import Gate
from overlay import handshake
from overlay.anonymous import AnonymousQuestions
from overlay.ask import Peer
from overlay.deadlines import Deadlines
from overlay.dial import Dial, Local
from overlay.endpoint_events import (
    Answered,
    Asked,
    EndpointEvent,
    Expired,
    Noticed,
    Question,
    SessionClosed,
    SessionMoved,
)
from overlay.envelope import Envelope, EnvelopeKind, decode_envelope, encode_envelope
from overlay.exchange import (
    AnswerReceived,
    NoticeReceived,
    RequestExpired,
    RequestReceived,
)
from overlay.handshake import Completion, CookieReply, Initiation, Response
from overlay.noise import KeyPair, Pattern
from overlay.responder import Arrival, Responder
from overlay.seal import header_of
from overlay.session import Keys, Session, SessionState
from overlay.session_table import SessionTable

__all__ = ["Endpoint"]


@dataclass(frozen=True, slots=True)
class _Owed:
    """An HS2 that is written at the next drain, with its answer if that is there."""

    arrival: Arrival
    our_index: int
    session: Session | None
    at: float


class Endpoint:
    """The sessions of one node; lives as long as the node.

    `gate` is told what it must know of addresses; the owner sends nothing past it.
    `may_be_early(body)` says which requests may ride in a first message; the owner may
    set `is_needed(static)`, whose sessions do not make room for newcomers.
    """

    def __init__(
        self,
        static: KeyPair,
        network: bytes,
        gate: Gate,
        random_bytes: Callable[[int], bytes],
        may_be_early: Callable[[bytes], bool],
    ) -> None:
        self._static = static
        self._gate = gate
        self._may_be_early = may_be_early
        self.is_needed: Callable[[bytes], bool] = lambda static: False
        self._random_bytes = random_bytes
        self.local: Final = Local(
            static, handshake.prologue(network), random_bytes, self.take_index
        )
        self._responder = Responder(self.local)
        self._anonymous = AnonymousQuestions(self.local)
        self._sessions = SessionTable()
        self._proven: dict[Session, Address | None] = {}
        self._owed: list[_Owed] = []
        self._answers: dict[int, bytes] = {}
        self._requests: dict[tuple[Session, int], int] = {}
        self._last_request = 0
        self._deadlines = Deadlines[Session]()
        self._unsent: dict[Session, None] = {}
        self._events: list[EndpointEvent] = []
        self._refused = 0
        self._sessions_dropped = 0

    # -- for the owner -----------------------------------------------------------------

    def take_index(self) -> int:
        """Give a random index that nothing here uses; for a call's keys as well."""
        while True:
            index = int.from_bytes(self._random_bytes(4), "little")
            if not self.owns(index):
                return index

    def owns(self, index: int) -> bool:
        """Whether datagrams with this index are for a session here."""
        return self._sessions.with_index(index) is not None or index in self._anonymous

    def session_with(self, static: bytes) -> Session | None:
        """Give the open session with a peer, if there is one."""
        return self._sessions.open_with(static)

    def request(self, peer: Peer, body: bytes, now: float) -> int:
        """Ask a peer, over a new session if need be; gives the request's id.

        Ends in `Answered` or `Expired` with that id.
        """
        session = self._session_for(peer, now)
        self._last_request += 1
        number = session.request(body, now)
        self._requests[session, number] = self._last_request
        self._touch(session)
        return self._last_request

    def request_anonymously(self, peer: Peer, body: bytes, now: float) -> int:
        """Ask without a session and without saying who asks; the key must be known."""
        self._last_request += 1
        self._anonymous.ask(self._last_request, peer, body, now)
        return self._last_request

    def notify(self, static: bytes, body: bytes) -> bool:
        """Say something to a peer we have a session with; False if there is none."""
        session = self.session_with(static)
        if session is None:
            return False
        session.exchange.notify(body)
        self._touch(session)
        return True

    def answer(self, question: Question, body: bytes) -> None:
        """Answer a question once; if its asker is gone this does nothing."""
        if question.static is None:
            envelope = Envelope(EnvelopeKind.ANSWER, 0, body)
            self._answers[question.number] = encode_envelope(envelope)
            return
        session = self._sessions.with_static(question.static)
        if session is not None:
            session.exchange.answer(question.number, body)
            self._touch(session)

    def close(self, static: bytes) -> None:
        """End the session with a peer: it said goodbye, or broke the rules."""
        session = self._sessions.with_static(static)
        if session is not None:
            session.close()
            self._touch(session)

    def notify_all(self, body: bytes) -> None:
        """Say something to everyone we have a session with."""
        for session in self._sessions:
            if session.static is not None:
                self.notify(session.static, body)

    def statistics(self) -> dict[str, int]:
        """Give the counts of what was dropped and why, and of what there is."""
        return {
            "sessions": len(self._sessions),
            "sessions_dropped": self._sessions_dropped,
            "datagrams_refused": self._refused,
            **self._responder.statistics(),
        }

    # -- datagrams and time ------------------------------------------------------------

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        """Take a handshake datagram (04, 05, 06, 0B) or DATA (07) for a session here.

        Whatever is wrong is dropped and counted; nothing is raised.
        """
        try:
            if datagram[:1] == b"\x07":
                self._receive_sealed(datagram, source, now)
                return
            message = handshake.decode(datagram)
            match message:
                case Initiation():
                    arrival = self._responder.receive_initiation(
                        datagram, message, source, now
                    )
                    if arrival is not None:
                        self._welcome(arrival, now)
                case Completion():
                    self._receive_completion(datagram, message, source, now)
                case Response() | CookieReply():
                    self._receive_response(datagram, message, source, now)
        except WireError:
            self._refused += 1

    def handle_timeout(self, now: float) -> None:
        """Let everything repeat, renew, expire."""
        self._responder.handle_timeout(now)
        self._anonymous.handle_timeout(now)
        for session in self._deadlines.pop_due(now):
            session.handle_timeout(now)
            self._touch(session)

    def next_timeout(self) -> float:
        """Give the instant at which something here has to be done."""
        return min(
            self._deadlines.next_at(),
            self._responder.next_timeout(),
            self._anonymous.next_timeout(),
        )

    def messages_to_send(self) -> list[tuple[Address, bytes]]:
        """Drain the datagrams to send."""
        to_send = self._responder.messages_to_send()
        owed, self._owed = self._owed, []
        for each in owed:
            to_send.extend(self._write_owed(each))
        self._answers.clear()
        to_send.extend(self._anonymous.messages_to_send())
        unsent, self._unsent = self._unsent, {}
        for session in unsent:
            to_send.extend(session.messages_to_send())
        return to_send

    def events(self) -> list[EndpointEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events + self._anonymous.ends()

    # -- what arrives ------------------------------------------------------------------

    def _receive_sealed(self, datagram: bytes, source: Address, now: float) -> None:
        _, index, _ = header_of(datagram)
        session = self._sessions.with_index(index)
        if session is None:
            raise WireError("a datagram for a session that is gone")
        moved = session.receive_sealed(datagram, index, source, now)
        if source == session.proven:
            self._gate.validate(source, now)
        elif moved and not self._gate.is_validated(source, now):
            session.renew(now)
        self._touch(session)

    def _receive_response(
        self,
        datagram: bytes,
        message: Response | CookieReply,
        source: Address,
        now: float,
    ) -> None:
        index = message.receiver_index
        if index in self._anonymous:
            asked_at = self._anonymous.receive(datagram, message, now)
            if asked_at == source:
                self._gate.validate(source, now)
            return
        session = self._sessions.with_index(index)
        if session is None:
            raise WireError("an answer to a handshake that is over")
        was_known = session.static is not None
        if session.receive_response(datagram, message, source, now) is not None:
            if source == session.proven:
                self._gate.validate(source, now)
            if not was_known:
                self._sessions.name(session)
        self._touch(session)

    def _welcome(self, arrival: Arrival, now: float) -> None:
        """Take in who knocked: its request is asked, its HS2 owed."""
        index = self.take_index()
        if arrival.static is None:
            early = arrival.request
            if early is None or not self._may_be_early(early.body):
                raise WireError("anonymous, and nothing asked that may be")
            question = Question(None, arrival.source, index, proven=False)
            self._owed.append(_Owed(arrival, index, None, now))
            self._events.append(Asked(question, early.body))
            return
        session = self._session_with(arrival.static, arrival.source, now)
        self._owed.append(_Owed(arrival, index, session, now))
        if arrival.request is not None and self._may_be_early(arrival.request.body):
            session.exchange.receive(arrival.request, now)
        self._touch(session)

    def _receive_completion(
        self, datagram: bytes, message: Completion, source: Address, now: float
    ) -> None:
        completed = self._responder.receive_completion(datagram, message, source)
        self._gate.validate(source, now)
        session = self._session_with(completed.static, source, now)
        keys = Keys(completed.transport, completed.our_index, now, False, source)
        session.await_confirmation(keys, now)
        self._touch(session)

    def _write_owed(self, owed: _Owed) -> list[tuple[Address, bytes]]:
        """Write the HS2 that is owed; an anonymous question unanswered gets none."""
        arrival, session = owed.arrival, owed.session
        room, request = arrival.room_bytes(), arrival.request
        if session is None:
            answer = self._answers.get(owed.our_index)
            if answer is None or len(answer) > room:
                return []
        else:
            answer = session.take_answer(request.number, room) if request else None
        try:
            datagram, transport = arrival.write_reply(
                self._static.public, owed.our_index, answer
            )
        except WireError:
            self._refused += 1
            return []
        if session is not None and session.state is not SessionState.CLOSED:
            keys = Keys(transport, owed.our_index, owed.at, False, arrival.source)
            session.await_confirmation(keys, owed.at)
            self._touch(session)
        return [(arrival.source, datagram)]

    # -- inside ------------------------------------------------------------------------

    def _session_for(self, peer: Peer, now: float) -> Session:
        if peer.static is not None:
            return self._session_with(peer.static, peer.address, now)
        known = self._sessions.at(peer.address)
        return known or self._new_session(peer.address, None, now)

    def _session_with(self, static: bytes, address: Address, now: float) -> Session:
        known = self._sessions.with_static(static)
        return known or self._new_session(address, static, now)

    def _new_session(
        self, address: Address, static: bytes | None, now: float
    ) -> Session:
        idle = self._sessions.idlest(self.is_needed)
        if idle is not None:
            idle.close()
            self._touch(idle)
            self._sessions_dropped += 1
        number = int.from_bytes(self._random_bytes(4), "little")
        session = Session(address, static, self._new_dial, number, now)
        self._sessions.add(session)
        self._sessions.name(session)
        return session

    def _new_dial(self, static: bytes | None, request: bytes | None) -> Dial:
        pattern = Pattern.XX if static is None else Pattern.IK
        if request and not self._may_be_early(decode_envelope(request).body):
            request = None
        return Dial(self.local, pattern, static, request=request)

    def _touch(self, session: Session) -> None:
        """Bring the tables up to date after anything happened to a session."""
        self._unsent[session] = None
        self._collect(session)
        self._sessions.update(session)
        self._deadlines.set(session, session.next_timeout())
        if session.state is SessionState.CLOSED:
            self._proven.pop(session, None)
            if self._sessions.remove(session) and session.static is not None:
                self._events.append(SessionClosed(session.static))

    def _collect(self, session: Session) -> None:
        """Turn what happened to a session into events of ours."""
        before, self._proven[session] = self._proven.get(session), session.proven
        if before is not None and session.proven not in (None, before):
            assert session.static is not None
            assert session.proven is not None
            self._events.append(SessionMoved(session.static, session.proven))
        for event in session.exchange.events():
            match event:
                case RequestReceived(number, body):
                    source = session.proven or session.address
                    is_proven = session.proven is not None
                    question = Question(session.static, source, number, is_proven)
                    self._events.append(Asked(question, body))
                case NoticeReceived(body) if session.static is not None:
                    self._events.append(Noticed(session.static, body))
                case AnswerReceived(number, body, rtt_s):
                    request = self._requests.pop((session, number))
                    static = session.static
                    assert static is not None
                    self._events.append(Answered(request, body, rtt_s, static))
                case RequestExpired(number):
                    request = self._requests.pop((session, number))
                    self._events.append(Expired(request))
