"""The index on whole nodes: partitioned, referred, repaired, never rolled back."""

from __future__ import annotations

import pytest
import trio

from overlay.node_events import SupernodeMode
from tests.scenarios.network import open_network
from tests.vnet import Internet, simulate


@simulate(seeds=range(2), limit_s=200)
async def test_each_of_twelve_supernodes_owns_about_two_thirds_of_the_keys(
    internet: Internet,
) -> None:
    async with open_network(internet, 12, ["alice"]) as network:
        infos = await network["alice"].supernodes_overview()
        assert len(infos) == 12
        assert sum(info.share for info in infos) == pytest.approx(8.0, abs=1e-6)
        assert all(0.3 < info.share < 0.97 for info in infos)
        mine = await network["sn3"].supernodes_overview()
        assert [info.address for info in mine] == [info.address for info in infos]


@simulate(seeds=range(2), limit_s=300)
async def test_look_ups_are_answered_by_the_home_or_referred_to_owners(
    internet: Internet,
) -> None:
    leaves = [f"leaf{number:02}" for number in range(16)]
    async with open_network(internet, 12, leaves) as network:
        answered, referred = 0, 0
        for name in leaves[1:]:
            found = await network["leaf00"].look_up(name)
            assert found.public_key == network.identities[name].public_key
            answers = [step.answer for step in found.steps]
            if answers == ["VALUE"]:
                answered += 1
                assert found.elapsed_s == pytest.approx(0.08, abs=0.01)
            else:
                referred += 1
                assert answers[0] == "REFERRAL"
                assert "VALUE" in answers[1:]
                assert found.elapsed_s == pytest.approx(0.16, abs=0.06)
        assert answered
        assert referred


@simulate(seeds=range(2), limit_s=300)
async def test_records_follow_the_ring_when_supernodes_join(internet: Internet) -> None:
    leaves = [f"leaf{number:02}" for number in range(6)]
    async with open_network(internet, 2, leaves) as network:
        for number in range(2, 10):
            await network.start(f"sn{number}", supernode=SupernodeMode.ON)
        await trio.sleep(10)
        for name in leaves[1:]:
            found = await network["leaf00"].look_up(name)
            assert found.public_key == network.identities[name].public_key
        late = network["sn9"].status()
        assert late.records_held > 0


@simulate(seeds=range(3), limit_s=300)
async def test_look_ups_survive_the_death_of_half_the_supernodes(
    internet: Internet,
) -> None:
    leaves = [f"leaf{number:02}" for number in range(6)]
    async with open_network(internet, 10, leaves) as network:
        homes = network["leaf00"].status().homes
        primary = next(home.address for home in homes if home.primary)
        dead = [
            name
            for name in network.nodes
            if name.startswith("sn") and network[name].address != primary
        ][:5]
        for name in dead:
            network.hosts[name].pause()
        for name in leaves[1:]:
            found = await network["leaf00"].look_up(name)
            assert found.public_key == network.identities[name].public_key
            assert found.elapsed_s < 2


@simulate(seeds=range(2), limit_s=120)
async def test_nodes_are_ready_soon_after_their_start(internet: Internet) -> None:
    async with open_network(internet, 6) as network:
        at = trio.current_time()
        leaf = await network.start("leaf")
        await leaf.wait_ready()
        # XX to a seed, its table, three pings with stragglers, registration
        assert trio.current_time() - at < 1.0


@simulate(seeds=range(2), limit_s=120)
async def test_nothing_goes_to_addresses_that_did_not_ask(internet: Internet) -> None:
    async with open_network(internet, 5, ["alice", "bob", "carol"]) as network:
        await network["alice"].look_up("bob")
        await network["alice"].ping("carol")
        await trio.sleep(30)
        assert all(
            node.status().counters["gate_refused"] == 0
            for node in network.nodes.values()
        )
