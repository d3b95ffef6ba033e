"""What a relay can know of the call it carries: nothing.

One supernode is everything at once: home of both ends, introducer and relay. All that
it sends, receives and unseals is kept, and its whole memory is walked, object by
object, during the call and after it.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from nat.address import Address
from nat.paths import Relayed
from overlay.call_state import CallState
from overlay.endpoint_events import Question
from overlay.incoming import IncomingCall
from overlay.messages import Answer, Introduce, Request, Signal
from overlay.node import NodeMachine
from overlay.node_events import SupernodeMode
from overlay.noise import derive
from overlay.outgoing import OutgoingCall
from overlay.seal import REPLAY_WINDOW, SealStatistics
from tests.overlay.machines import Node, World

FRAMES = 100


@dataclass
class Scene:
    """A call by one relay, and all that this relay has seen."""

    world: World
    relay: Node
    alice: Node
    bob: Node
    ours: OutgoingCall
    theirs: IncomingCall
    spoken: list[bytes] = field(default_factory=list)
    traffic: list[bytes] = field(default_factory=list)
    unsealed: list[bytes] = field(default_factory=list)

    @property
    def media(self) -> list[bytes]:
        """The relayed frames that carry voice, in order."""
        return [d for d in self.traffic if d[0] == 9 and d[9] == 8]

    def counted(self) -> SealStatistics:
        assert self.theirs.line is not None
        counted = self.theirs.line.statistics()
        assert counted is not None
        return counted

    def relay_says(self, frame: bytes) -> None:
        self.world.inject(frame, self.relay.address, self.bob.address)

    def secrets(self) -> list[bytes]:
        """All that only the two ends may know."""
        secrets = [*self.spoken]
        for call in (self.ours, self.theirs):
            line = call.line
            assert line is not None
            assert line._keys is not None
            for key in (line._keys.send, line._keys.receive):
                secrets += [key, derive(key, b"media", 32)]
            credentials = line.credentials()
            passwords = (credentials.our_password, credentials.their_password)
            secrets += [password.encode() for password in passwords]
        return secrets


@pytest.fixture
def scene() -> Scene:
    world = World(seed=4)
    relay = world.add(0, supernode=SupernodeMode.ON)
    alice = world.add(1, seeds=[relay.address], is_contact=lambda _: False)
    bob = world.add(2, seeds=[relay.address], is_contact=lambda _: False)
    world.run(5)
    traffic: list[bytes] = []
    unsealed: list[bytes] = []

    def tap(datagram: bytes, source: Address, target: Address) -> None:
        if relay.address in (source, target):
            traffic.append(datagram)

    world.tap = tap
    listen(relay.machine, unsealed)
    ours = alice.call(bob)
    world.run_until(lambda: bob.incoming)
    theirs = bob.incoming[0]
    world.run(1)
    bob.answer(theirs)
    world.run_until(lambda: ours.state is CallState.CONNECTED)
    scene = Scene(
        world, relay, alice, bob, ours, theirs, traffic=traffic, unsealed=unsealed
    )
    for _ in range(FRAMES):
        for node, call in ((alice, ours), (bob, theirs)):
            frame = world.random.randbytes(60)
            scene.spoken.append(frame)
            assert node.say(call, frame)
        world.run(0.02)
    world.run(0.2)
    return scene


def listen(machine: NodeMachine, unsealed: list[bytes]) -> None:
    """Keep what the relay's own node reads of introductions."""
    supernode = machine.supernode
    assert supernode is not None
    serve, receive_signal = supernode.serve, supernode.receive_signal

    def serve_and_keep(
        request: Request, question: Question, now: float
    ) -> Answer | None:
        if isinstance(request, Introduce):
            unsealed.append(request.payload)
        return serve(request, question, now)

    def receive_and_keep(signal: Signal, sender: bytes, now: float) -> None:
        unsealed.append(signal.payload)
        receive_signal(signal, sender, now)

    supernode.serve = serve_and_keep  # type: ignore[method-assign]  # a tap
    supernode.receive_signal = receive_and_keep  # type: ignore[method-assign]


def everything_in(root: object) -> Iterator[object]:
    """Walk all objects that can be reached from one, but not code and its globals."""
    seen: set[int] = set()
    left = [root]
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, type | types.ModuleType):
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, types.FunctionType):
            left += list(found.__closure__ or ())
        elif not isinstance(found, types.CodeType):
            left += gc.get_referents(found)


def memory_of(machine: NodeMachine) -> list[bytes]:
    """Give every string of bytes or characters that a node holds."""
    held = []
    for found in everything_in(machine):
        if isinstance(found, bytes | bytearray):
            held.append(bytes(found))
        elif isinstance(found, str):
            held.append(found.encode())
    return held


