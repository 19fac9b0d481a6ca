"""JSON-RPC 1.0 and 2.0 over HTTP, as bitcoind speaks them: requests, batches, status codes.

Version 1 (a request without ``jsonrpc``, or "1.0") reports errors in the HTTP status too.
Version 2 answers 200 whenever the request could be read, and does not answer notifications.
"""

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from devnet.node.web import Response
from tbg_core.rpc import RPCError, RPCErrorCode

Dispatch = Callable[[str, object], Awaitable[Any]]

_STATUS: Final = {RPCErrorCode.INVALID_REQUEST: 400, RPCErrorCode.METHOD_NOT_FOUND: 404}


@dataclass(slots=True)
class _Reply:
    """What is known of a request so far: enough to answer it."""

    id: Any = None
    version_2: bool = False
    notification: bool = False
    result: Any = None
    error: RPCError | None = None

    def document(self) -> dict[str, Any]:
        error = self.error and {"code": int(self.error.code), "message": self.error.message}
        if self.version_2:
            outcome = {"error": error} if error else {"result": self.result}
            return {"jsonrpc": "2.0", **outcome, "id": self.id}
        return {"result": self.result, "error": error, "id": self.id}

    @property
    def status(self) -> int:
        if self.error is None or self.version_2:
            return 200
        return _STATUS.get(RPCErrorCode(self.error.code), 500)


async def answer(body: bytes, dispatch: Dispatch) -> Response:
    """Runs the request or batch in ``body`` through ``dispatch``; returns the answer to send.

    ``dispatch`` raises ``RPCError`` for a call without a result. The calls of a batch run one
    after the other.
    """
    try:
        content = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return _parse_error("Parse error")
    if isinstance(content, dict):
        reply = await _run(content, dispatch)
        if reply.notification:
            return Response(204)
        return Response(reply.status, _encode(reply.document()))
    if isinstance(content, list):
        replies = [await _run(item, dispatch) for item in content]
        documents = [reply.document() for reply in replies if not reply.notification]
        if replies and not documents:
            return Response(204)
        return Response(200, _encode(documents))
    return _parse_error("Top-level object parse error")


async def _run(content: object, dispatch: Dispatch) -> _Reply:
    reply = _Reply()
    try:
        method, params = _read(content, reply)
        reply.result = await dispatch(method, params)
    except RPCError as error:
        reply.error = error
    return reply


def _read(content: object, reply: _Reply) -> tuple[str, object]:
    """Method and params; fills ``reply`` as far as the request can be read."""
    if not isinstance(content, dict):
        raise _invalid("Invalid Request object")
    reply.id = content.get("id")
    version = content.get("jsonrpc")
    if version is not None:
        if not isinstance(version, str):
            raise _invalid("jsonrpc field must be a string")
        if version not in ("1.0", "2.0"):
            raise _invalid("JSON-RPC version not supported")
        reply.version_2 = version == "2.0"
        reply.notification = reply.version_2 and "id" not in content
    method = content.get("method")
    if method is None:
        raise _invalid("Missing method")
    if not isinstance(method, str):
        raise _invalid("Method must be a string")
    params = content.get("params")
    if params is not None and not isinstance(params, list | dict):
        raise _invalid("Params must be an array or object")
    return method, params


def _invalid(message: str) -> RPCError:
    return RPCError(RPCErrorCode.INVALID_REQUEST, message)


def _parse_error(message: str) -> Response:
    reply = _Reply(error=RPCError(RPCErrorCode.PARSE_ERROR, message))
    return Response(reply.status, _encode(reply.document()))


def _encode(document: object) -> bytes:
    return json.dumps(document, allow_nan=False).encode() + b"\n"


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    """A float that can be sent back: the id of a request is echoed."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value
