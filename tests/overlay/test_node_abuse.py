"""A small network that lives through anything: users, failures and bad lines at random.

Whatever happens, nothing is raised and the world's own rules hold
(`tests.overlay.machines`). When all is repaired, everybody comes home, finds everybody
and can call.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nat.address import Address
from overlay.call import Call
from overlay.call_messages import Purpose
from overlay.call_state import CallState
from overlay.home import HomesState
from overlay.incoming import IncomingCall
from overlay.lookup import Outcome
from overlay.node_events import SupernodeMode
from overlay.records import id_key, name_key
from tests.overlay.machines import Node, Quality, World

SUPERNODES = 3
LEAVES = 3
SEEDS = [Address(f"20.{number}.0.1", 7000) for number in range(SUPERNODES)]
LINES = [
    Quality(),
    Quality(jitter_s=0.2),
    Quality(loss=0.3, duplicate=0.2),
    Quality(loss=0.05, corrupt=0.2, jitter_s=0.05),
    Quality(loss=1.0),
]
NUMBERS = st.integers(0, SUPERNODES + LEAVES - 1)


class Town(RuleBasedStateMachine):
    """Three supernodes and three leaves."""

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.world = World(seed=seed)
        self.lives = [0] * (SUPERNODES + LEAVES)
        self.nodes: dict[int, Node] = {}
        for number in range(SUPERNODES + LEAVES):
            self._start(number)
        self.world.run(3)

    @rule(number=NUMBERS, politely=st.booleans())
    def stop(self, number: int, politely: bool) -> None:
        node = self.nodes.pop(number, None)
        if node is not None:
            self.world.stop(node, politely=politely)

    @rule(number=NUMBERS)
    def start(self, number: int) -> None:
        if number not in self.nodes:
            self._start(number)

    @rule(line=st.sampled_from(LINES))
    def change_lines(self, line: Quality) -> None:
        self.world.quality = line

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 2.0, 12.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    @rule(caller=NUMBERS, callee=NUMBERS, relay_only=st.booleans(), ping=st.booleans())
    def call(self, caller: int, callee: int, relay_only: bool, ping: bool) -> None:
        if caller in self.nodes and callee in self.nodes and caller != callee:
            ours, theirs = self.nodes[caller], self.nodes[callee]
            if not ours.machine.calls.is_full:
                ours.call_at(
                    theirs.machine.presence,
                    purpose=Purpose.PING if ping else Purpose.VOICE,
                    relay_only=relay_only,
                )

    @rule(number=NUMBERS, deed=st.sampled_from(["answer", "refuse", "hang up", "say"]))
    def act(self, number: int, deed: str) -> None:
        node = self.nodes.get(number)
        for call in node.machine.calls if node else ():
            assert node is not None
            self._do(node, call, deed)

    @rule(number=NUMBERS, name=st.booleans())
    def look_up(self, number: int, name: bool) -> None:
        node = self.nodes.get(number)
        if node is not None:
            key = name_key("leaf3") if name else id_key(node.identity.public_key)
            node.machine.look_up(key, self.world.now)
            node.machine.survey(self.world.now)
            self.world.drain(node)

    @rule(number=NUMBERS, port=st.integers(1, 3))
    def restart_router(self, number: int, port: int) -> None:
        node = self.nodes.get(number)
        if node is not None and number >= SUPERNODES:
            moved = Address(node.address.host, 7000 + port)
            if moved not in self.world.nodes:
                self.world.rebind(node, moved)

    @invariant()
    def calls_are_few_and_sound(self) -> None:
        for node in self.nodes.values():
            calls = list(node.machine.calls)
            assert len(calls) <= 24
            for call in calls:
                ended = call.state is CallState.ENDED
                assert (call.ended_reason is not None) == ended

    def teardown(self) -> None:
        """Repair everything; within two minutes all is well again."""
        if not hasattr(self, "world"):
            return
        self.world.quality = Quality()
        for number in range(SUPERNODES + LEAVES):
            if number not in self.nodes:
                self._start(number)
        self.world.run_until(self._all_at_home, 300)
        self.world.run(40)  # the next keepalives tell who has forgotten whom
        for node in self.nodes.values():
            for old in node.machine.calls:
                node.hang_up(old)
        self.world.run(10)
        first, second = self.nodes[SUPERNODES], self.nodes[SUPERNODES + 1]
        done = first.look_up(id_key(second.identity.public_key))
        assert done.outcome is Outcome.FOUND
        rung = len(second.incoming)
        call = first.call(second)
        self.world.run_until(lambda: len(second.incoming) > rung)
        second.answer(second.incoming[-1])
        self.world.run_until(lambda: call.state is CallState.CONNECTED)

    def _start(self, number: int) -> None:
        self.lives[number] += 1
        mode = SupernodeMode.ON if number < SUPERNODES else SupernodeMode.OFF
        self.nodes[number] = self.world.add(
            number,
            supernode=mode,
            seeds=SEEDS,
            name=f"leaf{number}",
            life=self.lives[number],
        )

    def _do(self, node: Node, call: Call, deed: str) -> None:
        match deed:
            case "answer" if isinstance(call, IncomingCall):
                node.answer(call)
            case "refuse" if isinstance(call, IncomingCall):
                node.refuse(call)
            case "hang up":
                node.hang_up(call)
            case "say":
                node.say(call, b"hello")

    def _all_at_home(self) -> bool:
        return all(
            node.machine.station.homes is None
            or node.machine.station.homes.state is HomesState.AT_HOME
            for node in self.nodes.values()
        )


TestTown = Town.TestCase
TestTown.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # a run takes a second: no shrinking
    suppress_health_check=[HealthCheck.too_slow],
)
