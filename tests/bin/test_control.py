"""The control socket: JSON-RPC both ways, and what it does with anything else."""

from __future__ import annotations

import contextlib
import json
import stat
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bin.control_client import open_control
from bin.control_server import CLIENTS_MAX, REQUESTS_MAX, only_daemon
from bin.crash import tell
from bin.errors import ProgramError, problem_of
from bin.jsonrpc import LINE_BYTES_MAX, Lines, LineTooLong, RpcError, decode_request
from bin.places import Places
from bin.reports import CallReport, FoundReport, StatusReport
from bin.requests import CallParams, PeerParams, WhichCall
from overlay.call_messages import EndReason
from overlay.call_state import CallState
from tests.bin.daemon_fixture import open_fake_daemon
from tests.bin.fake_node import FakeNode


async def _answer(places: Places, *lines: bytes) -> dict[str, object]:
    """Send raw lines, and give the first answer."""
    async with await trio.open_unix_socket(str(places.control_socket)) as stream:
        for line in lines:
            await stream.send_all(line)
        with trio.fail_after(5):
            received = b""
            while not received.endswith(b"\n"):
                data = await stream.receive_some()
                assert data, f"closed after {received!r}"
                received += data
    answer: dict[str, object] = json.loads(received.splitlines()[0])
    return answer


def _code(answer: dict[str, object]) -> object:
    error = answer["error"]
    assert isinstance(error, dict)
    return error["code"]


async def test_a_request_is_answered_with_its_id_and_a_schema(tmp_path: Path) -> None:
    async with open_fake_daemon(tmp_path, FakeNode()) as places:
        answer = await _answer(
            places, b'{"jsonrpc":"2.0","id":"x","method":"status"}\n'
        )
    assert answer["id"] == "x"
    result = answer["result"]
    assert isinstance(result, dict)
    assert result["schema"] == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\n", -32700),
        (b"hello\n", -32700),
        (b"\xff\xfe\x00\n", -32700),
        (b'{"jsonrpc":"2.0","method":"a","params":' + b"[" * 9_999 + b"\n", -32700),
        (b"[" * 9_999 + b"\n", -32600),
        (b'{"jsonrpc":"2.0","method":"status"', None),
        (b"[1,2]\n", -32600),
        (b"42\n", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"status"}\n', -32600),
        (b'{"jsonrpc":"2.0","id":[],"method":"status"}\n', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}\n', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"fly"}\n', -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"look_up"}\n', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"look_up","params":[]}\n', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"look_up","params":{"peer":1}}\n', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":1}}\n', -32602),
    ],
)
async def test_garbage_is_answered_by_the_error_of_the_specification(
    tmp_path: Path, line: bytes, code: int | None
) -> None:
    async with open_fake_daemon(tmp_path, FakeNode()) as places:
        if code is None:
            # Half a line is waited for, and harms nobody.
            line += b"}\n" + line + b',"id":2}\n'
            answer = await _answer(places, line)
            assert answer["id"] == 2
        else:
            assert _code(await _answer(places, line)) == code


async def test_an_endless_line_ends_the_connection(tmp_path: Path) -> None:
    async with (
        open_fake_daemon(tmp_path, FakeNode()) as places,
        await trio.open_unix_socket(str(places.control_socket)) as stream,
    ):
        with trio.fail_after(5):
            with pytest.raises(trio.BrokenResourceError):  # noqa: PT012
                for _ in range(LINE_BYTES_MAX // 50_000 + 20):
                    await stream.send_all(b"x" * 50_000)
        # The next client is served as ever.
        answer = await _answer(places, b'{"jsonrpc":"2.0","id":1,"method":"status"}\n')
        assert "result" in answer


@given(st.binary(max_size=200))
def test_only_rpc_error_leaves_the_decoder(line: bytes) -> None:
    with contextlib.suppress(RpcError):
        assert decode_request(line).jsonrpc == "2.0"


@given(st.binary(max_size=100).map(lambda b: b.replace(b"\n", b" ")), st.data())
def test_lines_come_whole_however_they_are_cut(
    line: bytes, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(line)))
    lines = Lines()
    assert lines.feed(line[:cut]) == []
    assert lines.feed(line[cut:] + b"\nrest") == [line]
    assert lines.feed(b"\n") == [b"rest"]


def test_a_line_over_the_limit_is_refused_before_its_end() -> None:
    lines = Lines()
    lines.feed(b"x" * LINE_BYTES_MAX)
    with pytest.raises(LineTooLong):
        lines.feed(b"x")


async def test_a_problem_of_the_node_comes_with_code_cause_and_next_step(
    tmp_path: Path,
) -> None:
    async with (
        open_fake_daemon(tmp_path, FakeNode()) as places,
        open_control(places.control_socket) as control,
    ):
        with pytest.raises(ProgramError) as caught:
            await control.ask("look_up", FoundReport, PeerParams("nobody"))
    problem = caught.value.problem
    assert problem.code == "502"
    assert "nobody" in problem.cause
    assert problem.next_step


