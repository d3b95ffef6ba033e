"""JSON-RPC 2.0, one message a line: what the daemon and its clients say.

    --> {"jsonrpc":"2.0","id":1,"method":"look_up","params":{"peer":"bob"}}
    <-- {"jsonrpc":"2.0","id":1,"result":{"schema":1,...}}
    <-- {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"...","data":{...}}}
    <-- {"jsonrpc":"2.0","method":"event","params":{"schema":1,...}}

A line ends with a line feed and has at most `LINE_BYTES_MAX`. Batches are refused. An
error of the node has code -32000 and its `Problem` as `data`; the others are those of
the specification. Codec: pure functions and one splitter of lines.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from bin.errors import Problem

__all__ = [
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "LINE_BYTES_MAX",
    "METHOD_NOT_FOUND",
    "NODE_ERROR",
    "PARSE_ERROR",
    "Id",
    "LineTooLong",
    "Lines",
    "Request",
    "Response",
    "ResponseError",
    "RpcError",
    "decode_request",
    "decode_response",
    "encode_error",
    "encode_event",
    "encode_request",
    "encode_result",
]

LINE_BYTES_MAX: Final = 1 << 20
# Ten times the largest answer there is: 10^4 supernodes are asked for in pages.

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
NODE_ERROR: Final = -32000

Id: TypeAlias = int | str | None


class LineTooLong(Exception):
    """More than `LINE_BYTES_MAX` came without a line feed; nothing can be saved."""


class RpcError(Exception):
    """A request that cannot be carried out, as the specification names it."""

    def __init__(self, code: int, message: str, request_id: Id = None) -> None:
        super().__init__(message)
        self.code: Final = code
        self.message: Final = message
        self.request_id: Final = request_id


class Request(msgspec.Struct, frozen=True):
    """One request. Without an id it is a notification and is not answered."""

    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    jsonrpc: str = "2.0"


class ResponseError(msgspec.Struct, frozen=True):
    """The error member of a response."""

    code: int
    message: str
    data: Problem | None = None


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client reads: the answer to a request, or an event (`method`)."""

    jsonrpc: str
    id: Id = None
    result: msgspec.Raw = msgspec.Raw()
    error: ResponseError | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw()


class Lines:
    """The lines in a stream of bytes, as they come in pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Give the lines that are now complete. Raises `LineTooLong`."""
        # Only what is new is searched, so that a slow flood costs no more than a fast.
        if b"\n" not in data:
            self._rest += data
            lines: list[bytes] = []
        else:
            *lines, rest = bytes(self._rest + data).split(b"\n")
            self._rest = bytearray(rest)
        if max(len(self._rest), *map(len, lines), 0) > LINE_BYTES_MAX:
            raise LineTooLong
        return lines


def decode_request(line: bytes) -> Request:
    """Read a request. Raises `RpcError` and nothing else."""
    try:
        request = msgspec.json.decode(line, type=Request)
    except msgspec.ValidationError as error:
        raise RpcError(INVALID_REQUEST, str(error)) from None
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RpcError(PARSE_ERROR, str(error)) from None
    if request.jsonrpc != "2.0":
        raise RpcError(INVALID_REQUEST, f"version {request.jsonrpc!r}, expected '2.0'")
    return request


def decode_response(line: bytes) -> Response:
    """Read what the daemon sent. Raises `RpcError` and nothing else."""
    try:
        return msgspec.json.decode(line, type=Response)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RpcError(PARSE_ERROR, str(error)) from None


def encode_request(request_id: int, method: str, params: msgspec.Struct) -> bytes:
    """Write a request, with its line feed."""
    raw = msgspec.Raw(msgspec.json.encode(params))
    return _line(Request(method=method, params=raw, id=request_id))


def encode_result(request_id: Id, result: msgspec.Struct) -> bytes:
    """Write the answer to a request."""
    return _line({"jsonrpc": "2.0", "id": request_id, "result": result})


def encode_error(error: RpcError, problem: Problem | None = None) -> bytes:
    """Write the refusal of a request; the `Problem` of the node goes along as data."""
    told = {"code": error.code, "message": error.message}
    data = {} if problem is None else {"data": problem}
    return _line({"jsonrpc": "2.0", "id": error.request_id, "error": told | data})


def encode_event(event: msgspec.Struct) -> bytes:
    """Write an event that a client has subscribed to."""
    return _line({"jsonrpc": "2.0", "method": "event", "params": event})


def _line(message: object) -> bytes:
    return msgspec.json.encode(message) + b"\n"
