"""The calling half of a node: its calls, and how they reach the world.

    signals    --> the home that introduces: another node, or our own supernode part
    datagrams  --> straight, by a relay, or by our own relay's local leg
    addresses  --> the gate hears of probes we begin, and of paths that answered

Where we can be met: at our homes, or at ourselves if we are a supernode. Sans-IO.
"""

from __future__ import annotations

from nat.address import Address
from nat.candidate import CANDIDATES_MAX, Candidate, CandidateKind
from nat.gate import Gate
from nat.paths import Direct, PathAdded, ProbingBegan, Relayed, Route
from nat.relay import encode_relayed
from overlay.ask import Peer
from overlay.call_messages import OfferedRelay, Purpose
from overlay.call_state import Self, Signalled
from overlay.calls import Calls
from overlay.endpoint import Endpoint
from overlay.messages import Contact, LeaveRelay, Signal, encode_body
from overlay.node_events import CallArrived, CallHappened, NodeConfig, NodeEvent
from overlay.outgoing import OutgoingCall
from overlay.own_records import OwnRecords
from overlay.records import Presence
from overlay.station import Station

__all__ = ["Phone"]


class Phone:
    """All that calls; lives as long as the node, whatever its role."""

    def __init__(
        self,
        config: NodeConfig,
        records: OwnRecords,
        station: Station,
        endpoint: Endpoint,
        gate: Gate,
        now: float,
    ) -> None:
        self.calls = Calls(config.is_contact, config.voices_max, now)
        self._station = station
        self._config = config
        self._us = station.us
        self._local = endpoint.local
        self._records = records
        self._endpoint = endpoint
        self._gate = gate
        self._events: list[NodeEvent] = []

    def place(
        self, peer: Presence, purpose: Purpose, now: float, *, relay_only: bool
    ) -> OutgoingCall | None:
        """Call a peer by its presence; None if there are too many calls."""
        if self.calls.is_full:
            return None
        return self.calls.place(
            self._self(), purpose, peer, relay_only=relay_only, now=now
        )

    def receive_opening(
        self, introduction: bytes, payload: bytes, home: Peer, now: float
    ) -> None:
        """Take an opening that a home delivered."""
        relays = self._offered_relays()
        reply = self.calls.receive_opening(
            self._self(), introduction, payload, home, relays, now
        )
        if reply is not None:
            self._send_signal(reply, now)

    def receive_check(self, datagram: bytes, source: Address, now: float) -> bool:
        """Take a STUN datagram that came straight; False if it is for no call."""
        call = self.calls.receive_check(datagram, source, now)
        if call is not None and call.is_proven(Direct(source)):
            self._gate.validate(source, now)  # for as long as the path answers
        return call is not None

    def settle(self, now: float) -> bool:
        """Carry what the calls put out to where it belongs; whether anything moved."""
        signals = self.calls.signals_to_send()
        for signal in signals:
            self._send_signal(signal, now)
        for relay, channel in self.calls.channels_to_leave():
            self._leave_relay(relay, channel, now)
        arrived = self.calls.arrived()
        for incoming in arrived:
            self._events.append(CallArrived(incoming))
            if incoming.purpose is Purpose.PING:
                incoming.answer(now)
                self.calls.changed(incoming)
        for call, event in self.calls.events():
            match event:
                case ProbingBegan(address, allowance_bytes):
                    self._gate.grant(address, allowance_bytes, now)
                case PathAdded(Direct(address)):
                    self._gate.validate(address, now)
            self._events.append(CallHappened(call, event))
        return bool(signals or arrived)

    def datagrams_to_send(self, now: float) -> list[tuple[Address, bytes]]:
        """Drain the datagrams, framed for where they go; after `settle`."""
        framed = (
            self._frame(route, datagram, now)
            for route, datagram in self.calls.datagrams_to_send()
        )
        return [each for each in framed if each is not None]

    def events(self) -> list[NodeEvent]:
        """Drain what happened."""
        events, self._events = self._events, []
        return events

    # -- inside ------------------------------------------------------------------------

    def _self(self) -> Self:
        relays = tuple(relay.contact for relay in self._offered_relays())
        presence = self._records.presence.raw
        return Self(self._local, presence, relays, self._candidates)

    def _offered_relays(self) -> tuple[OfferedRelay, ...]:
        """Give where we can meet a caller: our homes, or ourselves."""
        if self._station.supernode is not None:
            contact = Contact.of(self._us.address, self._local.static.public)
            return (OfferedRelay(contact, 0.0),)
        homes = self._station.homes.homes if self._station.homes else ()
        return tuple(
            OfferedRelay(Contact.of(home.peer.address, home.static), home.rtt_s)
            for home in homes
        )

    def _candidates(self) -> list[Candidate]:
        port = self._config.address.port
        candidates = [
            Candidate.of(CandidateKind.HOST, Address(host, port), rank)
            for rank, host in enumerate(self._config.hosts[: CANDIDATES_MAX - 1])
        ]
        observed = self._station.homes.observed if self._station.homes else None
        if observed is not None and observed.host not in self._config.hosts:
            candidates.append(Candidate.of(CandidateKind.REFLEXIVE, observed))
        return candidates

    def _send_signal(self, signalled: Signalled, now: float) -> None:
        signal = Signal(signalled.introduction, signalled.payload)
        static = signalled.home.static
        assert static is not None
        if static == self._us.static and self._station.supernode is not None:
            self._station.supernode.receive_signal(signal, static, now)
        else:
            self._endpoint.notify(static, encode_body(signal))

    def _leave_relay(self, relay: Contact, channel: bytes, now: float) -> None:
        if relay.static == self._us.static and self._station.supernode is not None:
            self._station.supernode.relay.leave(channel, relay.static, now)
        else:
            self._endpoint.notify(relay.static, encode_body(LeaveRelay(channel)))

    def _frame(
        self, route: Route, datagram: bytes, now: float
    ) -> tuple[Address, bytes] | None:
        match route:
            case Direct(address):
                return address, datagram
            case Relayed(relay, channel) if relay != self._us.address:
                return relay, encode_relayed(channel, datagram)
            case Relayed(_, channel) if self._station.supernode is not None:
                framed = encode_relayed(channel, datagram)
                forward = self._station.supernode.relay.forward_local(framed, now)
                if forward is not None and forward.target is not None:
                    return forward.target, forward.datagram
        return None
