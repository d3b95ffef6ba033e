"""The commands of `koe` against a daemon with a fake node, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bin.cli import COMMANDS, koe
from bin.errors import Exit
from bin.places import Places
from media.errors import NoDevice
from overlay.errors import NameContested, NoSupernode
from tests.bin.as_user import run
from tests.bin.daemon_fixture import ThreadedDaemon, run_in_thread
from tests.bin.fake_node import FakeNode

WITH_DAEMON = (
    ("status",),
    ("wait", "--ready"),
    ("whoami",),
    ("lookup", "bob"),
    ("contacts", "list"),
    ("contacts", "add", "bob"),
    ("contacts", "remove", "bob"),
    ("contacts", "link"),
    ("ping", "bob"),
    ("call", "bob", "--detach"),
    ("hangup",),
    ("calls",),
    ("stats",),
    ("devices",),
    ("supernodes",),
)
# Every command that ends by itself; the others have tests of their own.


def test_every_command_has_json_with_a_schema_version(
    home: Path, daemon: ThreadedDaemon
) -> None:
    for command in WITH_DAEMON:
        told = json.loads(run(home, *command, "--json").stdout)
        assert told["schema"] == 1, command
        assert "error" not in told, command


def test_every_command_speaks_to_people_too(home: Path, daemon: ThreadedDaemon) -> None:
    for command in WITH_DAEMON:
        result = run(home, *command)
        assert result.stdout.strip(), command
        assert result.exit_code == (1 if command[0] == "ping" else 0), command
        assert "\x1b" not in result.output, command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, home: Path) -> None:
    result = run(home, command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def _leaves(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _leaves(command, (*path, name))
        elif command is not None:
            yield (*path, name)


def test_every_command_but_the_daemon_takes_json(home: Path) -> None:
    for command in _leaves(koe):
        if command != ("daemon",):
            assert "--json" in run(home, *command, "--help").output, command


@pytest.mark.parametrize(
    "command",
    [c for c in WITH_DAEMON if c[0] not in ("contacts", "devices")],
    ids=lambda command: command[0],
)
def test_without_a_daemon_each_command_says_how_to_start_one(
    command: tuple[str, ...], home: Path
) -> None:
    result = run(home, *command)
    assert result.exit_code == Exit.NO_DAEMON
    assert "error K801" in result.stderr
    assert "cause: " in result.stderr
    assert "next step: Start it with `koe daemon`" in result.stderr
    assert "Traceback" not in result.output
    told = json.loads(run(home, *command, "--json").stdout)
    assert told["schema"] == 1
    assert set(told["error"]) == {"code", "title", "cause", "next_step"}


def test_an_unknown_name_is_not_found(home: Path, daemon: ThreadedDaemon) -> None:
    for command in ("lookup", "call"):
        result = run(home, command, "nobody")
        assert result.exit_code == Exit.NOT_FOUND, command
        assert "error K502" in result.stderr


def test_ping_ends_with_2_when_there_is_no_way(
    home: Path, daemon: ThreadedDaemon
) -> None:
    assert run(home, "ping", "nobody").exit_code == 2


def test_what_is_unexpected_goes_to_a_file_and_not_to_the_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("the secret details")

    monkeypatch.setattr("bin.commands.node.ask_daemon", broken)
    result = run(home, "status")
    assert result.exit_code == Exit.FAILED
    assert "error K899" in result.stderr
    assert "Traceback" not in result.output
    log = Places.under(home).crash_log
    assert str(log) in result.stderr
    assert "the secret details" in log.read_text()


def test_an_address_that_is_none_is_a_usage_error(home: Path) -> None:
    bad = run(home, "daemon", "--bind", "nowhere:x")
    assert bad.exit_code == Exit.USAGE
    assert "error K805" in bad.stderr
    assert "nowhere:x" in bad.stderr


def test_a_wait_that_takes_too_long_says_so(home: Path) -> None:
    def unready() -> FakeNode:
        node = FakeNode()
        node.ready = False
        return node

    with run_in_thread(home, unready):
        result = run(home, "wait", "--timeout", "0.1")
    assert result.exit_code == Exit.NETWORK
    assert "error K206" in result.stderr


@pytest.mark.parametrize("error", [NoSupernode, NameContested])
def test_errors_of_the_node_reach_the_user_as_they_are(
    home: Path, error: type[NoSupernode | NameContested]
) -> None:
    with run_in_thread(home, lambda: FakeNode(failure=error("why it failed"))):
        result = run(home, "lookup", "bob")
    assert f"error K{error.code}: {error.title}" in result.stderr
    assert "cause: why it failed" in result.stderr
    assert f"next step: {error.next_step}" in result.stderr


@pytest.mark.real
def test_status_takes_no_longer_than_a_blink(home: Path) -> None:
    heavy = {"numpy", "av", "rich", "cryptography", "nacl", "aioice", "hypothesis"}
    script = (
        "import sys; from bin.cli import koe\n"
        f"try: koe.main(['--home', {str(home)!r}, 'status'])\n"
        f"except SystemExit as end:\n"
        f"    print(end.code, sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    # What takes long to load is not loaded; times are kept in the benchmarks.
    assert done.stdout.strip() == "3 []"


def test_loopback_plays_a_file_to_its_end_without_a_daemon(
    home: Path, tmp_path: Path
) -> None:
    speech = tmp_path / "tone.wav"
    with wave.open(str(speech), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\0\0" * 3_200)
    heard = tmp_path / "heard.wav"
    result = run(
        home, "loopback", "--play", str(speech), "--record", str(heard), "--json"
    )
    told = json.loads(result.stdout)
    assert told["audio"]["packets_received"] >= 10
    assert [notice["code"] for notice in told["notices"]] == ["105"]
    with wave.open(str(heard)) as file:
        assert file.getnframes() >= 9_600


def test_loopback_without_a_sound_card_has_nothing_to_test(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_card(spec: str) -> None:
        raise NoDevice("there is no sound card")

    monkeypatch.setattr("media.soundcard.open_sound_microphone", no_card)
    monkeypatch.setattr("media.soundcard.open_sound_speaker", no_card)
    for words in (["--microphone", "null"], ["--speaker", "null"]):
        result = run(home, "loopback", *words, "--seconds", "0.1")
        assert "error K101" in result.stderr
        assert result.exit_code == Exit.AUDIO
    heard = str(tmp_path / "heard.wav")
    words = ["--microphone", "null", "--record", heard, "--seconds", "0.1"]
    assert run(home, "loopback", *words).exit_code == Exit.OK


def test_what_is_played_is_not_recorded_over(home: Path, tmp_path: Path) -> None:
    dear = tmp_path / "dear.wav"
    dear.write_bytes(b"something dear")
    result = run(home, "call", "bob", "--play", str(dear), "--record", str(dear))
    assert result.exit_code == Exit.USAGE
    assert "would overwrite" in result.stderr
    assert dear.read_bytes() == b"something dear"


def test_loopback_ends_after_the_seconds_it_was_given(home: Path) -> None:
    result = run(
        home,
        "loopback",
        "--microphone",
        "null",
        "--speaker",
        "null",
        "--seconds",
        "0.1",
    )
    assert result.exit_code == Exit.OK
    assert "lasted" in result.stdout
