"""Two ends of a call and one supernode between them, under every fate at once.

Whatever is lost, doubled, damaged, late, replayed or done by either side: states move
by the table only, an ended call stays ended and is forgotten, media is heard once and
as it was said, and on lines that work again both ends agree on why it ended.
"""

from __future__ import annotations

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nat.address import Address
from overlay.call import Call
from overlay.call_messages import EndReason, Purpose
from overlay.call_state import TRANSITIONS, CallState
from overlay.incoming import IncomingCall
from overlay.node_events import SupernodeMode
from overlay.outgoing import OutgoingCall
from tests.overlay.machines import Node, Quality, World

LINES = [
    Quality(),
    Quality(loss=0.5),
    Quality(jitter_s=0.5, duplicate=0.5),
    Quality(corrupt=0.5),
    Quality(loss=1.0),
]
SIDES = st.integers(0, 1)


class CallPair(RuleBasedStateMachine):
    """Alice calls Bob, and Bob calls Alice."""

    @initialize(seed=st.integers(0, 2**16), strangers=st.booleans())
    def begin(self, seed: int, strangers: bool) -> None:
        self.world = World(seed=seed)
        relay = self.world.add(0, supernode=SupernodeMode.ON)
        self.ends = tuple(
            self.world.add(
                number,
                seeds=[relay.address],
                is_contact=(lambda _: False) if strangers else (lambda _: True),
                voices_max=4,
            )
            for number in (1, 2)
        )
        self.world.run(3)
        self.presences = [end.machine.presence for end in self.ends]
        self.carried: list[tuple[bytes, Address, Address]] = []
        self.world.tap = lambda *sighting: self.carried.append(sighting)
        self.states: dict[tuple[int, int], CallState] = {}
        self.said: list[set[bytes]] = [set(), set()]
        self.outgoing: list[tuple[int, OutgoingCall]] = []

    @rule(side=SIDES, relay_only=st.booleans(), ping=st.booleans())
    def place(self, side: int, relay_only: bool, ping: bool) -> None:
        caller = self.ends[side]
        if len(list(caller.machine.calls)) < 6:
            call = caller.call_at(
                self.presences[1 - side],
                purpose=Purpose.PING if ping else Purpose.VOICE,
                relay_only=relay_only,
            )
            self.outgoing.append((side, call))

    @rule(side=SIDES, deed=st.sampled_from(["answer", "refuse", "hang up", "hang up"]))
    def act(self, side: int, deed: str) -> None:
        node = self.ends[side]
        for call in node.machine.calls:
            if deed == "hang up":
                node.hang_up(call)
            elif isinstance(call, IncomingCall):
                (node.answer if deed == "answer" else node.refuse)(call)

    @rule(side=SIDES, count=st.integers(1, 20))
    def say(self, side: int, count: int) -> None:
        node = self.ends[side]
        for call in node.machine.calls:
            for _ in range(count):
                word = b"%d" % len(self.said[side])
                self.said[side].add(word)
                node.say(call, word)
                self.world.run(0.02)

    @rule(line=st.sampled_from(LINES))
    def change_lines(self, line: Quality) -> None:
        self.world.quality = line

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.2, 1.0, 11.0, 66.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(position=st.integers(0, 10_000), flip=st.integers(-1, 2_000))
    def replay(self, position: int, flip: int) -> None:
        if not self.carried:
            return
        datagram, source, target = self.carried[-1 - position % len(self.carried)]
        if flip >= 0:
            at = flip % len(datagram)
            damaged = bytes((datagram[at] ^ 1,))
            datagram = datagram[:at] + damaged + datagram[at + 1 :]
            self.world._damaged.add(datagram)
        self.world.inject(datagram, source, target)

    @invariant()
    def states_move_by_the_table(self) -> None:
        for side, node in enumerate(self.ends):
            for call in node.machine.calls:
                before = self.states.get((side, call.number), call.state)
                self.states[side, call.number] = call.state
                assert call.state in reachable(before)
                over = call.state is CallState.ENDED
                assert (call.ended_reason is not None) == over

    @invariant()
    def media_is_heard_once_and_as_it_was_said(self) -> None:
        for side, node in enumerate(self.ends):
            assert set(node.media) <= self.said[1 - side]
            assert len(node.media) == len(set(node.media))

    @invariant()
    def what_was_carried_is_not_kept_for_ever(self) -> None:
        del self.carried[:-2_000]

    def teardown(self) -> None:
        """On lines that work, what goes on can be ended alike, and is forgotten."""
        if not hasattr(self, "ends"):
            return
        self.world.quality = Quality()
        self.world.run(12)
        for side, call in self.outgoing:
            for other in self._others(self.ends[1 - side], call):
                if call.state is other.state is CallState.CONNECTED:
                    self.ends[side].hang_up(call)
                    self.world.run(2)
                    assert call.ended_reason is other.ended_reason is EndReason.HUNG_UP
                    assert (call.ended_by_us, other.ended_by_us) == (True, False)
        self.world.run(70)
        for node in self.ends:
            for each in node.machine.calls:
                node.hang_up(each)
        self.world.run(6)
        for node in self.ends:
            assert list(node.machine.calls) == []

    def _others(self, node: Node, call: OutgoingCall) -> list[Call]:
        same = call.introduction
        return [each for each in node.machine.calls if each.introduction == same]


def reachable(state: CallState) -> set[CallState]:
    """Give where a call may be that was in this state before."""
    reached = {state}
    while True:
        further = {n for each in reached for n in TRANSITIONS[each].values()}
        if further <= reached:
            return reached
        reached |= further


TestCallPair = CallPair.TestCase
TestCallPair.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # a run takes long: no shrinking
)
