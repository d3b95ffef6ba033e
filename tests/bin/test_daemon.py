"""The daemon on real sockets: what stops it from starting, and two that talk."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest
import trio

from bin.control_client import open_control
from bin.daemon import load_identity, open_daemon
from bin.errors import ProgramError
from bin.places import Places
from bin.reports import CallReport, IdentityReport, StatusReport
from bin.requests import CallParams
from bin.settings import Answering, Settings, Supernode
from nat.udp import KernelNetwork

pytestmark = pytest.mark.real

LOCAL = "127.0.0.1:0"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places.under(tmp_path / "home")
    places.make()
    return places


async def _start(settings: Settings, places: Places) -> None:
    async with open_daemon(settings, places, KernelNetwork()):
        pass


async def _problem(settings: Settings, places: Places) -> tuple[str, str]:
    with pytest.raises(ProgramError) as caught:
        await _start(settings, places)
    return caught.value.problem.code, caught.value.problem.cause


async def test_it_starts_answers_and_leaves_no_socket_behind(places: Places) -> None:
    async with (
        open_daemon(Settings(bind=LOCAL), places, KernelNetwork()),
        open_control(places.control_socket) as control,
    ):
        with trio.fail_after(10):
            status = await control.ask("wait_ready", StatusReport)
    assert status.role == "supernode"
    assert not places.control_socket.exists()


async def test_it_is_the_same_node_after_a_restart(places: Places) -> None:
    keys: list[str] = []
    for _ in range(2):
        async with (
            open_daemon(Settings(bind=LOCAL), places, KernelNetwork()),
            open_control(places.control_socket) as control,
        ):
            keys.append((await control.ask("who_am_i", IdentityReport)).public_key)
    assert keys[0] == keys[1]


async def test_the_link_of_a_supernode_leads_to_itself(places: Places) -> None:
    async with (
        open_daemon(Settings(bind=LOCAL), places, KernelNetwork()) as node,
        open_control(places.control_socket) as control,
    ):
        with trio.fail_after(10):
            await control.ask("wait_ready", StatusReport)
        told = await control.ask("who_am_i", IdentityReport)
    assert told.link.endswith(f"&s={node.address}")


async def test_a_taken_port_is_told_with_its_address(
    places: Places, tmp_path: Path
) -> None:
    async with open_daemon(Settings(bind=LOCAL), places, KernelNetwork()) as node:
        other = Places.under(tmp_path / "other")
        code, cause = await _problem(Settings(bind=str(node.address)), other)
    assert code == "201"
    assert str(node.address) in cause


async def test_an_address_of_another_machine_is_told(places: Places) -> None:
    code, cause = await _problem(Settings(bind="192.0.2.1:7000"), places)
    assert code == "203"
    assert "192.0.2.1:7000" in cause


async def test_a_second_daemon_in_the_same_home_is_refused(places: Places) -> None:
    async with open_daemon(Settings(bind=LOCAL), places, KernelNetwork()):
        assert (await _problem(Settings(bind=LOCAL), places))[0] == "802"


async def test_an_identity_that_others_may_read_is_refused(places: Places) -> None:
    load_identity(places.identity_file)
    places.identity_file.chmod(0o644)
    code, cause = await _problem(Settings(bind=LOCAL), places)
    assert code == "803"
    assert str(places.identity_file) in cause


async def test_a_damaged_identity_is_refused_and_left_as_it_is(places: Places) -> None:
    places.identity_file.write_text("{}")
    places.identity_file.chmod(0o600)
    assert (await _problem(Settings(bind=LOCAL), places))[0] == "804"
    assert places.identity_file.read_text() == "{}"


async def test_damaged_contacts_are_refused(places: Places) -> None:
    places.contacts_file.write_text("bob")
    assert (await _problem(Settings(bind=LOCAL), places))[0] == "810"


async def test_a_name_that_is_none_is_refused(places: Places) -> None:
    code, cause = await _problem(Settings(name="Al!", bind=LOCAL), places)
    assert code == "805"
    assert "Al!" in cause


async def test_one_daemon_calls_another_plays_a_file_and_is_heard(
    tmp_path: Path,
) -> None:
    tone, heard = tmp_path / "tone.wav", tmp_path / "heard.wav"
    _write_tone(tone)
    caller = Places.under(tmp_path / "alice")
    alice = Settings(name="alice", bind=LOCAL, microphone="null", speaker="null")
    async with open_daemon(alice, caller, KernelNetwork()) as first:
        bob = Settings(
            name="bob",
            bind=LOCAL,
            seed=(str(first.address),),
            supernode=Supernode.OFF,
            answer=Answering.AUTO,
            microphone="null",
            speaker="null",
            record=str(heard),
        )
        async with open_daemon(bob, Places.under(tmp_path / "bob"), KernelNetwork()):
            with trio.fail_after(20):
                ended = await _play(caller, tone)
    assert (ended.ended_reason, ended.problem) == ("hung_up", None)
    assert ended.contact is False
    assert ended.paths[0].route == f"relay({first.address})"
    with wave.open(str(heard)) as file:
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    assert max(samples) > 5_000


async def _play(caller: Places, file: Path) -> CallReport:
    async with open_control(caller.control_socket) as control:
        await control.ask("wait_ready", StatusReport)
        params = CallParams(
            peer="bob", microphone=f"file:{file}", hang_up_when_played=True
        )
        events = await control.subscribe()
        await control.ask("call", CallReport, params)
        async for event in events:
            if event.kind == "call_ended" and event.call is not None:
                return event.call
    raise AssertionError("the call never ended")


def _write_tone(path: Path) -> None:
    """Write half a second of a square wave of 400 Hz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        wave_of_400_hz = b"\x40\x1f" * 60 + b"\xc0\xe0" * 60
        file.writeframes(wave_of_400_hz * 200)
