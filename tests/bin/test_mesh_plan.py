"""The plan of a mesh: names, addresses, and who knows whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from bin import mesh
from bin.contacts import ContactBook
from bin.errors import ProgramError
from bin.mesh import claim_root, plan_mesh
from bin.mesh_state import MeshState, read_mesh

pytestmark = pytest.mark.real


def _plan(tmp_path: Path, nodes: int, supernodes: int) -> MeshState:
    root = tmp_path / "mesh"
    claim_root(root)
    return plan_mesh(root, nodes, supernodes)


def test_supernodes_are_numbered_and_leaves_have_peoples_names(tmp_path: Path) -> None:
    state = _plan(tmp_path, 30, 2)
    names = [node.name for node in state.nodes]
    assert names[:4] == ["node-1", "node-2", "alice", "bob"]
    assert names[-2:] == ["leaf-27", "leaf-28"]
    assert len(set(names)) == 30
    assert [node.supernode for node in state.nodes[:3]] == [True, True, False]


def test_the_plan_is_written_down_before_anything_runs(tmp_path: Path) -> None:
    assert _plan(tmp_path, 3, 1) == read_mesh(tmp_path / "mesh")


def test_everyone_is_everyone_elses_contact_and_nobody_their_own(
    tmp_path: Path,
) -> None:
    state = _plan(tmp_path, 3, 1)
    for node in state.nodes:
        known = ContactBook(node.places.contacts_file).contacts()
        others = {other.name for other in state.nodes} - {node.name}
        assert {each.name for each in known} == others
        assert all(each.contact for each in known)


def test_no_two_nodes_have_one_address(tmp_path: Path) -> None:
    state = _plan(tmp_path, 20, 5)
    assert len({node.address for node in state.nodes}) == 20


def test_where_there_is_one_loopback_address_the_ports_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh, "_is_free", lambda host, port: host == "127.0.0.1")
    state = _plan(tmp_path, 5, 1)
    assert all(node.address.startswith("127.0.0.1:") for node in state.nodes)
    assert len({node.address for node in state.nodes}) == 5


def test_without_a_free_port_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for taken in (lambda host, port: False, lambda host, port: port == 0):
        monkeypatch.setattr(mesh, "_is_free", taken)
        with pytest.raises(ProgramError) as caught:
            _plan(tmp_path, 5, 1)
        assert caught.value.problem.code == "201"
