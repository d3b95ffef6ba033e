"""A whole node without its socket: every machine of the overlay, wired together.

    datagram --> first byte:  0-3 checks, reflections    --> a call, or our STUN server
                              4, 5, 6, B handshakes      --> endpoint
                              7 sealed                   --> endpoint, or a call
                              8 media                    --> a call
                              9 relayed                  --> a call, or our relay
    endpoint --> questions --> served here, or by the supernode part
             --> answers   --> `overlay.dispatch` --> the machine that asked

Machines know nothing of each other: `_settle` carries what one puts out to where it
belongs until nothing moves any more. Everything that leaves passes the gate
(`nat.gate`), which is told of what we begin ourselves: first handshake messages and
probes of candidates.

What the node is to others is `overlay.station`'s, its calls are `overlay.phone`'s.
Sans-IO: `receive` takes any bytes from anywhere and raises nothing.
"""

from __future__ import annotations

import contextlib
from typing import Final

from nat import stun
from nat.address import Address
from nat.errors import WireError
from nat.gate import Gate
from nat.paths import Direct
from nat.relay import decode_relayed
from overlay.ask import Asker, Peer
from overlay.call import Call
from overlay.call_messages import EndReason, Purpose
from overlay.dispatch import Dispatch
from overlay.endpoint import Endpoint
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
from overlay.handshake import network_id
from overlay.messages import (
    Answer,
    Deliver,
    Done,
    Goodbye,
    Notice,
    Ping,
    Pong,
    Refusal,
    Refused,
    Request,
    Signal,
    decode_notice,
    decode_request,
    encode_body,
    may_be_early,
)
from overlay.node_events import (
    NodeConfig,
    NodeEvent,
    Role,
)
from overlay.outgoing import OutgoingCall
from overlay.own_records import OwnRecords
from overlay.phone import Phone
from overlay.records import Presence
from overlay.searches import Searches
from overlay.station import Station
from overlay.supernode import Supernode

__all__ = ["NodeMachine"]

SETTLE_ROUNDS_MAX: Final = 4_096
# Machines hand each other work in a few rounds, and each page of our own table takes
# one (`overlay.survey`: 2,048 at most); more is a loop of our own making.