async def test_too_many_requests_at_once_are_refused(tmp_path: Path) -> None:
    node = FakeNode()
    node.ready = False
    wait = b'{"jsonrpc":"2.0","id":1,"method":"wait_ready"}\n'
    async with open_fake_daemon(tmp_path, node) as places:
        answer = await _answer(places, wait * (REQUESTS_MAX + 1))
    error = answer["error"]
    assert isinstance(error, dict)
    assert error["data"]["code"] == "814"


async def test_too_many_programs_at_once_are_turned_away(tmp_path: Path) -> None:
    async with (
        open_fake_daemon(tmp_path, FakeNode()) as places,
        contextlib.AsyncExitStack() as clients,
    ):
        for _ in range(CLIENTS_MAX):
            control = await clients.enter_async_context(
                open_control(places.control_socket)
            )
            await control.ask("status", StatusReport)
        with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
            async with open_control(places.control_socket) as one_too_many:
                await one_too_many.ask("status", StatusReport)
        assert problem_of(caught.value).code == "814"


async def test_what_is_unexpected_is_told_with_where_the_details_are(
    tmp_path: Path,
) -> None:
    node = FakeNode(failure=ZeroDivisionError("the secret details"))
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
    ):
        with pytest.raises(ProgramError) as caught:
            await control.ask("look_up", FoundReport, PeerParams("bob"))
    # The command line does not log again what the daemon has logged.
    group = ExceptionGroup("", [caught.value])
    assert tell(tmp_path / "unused.log", group) == caught.value.problem
    assert not (tmp_path / "unused.log").exists()
    assert caught.value.problem.code == "899"
    assert str(places.crash_log) in caught.value.problem.cause
    assert "the secret details" in places.crash_log.read_text()


async def test_a_slow_request_holds_up_no_other(tmp_path: Path) -> None:
    node = FakeNode()
    node.ready = False
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(control.ask, "wait_ready", StatusReport)
        with trio.fail_after(5):
            status = await control.ask("status", StatusReport)
        assert not status.ready
        nursery.cancel_scope.cancel()


async def test_events_are_pushed_after_subscribing(tmp_path: Path) -> None:
    node = FakeNode()
    async with (
        open_fake_daemon(tmp_path, node) as places,
        open_control(places.control_socket) as control,
    ):
        events = await control.subscribe()
        line = node.call_comes("bob")
        line.end(EndReason.CANCELLED, "them")
        with trio.fail_after(5):
            kinds = [(await events.receive()).kind for _ in range(3)]
    assert kinds == ["call_incoming", "call_changed", "call_ended"]


async def test_an_attached_call_ends_with_the_connection_of_its_client(
    tmp_path: Path,
) -> None:
    node = FakeNode()
    async with open_fake_daemon(tmp_path, node) as places:
        async with open_control(places.control_socket) as control:
            params = CallParams(peer="bob", attached=True)
            await control.ask("call", CallReport, params)
            node.line("c1").become(CallState.CONNECTED)
        with trio.fail_after(5):
            await node.line("c1").wait_for(CallState.ENDED)
    assert node.line("c1").ended_reason is EndReason.HUNG_UP


async def test_a_detached_call_goes_on_without_its_client(tmp_path: Path) -> None:
    node = FakeNode()
    async with open_fake_daemon(tmp_path, node) as places:
        async with open_control(places.control_socket) as control:
            await control.ask("call", CallReport, CallParams(peer="bob"))
        node.line("c1").become(CallState.CONNECTED)
        async with open_control(places.control_socket) as control:
            call = await control.ask("show_call", CallReport, WhichCall("c1"))
    assert call.state == "connected"


async def test_the_socket_is_for_its_user_alone_and_goes_with_the_daemon(
    tmp_path: Path,
) -> None:
    async with open_fake_daemon(tmp_path, FakeNode()) as places:
        assert stat.S_IMODE(places.control_socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(places.runtime.stat().st_mode) == 0o700
    assert not places.control_socket.exists()


async def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    places = Places.under(tmp_path)
    places.make()
    places.control_socket.touch()
    async with (
        open_fake_daemon(tmp_path, FakeNode()),
        open_control(places.control_socket) as control,
    ):
        assert (await control.ask("status", StatusReport)).ready


async def test_a_second_daemon_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    with (
        only_daemon(Places.under(tmp_path)),
        pytest.raises(ProgramError) as caught,
        only_daemon(Places.under(tmp_path)),
    ):
        raise AssertionError("two daemons")
    assert caught.value.problem.code == "802"
    assert "by process" in caught.value.problem.cause


async def test_a_client_whose_daemon_goes_is_told_so(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    node = FakeNode()
    node.ready = False
    daemon = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[Places]) -> None:
        with daemon:
            async with open_fake_daemon(tmp_path, node) as places:
                task_status.started(places)
                await trio.sleep_forever()

    places = await nursery.start(serve)

    async def ask() -> None:
        async with open_control(places.control_socket) as control:
            asking = control.ask("wait_ready", StatusReport)
            daemon.cancel()
            await asking

    with trio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        await ask()
    assert problem_of(caught.value).code == "801"


async def test_without_a_daemon_the_client_is_told_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ProgramError) as caught:
        async with open_control(tmp_path / "control.sock"):
            raise AssertionError("connected to nobody")
    assert caught.value.problem.code == "801"
    assert "koe daemon" in caught.value.problem.next_step
