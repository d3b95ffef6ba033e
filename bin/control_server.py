"""The control socket, daemon's side: requests in, answers and events out.

A Unix stream socket of mode 0600 in a directory of mode 0700, served by the one daemon
that holds the lock on `daemon.lock`, whose content is its process id. Each client has a
task that reads, one that writes, and one per request, so that a slow look-up holds up
nothing else. Requests are answered in any order. A client that does not read its events
loses the oldest.

    accept ──> reader ──> one task a request ──> outbox ──> writer
                             subscribe ─> events ──^
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import msgspec
import trio

from bin.errors import Problem, ProgramError
from bin.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    NODE_ERROR,
    Lines,
    LineTooLong,
    Request,
    RpcError,
    decode_request,
    encode_error,
    encode_event,
    encode_result,
)
from bin.places import Places, is_ours
from bin.reports import Done, EventReport

__all__ = ["Client", "Method", "method", "only_daemon", "open_control_server"]

CLIENTS_MAX: Final = 64
# A person has a handful; a mesh of daemons is watched by as many programs.
REQUESTS_MAX: Final = 32
# At once, of one client.
OUTBOX_MAX: Final = 64
# Answers waiting for a client that does not read; then its requests wait, too.
READ_BYTES: Final = 65_536
BACKLOG: Final = 16

P = TypeVar("P", bound=msgspec.Struct)
Subscribe: TypeAlias = Callable[
    [], AbstractAsyncContextManager[trio.MemoryReceiveChannel[EventReport]]
]
Method: TypeAlias = Callable[["Client", msgspec.Raw], Awaitable[msgspec.Struct]]


def method(
    params: type[P], run: Callable[[Client, P], Awaitable[msgspec.Struct]]
) -> Method:
    """Make a method of a function, which gets its parameters checked."""

    async def checked(client: Client, raw: msgspec.Raw) -> msgspec.Struct:
        try:
            given = msgspec.json.decode(raw, type=params)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RpcError(INVALID_PARAMS, str(error)) from None
        return await run(client, given)

    return checked


class Client:
    """One connection to the control socket, from accept to close."""

    def __init__(
        self,
        stream: trio.SocketStream,
        methods: Mapping[str, Method],
        subscribe: Subscribe,
        tell: Callable[[BaseException], Problem],
    ) -> None:
        self._stream = stream
        self._methods = methods
        self._subscribe = subscribe
        self._tell = tell
        self._outbox, self._to_write = trio.open_memory_channel[bytes](OUTBOX_MAX)
        self._requests = 0
        self._subscribed = False
        self._at_close: list[Callable[[], None]] = []

    def at_close(self, act: Callable[[], None]) -> None:
        """Have something done when this client is gone, however it goes."""
        self._at_close.append(act)

    async def serve(self) -> None:
        """Answer until the client closes or sends what is no line."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                # A broken connection ends it as a closed one does.
                with contextlib.suppress(trio.BrokenResourceError):
                    await self._read(nursery)
                nursery.cancel_scope.cancel()
        finally:
            for act in self._at_close:
                act()

    async def _read(self, nursery: trio.Nursery) -> None:
        lines = Lines()
        while data := await self._stream.receive_some(READ_BYTES):
            try:
                complete = lines.feed(data)
            except LineTooLong:
                await self._send_last(RpcError(INVALID_REQUEST, "the line is too long"))
                return
            for line in complete:
                await self._take(line, nursery)

    async def _take(self, line: bytes, nursery: trio.Nursery) -> None:
        try:
            request = decode_request(line)
        except RpcError as error:
            await self._outbox.send(encode_error(error))
            return
        if self._requests >= REQUESTS_MAX:
            busy = ProgramError.of("814", f"{REQUESTS_MAX} requests at once, the most")
            await self._refuse(request, busy)
            return
        self._requests += 1
        nursery.start_soon(self._answer, request, nursery)

    async def _answer(self, request: Request, nursery: trio.Nursery) -> None:
        try:
            if request.method == "subscribe":
                result: msgspec.Struct = await self._start_events(nursery)
            elif request.method in self._methods:
                result = await self._methods[request.method](self, request.params)
            else:
                raise RpcError(METHOD_NOT_FOUND, f"no method {request.method!r}")
        except Exception as error:
            await self._refuse(request, error)
        else:
            if request.id is not msgspec.UNSET:
                await self._outbox.send(encode_result(request.id, result))
        finally:
            self._requests -= 1

    async def _refuse(self, request: Request, error: Exception) -> None:
        if request.id is msgspec.UNSET:
            return
        if isinstance(error, RpcError):
            told = RpcError(error.code, error.message, request.id)
            await self._outbox.send(encode_error(told))
            return
        problem = self._tell(error)
        told = RpcError(NODE_ERROR, problem.title, request.id)
        await self._outbox.send(encode_error(told, problem))

    async def _start_events(self, nursery: trio.Nursery) -> Done:
        if not self._subscribed:
            self._subscribed = True
            await nursery.start(self._forward_events)
        return Done()

    async def _forward_events(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with self._subscribe() as events:
            task_status.started()
            async for event in events:
                await self._outbox.send(encode_event(event))

    async def _write(self) -> None:
        # The reader notices what ends the connection, and closes it.
        with contextlib.suppress(trio.BrokenResourceError):
            async for line in self._to_write:
                await self._stream.send_all(line)

    async def _send_last(self, error: RpcError) -> None:
        with trio.move_on_after(1), contextlib.suppress(trio.BusyResourceError):
            await self._stream.send_all(encode_error(error))


@contextmanager
def only_daemon(places: Places) -> Iterator[None]:
    """Hold the lock of these places, which a dead process cannot hold.

    Makes the directories. Raises `ProgramError` 802 if another daemon has the lock.
    """
    places.make()
    if not is_ours(places.runtime):
        raise ProgramError.of("811", f"{places.runtime} belongs to somebody else")
    places.runtime.chmod(0o700)
    with places.process_file.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            served = f"{places.control_socket} is served{_by_whom(places)}"
            raise ProgramError.of("802", served) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            # Not unlinked: another daemon may be waiting to lock this very file.
            file.truncate(0)


@asynccontextmanager
async def open_control_server(
    places: Places,
    methods: Mapping[str, Method],
    subscribe: Subscribe,
    tell: Callable[[BaseException], Problem],
) -> AsyncIterator[None]:
    """Serve the control socket while the context is open, inside `only_daemon`.

    A socket that a dead daemon left behind is replaced. `tell` makes a problem
    of a failure.
    """
    listener = await _listen(places.control_socket)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, listener, methods, subscribe, tell)
            yield
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        places.control_socket.unlink(missing_ok=True)


async def _accept(
    listener: trio.socket.SocketType,
    methods: Mapping[str, Method],
    subscribe: Subscribe,
    tell: Callable[[BaseException], Problem],
) -> None:
    places = trio.CapacityLimiter(CLIENTS_MAX)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                places.acquire_nowait()
            except trio.WouldBlock:
                await _turn_away(stream)
                return
            try:
                await Client(stream, methods, subscribe, tell).serve()
            finally:
                places.release()

    await trio.serve_listeners(serve, [trio.SocketListener(listener)])


async def _turn_away(stream: trio.SocketStream) -> None:
    problem = ProgramError.of("814", f"{CLIENTS_MAX} programs, the most").problem
    refusal = encode_error(RpcError(NODE_ERROR, problem.title), problem)
    with trio.move_on_after(1), contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(refusal)


async def _listen(path: Path) -> trio.socket.SocketType:
    await trio.Path(path).unlink(missing_ok=True)
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        previous_mask = os.umask(0o177)
        try:
            await listener.bind(str(path))
        finally:
            os.umask(previous_mask)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _by_whom(places: Places) -> str:
    pid = places.process_file.read_text(encoding="utf-8")
    return f" by process {pid}" if pid else ""
