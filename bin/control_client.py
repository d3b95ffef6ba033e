"""The control socket, client's side: one connection, typed answers, events.

A task reads; each request waits for its own answer. When the daemon goes, every waiting
request fails with `ProgramError` 801, and so does the wait for events.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from bin.errors import Problem, ProgramError
from bin.jsonrpc import (
    Lines,
    LineTooLong,
    Response,
    RpcError,
    decode_response,
    encode_request,
)
from bin.places import is_ours
from bin.reports import Done, EventReport, Nothing

__all__ = ["Control", "open_control"]

READ_BYTES: Final = 65_536
EVENTS_MAX: Final = 256
# Waiting for a program that is busy printing.

R = TypeVar("R", bound=msgspec.Struct)


@asynccontextmanager
async def open_control(path: Path) -> AsyncIterator[Control]:
    """Connect to the daemon of this socket; `ProgramError` 801 if none answers.

    811 if the directory it is in is not ours alone: somebody else could listen there.
    """
    if not is_ours(path.parent):
        raise ProgramError.of("811", f"{path.parent} belongs to somebody else")
    try:
        stream = await trio.open_unix_socket(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        raise ProgramError.of("801", f"nobody listens at {path}") from None
    except OSError as error:
        raise ProgramError.of("811", f"{path}: {error.strerror}") from None
    async with stream, trio.open_nursery() as nursery:
        control = Control(stream, path)
        nursery.start_soon(control.serve)
        yield control
        nursery.cancel_scope.cancel()


class Control:
    """A connection to a daemon."""

    def __init__(self, stream: trio.SocketStream, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._sending = trio.Lock()
        self._last_id = 0
        self._waiting: dict[int, trio.MemorySendChannel[Response]] = {}
        self._gone = False
        self._refusal: Problem | None = None
        self._to_reader, self._events = trio.open_memory_channel[EventReport](
            EVENTS_MAX
        )

    async def ask(
        self, method: str, result: type[R], params: msgspec.Struct | None = None
    ) -> R:
        """Send a request and wait for its answer.

        Raises `ProgramError` with the daemon's problem. A cancelled wait forgets the
        answer; the daemon carries the request out all the same.
        """
        response = await self._exchange(method, params or Nothing())
        if response.error is not None:
            if response.error.data is not None:
                raise ProgramError(response.error.data)
            raise ProgramError.of("806", f"{method}: {response.error.message}")
        try:
            return msgspec.json.decode(response.result, type=result)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProgramError.of("806", f"answer to {method}: {error}") from None

    async def subscribe(self) -> trio.MemoryReceiveChannel[EventReport]:
        """Have events pushed from now on; the channel ends when the daemon does."""
        await self.ask("subscribe", Done)
        return self._events

    async def serve(self) -> None:
        """Read answers and events until the daemon closes."""
        lines = Lines()
        try:
            while data := await self._stream.receive_some(READ_BYTES):
                for line in lines.feed(data):
                    self._take(decode_response(line))
        except trio.BrokenResourceError:
            pass
        except (RpcError, LineTooLong) as error:
            raise ProgramError.of("806", str(error) or "an endless line") from None
        finally:
            self._gone = True
            self._to_reader.close()
            for waiting in self._waiting.values():
                waiting.close()

    async def _exchange(self, method: str, params: msgspec.Struct) -> Response:
        self._last_id += 1
        request_id = self._last_id
        answer, answered = trio.open_memory_channel[Response](1)
        self._waiting[request_id] = answer
        try:
            async with self._sending:
                await self._stream.send_all(encode_request(request_id, method, params))
            if self._gone:
                raise self._daemon_gone()
            return await answered.receive()
        except (trio.EndOfChannel, trio.BrokenResourceError):
            raise self._daemon_gone() from None
        finally:
            del self._waiting[request_id]

    def _daemon_gone(self) -> ProgramError:
        if self._refusal is not None:
            return ProgramError(self._refusal)
        return ProgramError.of("801", f"the daemon at {self._path} has just ended")

    def _take(self, response: Response) -> None:
        if response.method == "event":
            event = msgspec.json.decode(response.params, type=EventReport)
            # Who does not read loses events; the state itself can always be asked for.
            with contextlib.suppress(trio.WouldBlock):
                self._to_reader.send_nowait(event)
        elif response.id is None and response.error is not None:
            # It is about the connection as a whole, which is closed next.
            self._refusal = response.error.data
        elif isinstance(response.id, int) and response.id in self._waiting:
            self._waiting[response.id].send_nowait(response)
