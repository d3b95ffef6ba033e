"""Members, index, publication and look-ups together, in virtual time."""

from __future__ import annotations

import pytest

from nat.address import Address
from overlay.lookup import AnswerKind, Outcome
from overlay.records import id_key, name_key
from overlay.timing import MembersTiming
from tests.overlay.mesh_of_machines import RTT_S, Mesh, Supernode
from tests.overlay.samples import NOW, claim, identity, presence

ALICE = 100
ALICES_KEY = id_key(identity(ALICE).public_key)


def mesh_of(count: int, *, seed: int = 1) -> tuple[Mesh, list[Supernode]]:
    """Give a mesh whose supernodes all know each other, begun at number 0."""
    mesh = Mesh(seed)
    supernodes = [mesh.start(0)]
    supernodes += [mesh.start(number, [0]) for number in range(1, count)]
    mesh.run(3.0)
    assert mesh.agree()
    return mesh, supernodes


def run_until_agreed(mesh: Mesh, within_s: float) -> float:
    """Let time pass until there is one ring; gives how long it took."""
    began_at = mesh.now
    while not mesh.agree():
        assert mesh.now < began_at + within_s
        mesh.run(0.25)
    return mesh.now - began_at


@pytest.mark.parametrize("seed", range(5))
def test_twelve_that_start_together_agree_within_three_seconds(seed: int) -> None:
    mesh_of(12, seed=seed)


def test_supernodes_of_one_host_agree_too() -> None:
    first = Address("127.0.0.1", 1)
    mesh = Mesh()
    mesh.start(1, at=first)
    for number in range(2, 31):
        mesh.start(number, seeds=[first], at=Address("127.0.0.1", number))
    run_until_agreed(mesh, 10)


def test_whoever_comes_later_is_known_to_all_within_seconds() -> None:
    mesh, _ = mesh_of(20)
    mesh.start(20, [7])
    assert run_until_agreed(mesh, 5) < 5


def test_the_killed_are_off_every_ring_after_one_round_of_probes() -> None:
    mesh, supernodes = mesh_of(12)
    for supernode in supernodes[:4]:
        mesh.kill(supernode)
    assert run_until_agreed(mesh, 30) <= 11 + 11 + 5


def test_a_parted_network_is_one_again_within_a_minute_of_healing() -> None:
    mesh, supernodes = mesh_of(12)
    mesh.part(supernodes[:6], supernodes[6:])
    mesh.run(60)
    assert {len(supernode.members.ring) for supernode in supernodes} == {6}
    mesh.part()
    assert run_until_agreed(mesh, 60) < 60


def test_whoever_restarts_without_memory_is_soon_one_of_all_again() -> None:
    mesh, _ = mesh_of(8)
    mesh.run(100)
    restarted = mesh.start(3, [0])
    mesh.run(5)
    assert mesh.agree()
    assert restarted.members.descriptor.incarnation > NOW


def test_a_record_published_at_one_home_is_found_from_every_other() -> None:
    mesh, supernodes = mesh_of(12)
    mesh.publish(supernodes[0], presence(ALICE), claim(ALICE, "alice"))
    mesh.run(1)
    assert supernodes[0].published[0].stored >= 5
    for home in supernodes:
        by_id = mesh.look_up(ALICES_KEY, home=home)
        assert by_id.records == (presence(ALICE),)
        by_name = mesh.look_up(name_key("alice"), home=home)
        assert by_name.records == (claim(ALICE, "alice"), presence(ALICE))


def test_both_paths_are_taken_answered_by_the_home_and_referred() -> None:
    mesh, supernodes = mesh_of(12)
    mesh.publish(supernodes[0], presence(ALICE))
    mesh.run(1)
    owners = {seat.static for seat in supernodes[0].members.ring.owners(ALICES_KEY)}
    for home in supernodes:
        done = mesh.look_up(ALICES_KEY, home=home)
        kinds = [step.answer for step in done.steps]
        if home.static in owners:
            assert kinds == [AnswerKind.VALUE]
        else:
            assert kinds == [AnswerKind.REFERRAL, AnswerKind.VALUE, AnswerKind.VALUE]
            assert done.finished_at - done.started_at < RTT_S + 0.01


def test_the_index_is_partitioned_each_of_twelve_holds_about_two_thirds() -> None:
    mesh, supernodes = mesh_of(12)
    for number in range(100, 200):
        mesh.publish(supernodes[number % 12], presence(number))
    mesh.run(2)
    held = [len(supernode.index.keys()) for supernode in supernodes]
    assert sum(held) == 8 * 100
    for supernode, keys in zip(supernodes, held, strict=True):
        share = supernode.members.ring.share(supernode.static)
        assert keys / 100 == pytest.approx(share, abs=0.15)


def test_with_four_of_twelve_just_dead_everybody_is_still_found() -> None:
    mesh, supernodes = mesh_of(12)
    for number in range(100, 130):
        mesh.publish(supernodes[number % 12], presence(number))
    mesh.run(2)
    for supernode in supernodes[:4]:
        mesh.kill(supernode)
    for number in range(100, 130):
        key = id_key(identity(number).public_key)
        done = mesh.look_up(key, home=supernodes[4 + number % 8])
        assert done.outcome is Outcome.FOUND
        assert done.finished_at - done.started_at < 1.0


def test_nobody_is_found_by_a_name_that_nobody_claims() -> None:
    mesh, supernodes = mesh_of(12)
    assert {
        mesh.look_up(name_key("nobody"), home=home).outcome for home in supernodes
    } == {Outcome.NOT_FOUND}


def test_when_most_owners_are_busy_nobody_claims_that_nothing_is_held() -> None:
    mesh, supernodes = mesh_of(8)
    for supernode in supernodes[1:5]:
        supernode.is_busy = True
    done = mesh.look_up(name_key("nobody"), home=supernodes[0])
    assert done.outcome is Outcome.UNREACHABLE
    assert AnswerKind.BUSY in {step.answer for step in done.steps}


def test_new_owners_get_the_records_of_those_that_died() -> None:
    mesh, supernodes = mesh_of(14)
    home = supernodes[0]
    for number in range(100, 120):
        mesh.publish(home, presence(number))
    mesh.run(2)
    for supernode in supernodes[9:]:
        mesh.kill(supernode)
    run_until_agreed(mesh, 40)
    mesh.run(10)
    for number in range(100, 120):
        key = id_key(identity(number).public_key)
        owners = {seat.static for seat in home.members.ring.owners(key)}
        holders = {each.static for each in mesh.up() if each.index.look_up(key, NOW)}
        assert owners <= holders


def test_a_quiet_network_speaks_little() -> None:
    mesh, _ = mesh_of(12)
    mesh.run(10)
    before = mesh.asked
    mesh.run(200)
    per_second = (mesh.asked - before) / 200 / 12
    assert per_second < 1.3


def test_the_same_seed_gives_the_same_run() -> None:
    def run() -> tuple[int, list[int]]:
        mesh, supernodes = mesh_of(9, seed=7)
        mesh.run(30)
        return mesh.asked, [len(each.ring_events) for each in supernodes]

    assert run() == run()


def test_timing_may_be_shorter_for_a_local_mesh() -> None:
    mesh = Mesh(timing=MembersTiming(probe_s=0.1))
    first = mesh.start(0)
    second = mesh.start(1, [0])
    run_until_agreed(mesh, 3)
    mesh.kill(second)
    mesh.run(5.2)
    assert len(first.members.ring) == 1