def test_the_walk_finds_what_a_node_holds(scene: Scene) -> None:
    """Or else the tests below would prove nothing: the ends do hold their secrets."""
    held = b"\n".join(memory_of(scene.alice.machine))
    line = scene.ours.line
    assert line is not None
    assert line._keys is not None
    assert line._keys.send in held
    assert line.credentials().our_password.encode() in held
    assert any(isinstance(o, ChaCha20Poly1305) for o in everything_in(scene.relay))


def test_the_relay_did_carry_the_call(scene: Scene) -> None:
    assert len(scene.media) == 2 * 2 * FRAMES  # in and out, both ways
    assert len(scene.unsealed) >= 3
    assert all(isinstance(r.route, Relayed) for r in scene.ours.path_reports())
    assert sorted(scene.alice.media + scene.bob.media) == sorted(scene.spoken)


@pytest.mark.parametrize("over", [False, True], ids=["during", "after"])
def test_neither_its_memory_nor_its_traffic_holds_a_secret(
    scene: Scene, over: bool
) -> None:
    if over:
        scene.alice.hang_up(scene.ours)
        scene.world.run(10)
    seen = memory_of(scene.relay.machine) + scene.traffic + scene.unsealed
    everything = b"\n".join(seen)
    assert len(everything) > 50_000
    for secret in scene.secrets():
        assert len(secret) >= 16
        assert secret not in everything
    # A presence is public, but who calls whom with it is said inside the opening.
    assert scene.alice.machine.presence.raw not in b"\n".join(scene.unsealed)


def test_no_key_it_holds_opens_anything_of_the_call(scene: Scene) -> None:
    inner = [d[9:] for d in scene.traffic if d[0] == 9 and d[9] in (7, 8)]
    inner += [payload for payload in scene.unsealed if payload[:1] in (b"\7", b"\10")]
    ciphers = [
        found
        for found in everything_in(scene.relay.machine)
        if isinstance(found, ChaCha20Poly1305)
    ]
    assert len(ciphers) >= 8  # two sessions, two kinds, two directions
    for held in set(memory_of(scene.relay.machine)):
        if len(held) == 32:
            ciphers += [ChaCha20Poly1305(held)]
            ciphers += [ChaCha20Poly1305(derive(held, b"media", 32))]
    for cipher in ciphers:
        for datagram in inner[::7]:
            with pytest.raises(InvalidTag):
                cipher.decrypt(bytes(4) + datagram[5:13], datagram[13:], datagram[:13])


def test_a_frame_that_was_tampered_with_is_dropped_and_counted(scene: Scene) -> None:
    heard, counted = len(scene.bob.media), scene.counted()
    frame = to_bob(scene)[-1]
    for position in range(14, len(frame)):  # from the counter to the tag
        tampered = bytearray(frame)
        tampered[position] ^= 1
        scene.relay_says(bytes(tampered))
    assert len(scene.bob.media) == heard
    assert scene.counted().tampered == counted.tampered + len(frame) - 14
    assert scene.theirs.state is CallState.CONNECTED


def to_bob(scene: Scene) -> list[bytes]:
    """The frames of voice that reach Bob, once each."""
    line = scene.theirs.line
    assert line is not None
    index = line.index.to_bytes(4, "little")
    return list(dict.fromkeys(d for d in scene.media if d[10:14] == index))


def test_a_frame_that_is_repeated_is_dropped_and_counted(scene: Scene) -> None:
    heard, counted = len(scene.bob.media), scene.counted()
    frames = to_bob(scene)
    assert len(frames) == FRAMES
    for frame in frames:
        scene.relay_says(frame)
    assert len(scene.bob.media) == heard
    assert scene.counted().replayed == counted.replayed + FRAMES
    assert scene.theirs.refused >= FRAMES


def test_a_frame_that_comes_late_is_taken_once_within_the_window_only(
    scene: Scene,
) -> None:
    relay, held = scene.relay.address, list[bytes]()

    def hold(datagram: bytes, source: Address, target: Address) -> bool:
        is_voice = datagram[0] == 9 and datagram[9] == 8
        if is_voice and source == relay and target == scene.bob.address:
            held.append(datagram)
            return True
        return False

    scene.world.lose = hold
    for number in range(2):
        scene.alice.say(scene.ours, b"late %d" % number)
    scene.world.run(0.1)
    scene.world.lose = lambda *_: False
    first, second = held
    for number in range(REPLAY_WINDOW - 2):
        scene.alice.say(scene.ours, b"%d" % number)
        scene.world.run(0.02)
    scene.world.run(0.1)
    scene.relay_says(second)
    assert scene.bob.media[-1] == b"late 1"
    assert scene.counted().reordered == 1
    scene.relay_says(second)
    assert scene.counted().replayed == 1
    scene.alice.say(scene.ours, b"one more")
    scene.world.run(0.1)
    heard = len(scene.bob.media)
    scene.relay_says(first)
    assert len(scene.bob.media) == heard
    assert scene.counted().too_old == 1
