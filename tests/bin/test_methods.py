"""The methods of the daemon: all documented, and telling what the node says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from bin.contacts import ContactBook
from bin.control_client import open_control
from bin.errors import ProgramError
from bin.methods import About, methods_of
from bin.reports import CallReport, CallsReport, Done, IdentityReport, StatusReport
from bin.requests import (
    AnswerParams,
    AnswersParams,
    Audio,
    CallParams,
    MuteParams,
    WhichCall,
)
from bin.settings import Answering
from bin.switchboard import Answers, Switchboard
from overlay.call_messages import EndReason
from overlay.call_state import CallState
from tests.bin.daemon_fixture import open_fake_daemon
from tests.bin.fake_node import HOME, FakeNode, identity_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "control.md"


async def test_every_method_is_documented_and_no_other(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    node, audio = FakeNode(), Audio()
    contacts = ContactBook(tmp_path / "contacts.json")
    answers = Answers(Answering.ASK, audio)
    switchboard = Switchboard(nursery, node, answers, contacts, lambda: 0.0)
    about = About("alice", "0", "identity", audio, 0.0, now=lambda: 0.0)
    rows = re.findall(r"^\| (`[^|]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {*methods_of(node, switchboard, about), "subscribe"}


async def test_the_link_of_a_leaf_leads_to_its_homes(tmp_path: Path) -> None:
    async with (
        open_fake_daemon(tmp_path, FakeNode("alice")) as places,
        open_control(places.control_socket) as control,
    ):
        told = await control.ask("who_am_i", IdentityReport)
    assert told.link == f"koe:alice?k={told.public_key}&s={HOME}"


async def test_a_leaf_without_homes_is_not_ready_whatever_it_was(
    tmp_path: Path,
) -> None:
    node = FakeNode()
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
    ):
        assert (await control.ask("status", StatusReport)).ready
        node.homes.clear()
        assert not (await control.ask("status", StatusReport)).ready


async def test_a_called_name_is_pinned_and_a_known_caller_has_a_name(
    tmp_path: Path,
) -> None:
    node = FakeNode()
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
    ):
        await control.ask("call", CallReport, CallParams(peer="bob"))
        book = ContactBook(places.contacts_file)
        assert book.public_key_of("bob") == identity_of("bob").public_key
        line = node.call_comes("bob")
        line.peer_name = None
        calls = (await control.ask("calls", CallsReport)).calls
    assert [call.peer for call in calls] == ["bob", "bob"]


async def test_what_becomes_of_calls_can_be_changed_at_any_time(
    tmp_path: Path,
) -> None:
    node = FakeNode()
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
    ):
        assert (await control.ask("status", StatusReport)).answering == "ask"
        await control.ask("set_answers", Done, AnswersParams(policy=Answering.AUTO))
        line = node.call_comes("bob")
        await line.wait_for(CallState.CONNECTED)


async def test_who_is_answered_at_once_but_cannot_be_recorded_is_refused(
    tmp_path: Path,
) -> None:
    node = FakeNode()
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
    ):
        nowhere = str(tmp_path / "no" / "where.wav")
        answers = AnswersParams(policy=Answering.AUTO, record=nowhere)
        await control.ask("set_answers", Done, answers)
        line = node.call_comes("bob")
        await line.wait_for(CallState.ENDED)
        (call,) = (await control.ask("calls", CallsReport)).calls
    assert call.problem is not None
    assert call.problem.code == "107"


async def test_only_what_rings_can_be_answered_or_refused_and_what_is_over_not_muted(
    tmp_path: Path,
) -> None:
    node = FakeNode()
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
    ):
        await control.ask("call", CallReport, CallParams(peer="bob"))
        node.line("c1").hang_up()
        asked = {
            "answer": AnswerParams(call="c1"),
            "reject": WhichCall("c1"),
            "mute": MuteParams("c1", True),
        }
        for method, params in asked.items():
            with pytest.raises(ProgramError) as caught:
                await control.ask(method, CallReport, params)
            assert caught.value.problem.code == "612", method
        over = await control.ask("hang_up", CallReport, WhichCall("c1"))
    assert over.state == "ended"


async def test_a_caller_who_gives_up_while_devices_are_opened_is_not_answered(
    tmp_path: Path,
) -> None:
    node = FakeNode()
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
        trio.open_nursery() as asking,
    ):
        line = node.call_comes("bob")

        async def answer() -> None:
            params = AnswerParams(call="c1")
            with pytest.raises(ProgramError) as caught:
                await control.ask("answer", CallReport, params)
            assert caught.value.problem.code == "612"

        asking.start_soon(answer)
        line.end(EndReason.CANCELLED, "them")
    assert line.ended_reason is EndReason.CANCELLED
