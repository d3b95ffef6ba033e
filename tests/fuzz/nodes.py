"""Whole nodes in the middle of sessions and calls, and whoever wants them to fall.

Every round has a world of its own: three supernodes and three leaves, of which one each
is hostile: an insider with sessions, registrations and calls of its own, that answers
whatever it likes. The victim (a leaf or a supernode) talks with all of them while it
takes the inputs:

    noise       random bytes, of every kind
    mutated     datagrams that really went around, changed
    repeated    the same, once more, from elsewhere or later
    sealed      an insider's session: bodies of every kind, with awkward values
    in a call   the same from the other end of a call: bodies, media, checks
    openings    introductions and deliveries of openings, real, changed, or hostile

The world asserts what `tests.overlay.machines` says; here, beside, that one input does
not cause many datagrams and that the victim's tables stay within their limits.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from nat.address import Address
from overlay import handshake, tai64n
from overlay.ask import Peer
from overlay.call import Call
from overlay.call_messages import Opening, encode_opening
from overlay.dial import Local
from overlay.endpoint_events import Asked, EndpointEvent
from overlay.envelope import Envelope, EnvelopeKind, encode_envelope
from overlay.line import Line
from overlay.messages import (
    Deliver,
    Introduce,
    encode_body,
)
from overlay.node import NodeMachine
from overlay.node_events import SupernodeMode
from overlay.noise import Handshake, Pattern
from overlay.seal import Kind
from overlay.session import Session
from tests.fuzz.bodies import Bodies
from tests.fuzz.mutation import mutate, some_bytes
from tests.overlay.machines import Node, World

__all__ = ["ROUND_INPUTS", "fuzz_node"]

ROUND_INPUTS: Final = 500
REACTION_MAX: Final = 64
# Datagrams that one input may cause at once: greetings, pings of new neighbours.
KEPT_MAX: Final = 2_000
HONEST: Final = 0.5


class Hostile(NodeMachine):
    """A node that answers half of what it is asked with something else."""

    bodies: Bodies
    random: Random
    turned = False

    def _take_endpoint_event(self, event: EndpointEvent, now: float) -> None:
        lies = self.turned and self.random.random() > HONEST
        if isinstance(event, Asked) and lies:
            if self.random.random() < 0.9:
                self.endpoint.answer(event.question, self.bodies.answer())
            return
        super()._take_endpoint_event(event, now)


class Scene:
    """One round's world, brought to the point where everything is going on."""

    def __init__(self, random: Random, victim: str) -> None:
        self.random = random
        self.world = World(seed=random.getrandbits(32))
        seeds = [Address(f"20.{number}.0.1", 7000) for number in range(3)]
        kinds: list[type[NodeMachine]] = [NodeMachine, NodeMachine, Hostile]
        self.supernodes = [
            self.world.add(
                number,
                supernode=SupernodeMode.ON,
                seeds=seeds,
                kind=kind,
                voices_max=4,
            )
            for number, kind in enumerate(kinds)
        ]
        self.world.run(2)
        self.leaves = [
            self.world.add(
                10 + number, seeds=seeds, name=f"leaf{number}", kind=kind, voices_max=4
            )
            for number, kind in enumerate(kinds)
        ]
        self.world.run(3)
        self.kept: list[tuple[bytes, Address, Address]] = []
        self.world.tap = self._keep
        self.victim = (self.leaves if victim == "leaf" else self.supernodes)[0]
        self.insiders = [self.supernodes[2], self.leaves[2]]
        for node in (*self.leaves, *self.supernodes):
            node.answers = True
        callers = [node for node in self.leaves if node is not self.victim]
        for caller in (*callers, self.supernodes[2]):
            caller.call(self.victim)
            self.world.run(1)
        self._turn()

    def _turn(self) -> None:
        """From here on the insiders do as they like."""
        self.bodies = Bodies(self.random, self.leaves[2].identity, self.world.now)
        for node in self.world.nodes.values():
            self.bodies.addresses.append(node.address)
            known = (node.identity.public_key, node.identity.dh_public)
            self.bodies.known_bytes += [*known, node.machine.presence.raw]
            supernode = node.machine.supernode
            if supernode is not None:
                self.bodies.known_bytes.append(supernode.members.descriptor.raw)
                self.bodies.known_bytes += [
                    report.channel for report in supernode.relay.channels()
                ]
                self.bodies.known_bytes += supernode.introductions._open
            self.bodies.known_bytes += [
                call.introduction for call in node.machine.calls
            ]
        for insider in self.insiders:
            self.world.unruly.add(insider.address)
            assert isinstance(insider.machine, Hostile)
            insider.machine.bodies = self.bodies
            insider.machine.random = self.random
            insider.machine.turned = True

    def _keep(self, datagram: bytes, source: Address, target: Address) -> None:
        self.kept.append((datagram, source, target))
        if len(self.kept) > KEPT_MAX:
            del self.kept[: KEPT_MAX // 2]

    # -- the inputs --------------------------------------------------------------------

    def throw(self) -> None:
        """Hand the victim one input, and let some time pass now and then."""
        inputs: tuple[Callable[[], None], ...] = (
            self._noise,
            self._mutated,
            self._mutated,
            self._repeated,
            self._sealed,
            self._sealed,
            self._sealed,
            self._in_call,
            self._in_call,
            self._opening,
        )
        self.random.choice(inputs)()
        if self.random.random() < 0.05:
            lots = (0.0, 0.001, 0.02, 0.02, 0.1, 0.1, 0.5, 2.0)
            self.world.run(self.random.choice(lots))

    def _hit(self, datagram: bytes, source: Address) -> None:
        before = self.world.sent
        self.world.inject(datagram, source, self.victim.address)
        assert self.world.sent - before <= REACTION_MAX, self.world.sent - before

    def _somewhere(self) -> Address:
        if self.random.random() < 0.5:
            return self.random.choice(self.bodies.addresses)
        host = f"{self.random.randrange(1, 224)}.{self.random.randrange(256)}.0.1"
        return Address(host, self.random.randrange(65_536))

    def _noise(self) -> None:
        first = bytes((self.random.choice((*range(12), 255)),))
        self._hit(first + some_bytes(self.random), self._somewhere())

    def _mutated(self) -> None:
        samples = [datagram for datagram, _, _ in self.kept[-200:]] or [b""]
        _, source, _ = self.random.choice(self.kept)
        source = source if self.random.random() < 0.7 else self._somewhere()
        self._hit(mutate(self.random, samples), source)

    def _repeated(self) -> None:
        datagram, source, _ = self.random.choice(self.kept)
        source = source if self.random.random() < 0.5 else self._somewhere()
        self._hit(datagram, source)

    def _sealed(self) -> None:
        insider = self.random.choice(self.insiders)
        session = self._session(insider)
        if session is None:
            return
        kind = self.random.choice((*EnvelopeKind, EnvelopeKind.REQUEST))
        body = {
            EnvelopeKind.REQUEST: self.bodies.request,
            EnvelopeKind.ANSWER: self.bodies.answer,
            EnvelopeKind.NOTICE: self.bodies.notice,
        }[kind]()
        if self.random.random() < 0.1:
            body = self.bodies.any()
        number = self.random.choice((0, 1, self.random.getrandbits(32), 2**32 - 1))
        plaintext = encode_envelope(Envelope(kind, number, body))
        if self.random.random() < 0.05:
            plaintext = some_bytes(self.random)
        transports = session.transports()
        if not transports:
            return
        transport = self.random.choice(transports)
        source = insider.address if self.random.random() < 0.8 else self._somewhere()
        self._hit(transport.seal(Kind.DATA, plaintext), source)

    def _session(self, insider: Node) -> Session | None:
        static = self.victim.identity.dh_public
        session = insider.machine.endpoint.session_with(static)
        if session is None:
            peer = Peer(self.victim.address, static)
            insider.machine.endpoint.request(
                peer, self.bodies.request(), self.world.now
            )
            self.world.drain(insider)
            self.world.run(0.1)
        return session

    def _in_call(self) -> None:
        calls = [
            (insider, call)
            for insider in self.insiders
            for call in insider.machine.calls
            if call.line is not None and call.line.open and call.paths is not None
        ]
        if not calls:
            insider = self.random.choice(self.insiders)
            if self._may_call(insider):
                insider.call_at(self.victim.machine.presence)
                self.world.run(0.5)
            return
        self._speak(*self.random.choice(calls))

    def _may_call(self, insider: Node) -> bool:
        return insider.machine.calls.find(1) is None and not (
            insider.machine.calls.is_full
        )

    def _speak(self, insider: Node, call: Call) -> None:
        assert call.line is not None
        assert call.line._transport is not None
        assert call.paths is not None
        transport, lot = call.line._transport, self.random.random()
        if lot < 0.5:
            body = self.bodies.in_call()
            number = self.random.getrandbits(32)
            kind = self.random.choice((*EnvelopeKind, EnvelopeKind.REQUEST))
            plaintext = encode_envelope(Envelope(kind, number, body))
            datagram = transport.seal(Kind.DATA, plaintext)
        elif lot < 0.6:
            datagram = transport.seal(Kind.DATA, some_bytes(self.random)[:1_100])
        elif lot < 0.8:
            datagram = transport.seal(Kind.MEDIA, some_bytes(self.random)[:1_100])
        else:
            use = self.random.random() < 0.3
            _, datagram = call.paths._checks.request(use_candidate=use)
        channels = list(call.meeting.by_channel.items())
        if channels and self.random.random() < 0.5:
            channel, relay = self.random.choice(channels)
            self._hit(b"\x09" + channel + datagram, relay.address)
        else:
            near = self.random.random() < 0.8
            self._hit(datagram, insider.address if near else self._somewhere())

    def _opening(self) -> None:
        insider = self.random.choice(self.insiders)
        payload = self._opening_payload(insider.machine.endpoint.local)
        identifier = self.random.randbytes(16)
        if self.random.random() < 0.3:
            identifier = self.bodies._bytes(16)
        target = self.victim.identity.public_key
        request = (
            Introduce(identifier, target, payload)
            if self.victim.machine.supernode is not None
            else Deliver(identifier, payload)
        )
        session = self._session(insider)
        if session is None or not session.transports():
            return
        number = self.random.getrandbits(32)
        ask = Envelope(EnvelopeKind.REQUEST, number, encode_body(request))
        sealed = session.transports()[0].seal(Kind.DATA, encode_envelope(ask))
        self._hit(sealed, insider.address)

    def _opening_payload(self, local: Local) -> bytes:
        """Give an opening: well made with something inside, or badly made."""
        offer = self.bodies.in_call()
        static = self.victim.identity.dh_public
        lot = self.random.random()
        if lot < 0.5:
            return Line.call(local, static, offer, self.world.now)[1]
        inside = self.random.choice(
            (
                some_bytes(self.random)[:600],
                handshake.encode_payload(
                    handshake.Opening(tai64n.encode(self.world.now), 2**64 - 1, offer)
                ),
                handshake.encode_payload(handshake.Opening(bytes(12), 0, None)),
            )
        )
        ours = Handshake(
            Pattern.IK,
            initiator=True,
            prologue=local.prologue,
            ephemeral=self.random.randbytes(32),
            static=local.static,
            remote_static=static,
        )
        opening = encode_opening(
            Opening(local.take_index(), ours.write_message(inside))
        )
        return opening if lot < 0.8 else mutate(self.random, [opening])[:1_000]

    # -- what must hold ----------------------------------------------------------------

    def check(self) -> None:
        """Assert that the victim lives, and its tables are within their limits."""
        machine = self.victim.machine
        assert machine.next_timeout() >= self.world.now
        endpoint, calls = machine.endpoint, machine.calls
        limits: list[tuple[int, int]] = [
            (len(endpoint._sessions), 4_096),
            (len(endpoint._sessions._by_index), 8 * 4_096),
            (len(endpoint._requests), 8_192),
            (len(machine.dispatch._under_way), 8_192),
            (len(list(calls)), 24),
            (len(calls._by_introduction), 24),
            (len(machine._searches.askers()), 64),
        ]
        if machine.station.homes is not None:
            limits += [(len(machine.station.homes.homes), 3)]
            limits += [(len(machine.station.homes.known.peers()), 64)]
        if machine.supernode is not None:
            counts = machine.supernode.statistics()
            limits += [
                (counts["records"], 40_000),
                (counts["leaves"], 750),
                (counts["introductions"], 1_024),
                (counts["relay_channels"], 20),
                (len(machine.supernode._waiting), 1_024),
            ]
        for held, limit in limits:
            assert held <= limit, limits


def fuzz_node(random: Random, victim: str, inputs: int) -> int:
    """Throw so many inputs at a `leaf` or `supernode`; gives how many it refused."""
    scene = Scene(random, victim)
    for number in range(inputs):
        scene.throw()
        if number % 100 == 99:
            scene.check()
    scene.world.run(5)
    scene.check()
    machine = scene.victim.machine
    return (
        machine.datagrams_unknown
        + machine.bodies_refused
        + machine.endpoint.statistics()["datagrams_refused"]
        + machine.calls.statistics.unknown_datagrams
        + machine.calls.statistics.refused_openings
    )