class NodeMachine:
    """One node, from its start to its end."""

    def __init__(self, config: NodeConfig, now: float) -> None:
        self._config = config
        self._static = config.identity.dh_public
        network = network_id(config.network_name)
        self.gate: Final = Gate()
        self.endpoint: Final = Endpoint(
            config.identity.dh, network, self.gate, config.random_bytes, may_be_early
        )
        self.dispatch: Final = Dispatch(
            self.endpoint, self._static, config.address, self._serve
        )
        self._records = OwnRecords(
            config.identity, config.name, config.client_version, now
        )
        self.station: Final = Station(config, self._records)
        self.endpoint.is_needed = self.station.needs
        self._phone = Phone(
            config, self._records, self.station, self.endpoint, self.gate, now
        )
        self.calls: Final = self._phone.calls
        self._searches = Searches(config.random_bytes)
        self._to_send: list[tuple[Address, bytes]] = []
        self._events: list[NodeEvent] = []
        self._now = now
        self.datagrams_unknown = 0
        self.bodies_refused = 0

    # -- for the owner -----------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Whether the node serves others."""
        return self.station.role

    @property
    def presence(self) -> Presence:
        """What we last said of where we can be met."""
        return self._records.presence

    @property
    def supernode(self) -> Supernode | None:
        """What a supernode does for others."""
        return self.station.supernode

    def begin(self, now: float) -> None:
        """Join the network, or be its first node."""
        self._now = now
        self.station.begin(now)
        self._settle(now)

    def look_up(self, key: bytes, now: float) -> int | None:
        """Look up a key; gives the number of its `LookupEnded`, None if too many."""
        self._now = now
        number = self._searches.look_up(key, self.station.homes_to_ask(), now)
        self._settle(now)
        return number

    def survey(self, now: float) -> int | None:
        """List the supernodes our home knows; gives the number of `SurveyEnded`."""
        self._now = now
        homes = self.station.homes_to_ask()
        number = self._searches.survey(homes[0] if homes else self.station.us)
        self._settle(now)
        return number

    def place_call(
        self, peer: Presence, purpose: Purpose, now: float, *, relay_only: bool
    ) -> OutgoingCall | None:
        """Call a peer by its presence; None if there are too many calls."""
        self._now = now
        call = self._phone.place(peer, purpose, now, relay_only=relay_only)
        self._settle(now)
        return call

    def changed(self, call: Call, now: float) -> None:
        """Take it that a local wish was told to this call."""
        self._now = now
        self.calls.changed(call)
        self._settle(now)

    def send_media(self, call: Call, payload: bytes, now: float) -> bool:
        """Send a piece of media; False if no path is there for it yet."""
        self._now = now
        return call.send_media(payload, now)

    def leave(self, now: float) -> None:
        """Say goodbye to everyone; the datagrams are in the next drain."""
        self._now = now
        for call in self.calls:
            call.end(EndReason.SHUT_DOWN, now)
            self.calls.changed(call)
        self._settle(now)
        self.endpoint.notify_all(encode_body(Goodbye()))

    # -- datagrams and time ------------------------------------------------------------

    def receive(self, datagram: bytes, source: Address, now: float) -> None:
        """Take a datagram from anywhere."""
        self._now = now
        self.gate.heard(source, len(datagram), now)
        kind = datagram[0] if datagram else -1
        if kind in _CHECKS:
            self._receive_stun(datagram, source, now)
        elif kind in _HANDSHAKES or (kind == _DATA and self._is_ours(datagram)):
            self.endpoint.receive(datagram, source, now)
        elif kind in (_DATA, _MEDIA):
            self.calls.receive_sealed(datagram, Direct(source), now)
        elif kind == _RELAYED:
            self._receive_relayed(datagram, source, now)
        else:
            self.datagrams_unknown += 1
        self._settle(now)

    def handle_timeout(self, now: float) -> None:
        """Let every machine do what is due."""
        self._now = now
        self.endpoint.handle_timeout(now)
        self.calls.handle_timeout(now)
        self.station.handle_timeout(now)
        self._searches.handle_timeout(now)
        self._settle(now)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        return min(
            self.endpoint.next_timeout(),
            self.calls.next_timeout(),
            self._searches.next_timeout(),
            self.station.next_timeout(),
        )

    def messages_to_send(self) -> list[tuple[Address, bytes]]:
        """Drain the datagrams to send; those the gate refuses are not among them."""
        self._to_send.extend(self._phone.datagrams_to_send(self._now))
        for address, datagram in self.endpoint.messages_to_send():
            if datagram[0] == _INITIATION:
                self.gate.grant(address, len(datagram), self._now)
            self._to_send.append((address, datagram))
        to_send, self._to_send = self._to_send, []
        allows, now = self.gate.allows, self._now
        return [each for each in to_send if allows(each[0], len(each[1]), now)]

    def events(self) -> list[NodeEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events + self._phone.events()

    # -- what arrives ------------------------------------------------------------------

    def _is_ours(self, datagram: bytes) -> bool:
        return self.endpoint.owns(int.from_bytes(datagram[1:5], "little"))

    def _receive_stun(self, datagram: bytes, source: Address, now: float) -> None:
        if self._phone.receive_check(datagram, source, now):
            return
        answer = None
        if self.supernode is not None:
            with contextlib.suppress(WireError):
                answer = stun.reflect(datagram, source)
        if answer is None:
            self.datagrams_unknown += 1
        else:
            self._to_send.append((source, answer))

    def _receive_relayed(self, datagram: bytes, source: Address, now: float) -> None:
        try:
            channel, inner = decode_relayed(datagram)
        except WireError:
            self.datagrams_unknown += 1
            return
        if self.calls.receive_relayed(channel, inner, source, now):
            return
        if self.supernode is None:
            self.datagrams_unknown += 1
            return
        forward = self.supernode.forward(datagram, source, now)
        if forward is None:
            return
        if forward.target is None:
            self.calls.receive_relayed(channel, inner, self._config.address, now)
        else:
            self._to_send.append((forward.target, forward.datagram))

    # -- serving -----------------------------------------------------------------------

    def _serve(self, request: Request, question: Question, now: float) -> Answer | None:
        """Answer a request; None if the supernode part answers later."""
        match request:
            case Deliver(introduction, payload):
                return self._take_delivery(introduction, payload, question, now)
            case _ if self.supernode is not None:
                return self.supernode.serve(request, question, now)
            case Ping():
                return Pong(question.source.pack(), load=1.0, relay_load=1.0)
        return Refused(Refusal.NOT_A_SUPERNODE)

    def _take_delivery(
        self, introduction: bytes, payload: bytes, question: Question, now: float
    ) -> Answer:
        homes = self.station.homes.homes if self.station.homes else ()
        if question.static not in {home.static for home in homes}:
            return Refused(Refusal.NOT_FOR_YOU)
        home = Peer(question.source, question.static)
        self._phone.receive_opening(introduction, payload, home, now)
        return Done()

    def _take_notice(self, static: bytes, notice: Notice, now: float) -> None:
        if self.station.receive_notice(static, notice, now):
            return
        match notice:
            case Goodbye():
                self.endpoint.close(static)
            case Signal(introduction, payload):
                self.calls.receive_signal(introduction, payload, now)

    # -- carrying from machine to machine ----------------------------------------------

    def _settle(self, now: float) -> None:
        for _ in range(SETTLE_ROUNDS_MAX):
            moved = self._settle_endpoint(now)
            moved |= self._settle_asks(now)
            moved |= self.dispatch.hand_over_own(now)
            moved |= self._settle_station(now)
            moved |= self._settle_searches()
            moved |= self._phone.settle(now)
            if not moved:
                return
        raise AssertionError("the machines of a node do not come to rest")

    def _settle_endpoint(self, now: float) -> bool:
        events = self.endpoint.events()
        for event in events:
            try:
                self._take_endpoint_event(event, now)
            except WireError:
                self.bodies_refused += 1
        return bool(events)

    def _take_endpoint_event(self, event: EndpointEvent, now: float) -> None:
        match event:
            case Asked(question, body):
                try:
                    answer = self._serve(decode_request(body), question, now)
                except WireError:
                    self.endpoint.answer(
                        question, encode_body(Refused(Refusal.NOT_UNDERSTOOD))
                    )
                    raise
                if answer is not None:
                    self.endpoint.answer(question, encode_body(answer))
            case Answered():
                self.dispatch.answered(event, now)
            case Expired():
                self.dispatch.expired(event, now)
            case Noticed(static, body):
                self._take_notice(static, decode_notice(body), now)
            case SessionMoved(static, address):
                if self.supernode is not None:
                    self.supernode.peer_moved(static, address)
            case SessionClosed(static):
                if self.supernode is not None:
                    self.supernode.peer_left(static, now)

    def _settle_asks(self, now: float) -> bool:
        moved = False
        for asker in self._askers():
            for ask in asker.messages_to_send():
                self.dispatch.send(asker, ask, now)
                moved = True
        return moved

    def _askers(self) -> list[Asker]:
        return [self.calls, *self._searches.askers(), *self.station.askers()]

    def _settle_station(self, now: float) -> bool:
        moved = self.station.settle(now)
        for delivered in self.station.deliveries():
            introduction, payload = delivered.introduction, delivered.payload
            if delivered.is_opening:
                us = self.station.us
                self._phone.receive_opening(introduction, payload, us, now)
            else:
                self.calls.receive_signal(introduction, payload, now)
        if self.supernode is not None:
            for question, answer in self.supernode.answers():
                self.endpoint.answer(question, encode_body(answer))
            for static, notice in self.supernode.notices():
                self.endpoint.notify(static, encode_body(notice))
        self._events.extend(self.station.events())
        return moved

    def _settle_searches(self) -> bool:
        ended = self._searches.events()
        self._events.extend(ended)
        return bool(ended)


_CHECKS: Final = range(4)
_INITIATION, _DATA, _MEDIA, _RELAYED = 0x04, 0x07, 0x08, 0x09
_HANDSHAKES: Final = frozenset((_INITIATION, 0x05, 0x06, 0x0B))
