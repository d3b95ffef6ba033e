"""Calls on the command line: placed, answered, refused, hung up."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from bin.errors import Exit
from bin.settings import Answering, Settings
from media.errors import NoDevice
from overlay.call_messages import EndReason
from overlay.call_state import CallState
from tests.bin.as_user import meanwhile, run, wait_until
from tests.bin.daemon_fixture import ThreadedDaemon, run_in_thread
from tests.bin.fake_node import FakeNode


@pytest.mark.parametrize(
    ("reason", "code", "exit_code"),
    [
        (EndReason.REFUSED, "604", Exit.NOT_ANSWERED),
        (EndReason.BUSY, "605", Exit.NOT_ANSWERED),
        (EndReason.NO_ANSWER, "606", Exit.NOT_ANSWERED),
        (EndReason.LOST, "607", Exit.NETWORK),
        (EndReason.NOT_ONLINE, "601", Exit.NOT_FOUND),
        (EndReason.NO_RELAY, "401", Exit.NETWORK),
        (EndReason.FAILED, "603", Exit.FAILED),
        (EndReason.SHUT_DOWN, "611", Exit.FAILED),
    ],
)
def test_a_call_that_ends_badly_says_why(
    home: Path,
    daemon: ThreadedDaemon,
    reason: EndReason,
    code: str,
    exit_code: Exit,
) -> None:
    def callee() -> None:
        wait_until(lambda: bool(daemon.node.lines()))
        daemon.soon(lambda: daemon.node.line("c1").end(reason, "them"))

    with meanwhile(callee):
        result = run(home, "call", "bob")
    assert f"error K{code}" in result.stderr
    assert "next step" in result.stderr
    assert result.exit_code == exit_code


def test_a_call_shows_its_progress_and_ends_with_0_when_hung_up(
    home: Path, daemon: ThreadedDaemon
) -> None:
    def callee() -> None:
        wait_until(lambda: bool(daemon.node.lines()))
        line = daemon.node.line("c1")
        daemon.soon(lambda: line.become(CallState.RINGING))
        daemon.soon(lambda: line.become(CallState.CONNECTED))
        wait_until(lambda: bool(line.channel.sent))
        daemon.soon(lambda: line.end(EndReason.HUNG_UP, "them"))

    with meanwhile(callee):
        result = run(home, "call", "bob")
    for said in ("looking up bob", "ringing at bob", "connected to bob", "relay("):
        assert said in result.output
    assert result.exit_code == Exit.OK


def test_call_refuses_a_file_it_cannot_play_before_anyone_is_called(
    home: Path, daemon: ThreadedDaemon, tmp_path: Path
) -> None:
    no_audio = tmp_path / "no.wav"
    no_audio.write_text("not a sound")
    for file in (no_audio, tmp_path / "missing.wav"):
        result = run(home, "call", "bob", "--play", str(file))
        assert "error K104" in result.stderr
        assert result.exit_code == Exit.AUDIO
    assert not daemon.node.lines()


def test_call_refuses_a_recording_it_cannot_write_before_anyone_is_called(
    home: Path, daemon: ThreadedDaemon, tmp_path: Path
) -> None:
    result = run(home, "call", "bob", "--record", str(tmp_path / "no" / "out.wav"))
    assert "error K107" in result.stderr
    assert result.exit_code == Exit.AUDIO
    assert not daemon.node.lines()


def test_a_call_without_a_sound_card_goes_on_with_a_notice(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_card(spec: str) -> None:
        raise NoDevice("there is no sound card")

    monkeypatch.setattr("media.soundcard.open_sound_microphone", no_card)
    monkeypatch.setattr("media.soundcard.open_sound_speaker", no_card)
    with run_in_thread(home, FakeNode, Settings(name="alice")):
        result = run(home, "call", "bob", "--detach", "--json")
    told = json.loads(result.stdout)
    assert [notice["code"] for notice in told["notices"]] == ["101"]
    assert result.exit_code == Exit.OK


def test_play_and_microphone_exclude_each_other(
    home: Path, daemon: ThreadedDaemon
) -> None:
    result = run(home, "call", "bob", "--play", "a.wav", "--microphone", "null")
    assert result.exit_code == Exit.USAGE


def test_an_incoming_call_is_waited_for_answered_and_hung_up(
    home: Path, daemon: ThreadedDaemon
) -> None:
    with meanwhile(lambda: daemon.soon(lambda: daemon.node.call_comes("bob"))):
        waited = run(home, "wait", "--call", "--json")
    call_id = json.loads(waited.stdout)["id"]
    answered = run(home, "answer", call_id, "--detach", "--json")
    assert json.loads(answered.stdout)["state"] == "connected"
    assert run(home, "mute").stdout == "c1, bob: muted\n"
    assert run(home, "mute", "--off").stdout == "c1, bob: heard again\n"
    hung_up = run(home, "hangup", "--json")
    assert json.loads(hung_up.stdout)["ended_by"] == "us"


def test_an_incoming_call_can_be_rejected(home: Path, daemon: ThreadedDaemon) -> None:
    daemon.soon(lambda: daemon.node.call_comes("bob"))
    told = json.loads(run(home, "reject", "--json").stdout)
    assert (told["state"], told["ended_reason"]) == ("ended", "refused")


def test_what_call_is_meant_must_be_clear(home: Path, daemon: ThreadedDaemon) -> None:
    none = run(home, "answer")
    assert "error K612" in none.stderr
    daemon.soon(lambda: daemon.node.call_comes("bob"))
    daemon.soon(lambda: daemon.node.call_comes("carol"))
    several = run(home, "answer")
    assert several.exit_code == Exit.USAGE
    assert "c1 (bob), c2 (carol)" in several.stderr
    assert "error K609" in run(home, "hangup", "c77").stderr


@pytest.mark.parametrize(
    ("policy", "contacts", "state"),
    [
        (Answering.ASK, "bob", CallState.RINGING),
        (Answering.CONTACTS, "bob", CallState.CONNECTED),
        (Answering.CONTACTS, "", CallState.RINGING),
        (Answering.AUTO, "", CallState.CONNECTED),
    ],
)
def test_who_is_answered_at_once_is_the_users_choice(
    home: Path, policy: Answering, contacts: str, state: CallState
) -> None:
    settings = Settings(microphone="null", speaker="null", answer=policy)
    with run_in_thread(home, lambda: FakeNode(contacts=contacts), settings) as daemon:
        daemon.soon(lambda: daemon.node.call_comes("bob"))
        if state is CallState.CONNECTED:
            wait_until(lambda: daemon.node.line("c1").state is state)
        told = json.loads(run(home, "calls", "--json").stdout)["calls"][0]
    assert told["state"] == state.name.lower()


def test_ctrl_c_hangs_up(home: Path, daemon: ThreadedDaemon) -> None:
    def user() -> None:
        wait_until(lambda: bool(daemon.node.lines()))
        line = daemon.node.line("c1")
        daemon.soon(lambda: line.become(CallState.CONNECTED))
        wait_until(lambda: bool(line.channel.sent))
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(user):
        result = run(home, "call", "bob", "--json")
    told = json.loads(result.stdout)
    assert (told["ended_reason"], told["ended_by"]) == ("hung_up", "us")
    assert result.exit_code == Exit.OK


def test_an_answered_call_is_followed_to_its_end(
    home: Path, daemon: ThreadedDaemon
) -> None:
    daemon.soon(lambda: daemon.node.call_comes("bob"))
    line = daemon.node.line("c1")

    def caller() -> None:
        wait_until(lambda: bool(line.channel.sent))
        daemon.soon(lambda: line.end(EndReason.LOST, "us"))

    with meanwhile(caller):
        result = run(home, "answer")
    assert "error K607" in result.stderr
    assert "from bob" in result.stdout
    assert result.exit_code == Exit.NETWORK


def test_a_daemon_that_ends_during_a_call_is_told(
    home: Path, daemon: ThreadedDaemon
) -> None:
    def user() -> None:
        wait_until(lambda: bool(daemon.node.lines()))
        daemon.stop()

    with meanwhile(user):
        result = run(home, "call", "bob")
    assert "error K801" in result.stderr
    assert result.exit_code == Exit.NO_DAEMON
