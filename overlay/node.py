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

The role is a leaf's (`overlay.homes`) or a supernode's (`overlay.supernode`). The first
node of a network, to whom nobody answers because nobody is named, promotes itself.
Sans-IO: `receive` takes any bytes from anywhere and raises nothing.
"""

from __future__ import annotations

import math
from typing import Final

from nat import stun
from nat.address import Address
from nat.errors import WireError
from nat.gate import Gate
from nat.paths import Direct
from nat.relay import decode_relayed
from overlay.ask import Asker, Peer
from overlay.call import Call
from overlay.call_messages import Purpose
from overlay.dial import Local
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
from overlay.handshake import network_id, prologue
from overlay.home import AtHome, HomeLost, NobodyAnswers
from overlay.homes import Homes
from overlay.incoming import IncomingCall
from overlay.messages import (
    Answer,
    Deliver,
    Done,
    Goodbye,
    LeaveRelay,
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
)
from overlay.node_events import (
    NodeConfig,
    NodeEvent,
    Ready,
    Role,
    RoleChanged,
    SupernodeMode,
)
from overlay.outgoing import OutgoingCall
from overlay.own_records import OwnRecords
from overlay.phone import Phone
from overlay.publication import Published
from overlay.records import Presence
from overlay.searches import Searches
from overlay.supernode import Delivered, Supernode, SupernodeEvent

__all__ = ["NodeMachine"]

REFRESH_S: Final = 300.0
# Of a supernode's own presence; a leaf's is refreshed by `overlay.homes`.
SETTLE_ROUNDS_MAX: Final = 64
# Machines hand each other work in a few rounds; more is a loop of our own making.


class NodeMachine:
    """One node, from its start to its end."""

    def __init__(self, config: NodeConfig, now: float) -> None:
        self._config = config
        self._static = config.identity.dh_public
        network = network_id(config.network_name)
        self.gate: Final = Gate()
        self.endpoint: Final = Endpoint(
            config.identity.dh, network, self.gate, config.random_bytes
        )
        self.supernode: Supernode | None = None
        self.homes: Homes | None = None
        self.why_role = "it has just started"
        self._local = Local(
            config.identity.dh,
            prologue(network),
            config.random_bytes,
            self.endpoint.take_index,
        )
        self._dispatch = Dispatch(
            self.endpoint, self._static, config.address, self._serve
        )
        self._records = OwnRecords(
            config.identity, config.name, config.client_version, now
        )
        self._phone = Phone(
            config, self._local, self._records, self.endpoint, self.gate
        )
        self.calls: Final = self._phone.calls
        self._refresh_at = math.inf
        self._searches = Searches(config.random_bytes)
        self._us = Peer(config.address, self._static)
        self._to_send: list[tuple[Address, bytes]] = []
        self._events: list[NodeEvent] = []
        self._now = now
        self._datagrams_unknown = 0
        self._bodies_refused = 0

    # -- for the owner -----------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Whether the node serves others."""
        return Role.LEAF if self.supernode is None else Role.SUPERNODE

    @property
    def presence(self) -> Presence:
        """What we last said of where we can be met."""
        return self._records.presence

    def begin(self, now: float) -> None:
        """Join the network, or be its first node."""
        self._now = now
        if self._config.supernode is SupernodeMode.ON:
            self._promote("it was told to be one (--supernode on)", now)
        else:
            self.why_role = "supernodes are there already"
            self.homes = Homes(
                self._config.seeds,
                lambda homes, at: self._records.write_presence(homes, at).raw,
                self._records.claim_raw,
                self._config.random_bytes,
                self._config.homes_timing,
            )
            self._phone.homes = self.homes
            self.homes.begin(now)
        self._settle(now)

    def look_up(self, key: bytes, now: float) -> int | None:
        """Look up a key; gives the number of its `LookupEnded`, None if too many."""
        number = self._searches.look_up(key, self._homes_to_ask(), now)
        self._settle(now)
        return number

    def survey(self, now: float) -> int:
        """List the supernodes our home knows; gives the number of `SurveyEnded`."""
        homes = self._homes_to_ask()
        number = self._searches.survey(homes[0] if homes else self._us)
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

    def answer(self, call: IncomingCall, now: float) -> None:
        """Accept a call that rings here."""
        call.answer(now)
        self._changed(call, now)

    def refuse(self, call: IncomingCall, now: float) -> None:
        """Refuse a call that rings here."""
        call.refuse(now)
        self._changed(call, now)

    def hang_up(self, call: Call, now: float) -> None:
        """End a call."""
        call.hang_up(now)
        self._changed(call, now)

    def send_media(self, call: Call, payload: bytes, now: float) -> bool:
        """Send a piece of media; False if no path is there for it yet."""
        self._now = now
        return call.send_media(payload, now)

    def leave(self, now: float) -> None:
        """Say goodbye to everyone; the datagrams are in the next drain."""
        self._now = now
        for call in self.calls:
            call.hang_up(now)
            self.calls.changed(call)
        self._settle(now)
        self.endpoint.notify_all(encode_body(Goodbye()))

    def statistics(self) -> dict[str, int]:
        """Give every count of drops and of what there is."""
        gate = self.gate.statistics()
        calls = self.calls.statistics
        counts = {
            **self.endpoint.statistics(),
            "datagrams_unknown": self._datagrams_unknown,
            "bodies_refused": self._bodies_refused,
            "answers_refused": self._dispatch.answers_refused,
            "gate_refused": gate.refused,
            "calls_placed": calls.placed,
            "calls_received": calls.received,
            "calls_busy": calls.busy,
            "openings_refused": calls.refused_openings,
            "call_datagrams_unknown": calls.unknown_datagrams,
            "call_signals_unknown": calls.unknown_signals,
        }
        return counts | (self.supernode.statistics() if self.supernode else {})

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
            self._datagrams_unknown += 1
        self._settle(now)

    def handle_timeout(self, now: float) -> None:
        """Let every machine do what is due."""
        self._now = now
        self.endpoint.handle_timeout(now)
        self.calls.handle_timeout(now)
        if self.homes is not None:
            self.homes.handle_timeout(now)
        if self.supernode is not None:
            self.supernode.handle_timeout(now)
        self._searches.handle_timeout(now)
        if now >= self._refresh_at:
            self._publish_own(now)
        self._settle(now)

    def next_timeout(self) -> float:
        """Give the instant at which something is due."""
        instants = [
            self._refresh_at,
            self.endpoint.next_timeout(),
            self.calls.next_timeout(),
            self._searches.next_timeout(),
        ]
        if self.homes is not None:
            instants.append(self.homes.next_timeout())
        if self.supernode is not None:
            instants.append(self.supernode.next_timeout())
        return min(instants)

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
        if self.calls.receive_check(datagram, source, now):
            return
        answer = None
        if self.supernode is not None:
            answer = stun.reflect(datagram, source)
        if answer is None:
            self._datagrams_unknown += 1
        else:
            self._to_send.append((source, answer))

    def _receive_relayed(self, datagram: bytes, source: Address, now: float) -> None:
        try:
            channel, inner = decode_relayed(datagram)
        except WireError:
            self._datagrams_unknown += 1
            return
        if self.calls.receive_relayed(channel, inner, source, now):
            return
        if self.supernode is None:
            self._datagrams_unknown += 1
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
            case Ping():
                load = self.supernode.registry.load if self.supernode else 1.0
                relay_load = self.supernode.relay.load() if self.supernode else 1.0
                return Pong(question.source.pack(), load, relay_load)
            case Deliver(introduction, payload):
                return self._take_delivery(introduction, payload, question, now)
            case _ if self.supernode is not None:
                return self.supernode.serve(request, question, now)
        return Refused(Refusal.NOT_A_SUPERNODE)

    def _take_delivery(
        self, introduction: bytes, payload: bytes, question: Question, now: float
    ) -> Answer:
        homes = self.homes.homes if self.homes else ()
        if question.static not in {home.static for home in homes}:
            return Refused(Refusal.NOT_REGISTERED)
        home = Peer(question.source, question.static)
        self._phone.receive_opening(introduction, payload, home, now)
        return Done()

    def _take_notice(self, static: bytes, notice: Notice, now: float) -> None:
        match notice:
            case Goodbye():
                self._forget(static, now)
                self.endpoint.close(static)
            case LeaveRelay(channel):
                if self.supernode is not None:
                    self.supernode.relay.leave(channel, static, now)
            case Signal(introduction, payload):
                if self.supernode is not None and self._is_introducing(introduction):
                    self.supernode.receive_signal(notice, static, now)
                else:
                    self.calls.receive_signal(introduction, payload, now)

    def _is_introducing(self, introduction: bytes) -> bool:
        return (
            self.supernode is not None and introduction in self.supernode.introductions
        )

    def _forget(self, static: bytes, now: float) -> None:
        if self.supernode is not None:
            self.supernode.members.goodbye(static, now)
            self.supernode.peer_left(static, now)
        if self.homes is not None:
            self.homes.goodbye(static, now)

    # -- roles -------------------------------------------------------------------------

    def _promote(self, why: str, now: float) -> None:
        """Serve others from now on."""
        config = self._config
        known = self.homes.known() if self.homes else ()
        self.homes = self._phone.homes = None
        self.why_role = why
        self.supernode = Supernode(
            config.identity,
            config.address,
            seeds=[*map(Peer, config.seeds), *known],
            client_version=config.client_version,
            random_bytes=config.random_bytes,
            now=now,
            timing=config.members_timing,
        )
        self._phone.supernode = self.supernode
        self._events.append(RoleChanged(Role.SUPERNODE, why))
        self._publish_own(now)

    def _publish_own(self, now: float) -> None:
        assert self.supernode is not None
        self._refresh_at = now + REFRESH_S
        presence = self._records.write_presence((self._us,), now)
        self.supernode.publish_own(presence, self._records.claim, now)

    def _take_nobody(self, event: NobodyAnswers, now: float) -> None:
        alone = not self._config.seeds and self.homes and not self.homes.known()
        if self._config.supernode is SupernodeMode.AUTO and alone:
            self._promote("no other node is known: it is the first of its network", now)
        else:
            self.why_role = "no supernode answers"
            self._events.append(event)

    # -- carrying from machine to machine ----------------------------------------------

    def _settle(self, now: float) -> None:
        for _ in range(SETTLE_ROUNDS_MAX):
            moved = self._settle_endpoint(now)
            moved |= self._settle_asks(now)
            moved |= self._dispatch.hand_over_own(now)
            moved |= self._settle_supernode(now)
            moved |= self._settle_homes(now)
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
                self._bodies_refused += 1
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
                self._dispatch.answered(event, now)
            case Expired():
                self._dispatch.expired(event, now)
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
                self._dispatch.send(asker, ask, now)
                moved = True
        return moved

    def _askers(self) -> list[Asker]:
        askers: list[Asker] = [
            self.calls,
            *self._searches.askers(),
        ]
        if self.homes is not None:
            askers.append(self.homes)
        if self.supernode is not None:
            askers.extend(self.supernode.askers())
        return askers

    def _settle_supernode(self, now: float) -> bool:
        if self.supernode is None:
            return False
        self.supernode.settle(now)
        events = self.supernode.events()
        for event in events:
            self._take_supernode_event(event, now)
        answers = self.supernode.answers()
        for question, answer in answers:
            self.endpoint.answer(question, encode_body(answer))
        notices = self.supernode.notices()
        for static, notice in notices:
            self.endpoint.notify(static, encode_body(notice))
        return bool(events or answers or notices)

    def _take_supernode_event(self, event: SupernodeEvent, now: float) -> None:
        match event:
            case Delivered(introduction, payload, is_opening=True):
                self._phone.receive_opening(introduction, payload, self._us, now)
            case Delivered(introduction, payload):
                self.calls.receive_signal(introduction, payload, now)
            case Published(public_key, _, stored, owners):
                if public_key == self._config.identity.public_key:
                    self._events.append(Ready(stored, owners))
            case _:
                self._events.append(event)

    def _settle_homes(self, now: float) -> bool:
        events = self.homes.events() if self.homes else []
        for event in events:
            match event:
                case AtHome(_, stored, owners):
                    self.why_role = "it is a leaf: supernodes are there already"
                    self._events.extend((event, Ready(stored, owners)))
                case HomeLost():
                    self._events.append(event)
                case NobodyAnswers():
                    self._take_nobody(event, now)
        return bool(events)

    def _settle_searches(self) -> bool:
        ended = self._searches.events()
        self._events.extend(ended)
        return bool(ended)

    def _homes_to_ask(self) -> list[Peer]:
        if self.supernode is not None:
            return [self._us]
        return [home.peer for home in self.homes.homes] if self.homes else []

    def _changed(self, call: Call, now: float) -> None:
        self._now = now
        self.calls.changed(call)
        self._settle(now)


_CHECKS: Final = range(4)
_INITIATION, _DATA, _MEDIA, _RELAYED = 0x04, 0x07, 0x08, 0x09
_HANDSHAKES: Final = frozenset((_INITIATION, 0x05, 0x06, 0x0B))
