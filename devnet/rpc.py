"""A client for a Bitcoin node's JSON-RPC: the devnet node and bitcoind alike.

``encode_*`` and ``decode_*`` are pure, so that a caller without asyncio needs no more than a
function that posts bytes; ``RPCClient`` does that with aiohttp.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp

DEFAULT_TIMEOUT = 10.0
"""Seconds that a call may take, connecting included."""

Call = tuple[str, Sequence[Any]]
"""A method and its positional parameters."""


class RPCErrorCode(IntEnum):
    """The error codes of Bitcoin Core's rpc/protocol.h that a mining client or node meets."""

    MISC_ERROR = -1
    TYPE_ERROR = -3
    INVALID_ADDRESS_OR_KEY = -5
    INVALID_PARAMETER = -8
    CLIENT_NOT_CONNECTED = -9
    CLIENT_IN_INITIAL_DOWNLOAD = -10
    DESERIALIZATION_ERROR = -22
    VERIFY_ERROR = -25
    IN_WARMUP = -28
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INTERNAL_ERROR = -32603
    PARSE_ERROR = -32700


class RPCFailure(Exception):
    """A call that has no result; one of the classes below."""


class RPCError(RPCFailure):
    """The node answered with an error: ``code`` (see ``RPCErrorCode``) and ``message``."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code
        self.message = message


class NodeUnreachable(RPCFailure):
    """No answer, or none that a node gives: not running, too slow, or not a Bitcoin node."""


class NodeUnauthorized(NodeUnreachable):
    """The node refused our user and password, or the cookie file cannot be read."""


class Credentials(Protocol):
    """Something that knows the value of the Authorization header."""

    def authorization(self) -> str:
        """The header for the next request; raises ``NodeUnauthorized`` when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class PasswordCredentials:
    """A user and a password, as in ``rpcuser`` and ``rpcpassword``."""

    user: str
    password: str

    def authorization(self) -> str:
        """HTTP basic authentication."""
        return _basic(f"{self.user}:{self.password}")

    def __repr__(self) -> str:
        return f"PasswordCredentials(user={self.user!r})"  # a password has no place in a log


@dataclass(frozen=True, slots=True)
class CookieCredentials:
    """The cookie file of a node; read for every call, because each start writes a new one."""

    path: Path

    def authorization(self) -> str:
        """HTTP basic authentication with what the file holds now."""
        try:
            return _basic(self.path.read_text("utf-8").strip())
        except OSError as error:
            raise NodeUnauthorized(
                f"the cookie file {self.path} cannot be read ({error.strerror});"
                " is the node running?"
            ) from error


def encode_request(method: str, params: Sequence[Any] = (), request_id: int = 0) -> bytes:
    """The body of a call. Versionless JSON-RPC 1, which every release of bitcoind takes."""
    return json.dumps({"method": method, "params": list(params), "id": request_id}).encode()


def encode_batch(calls: Sequence[Call]) -> bytes:
    """The body of several calls at once, numbered from 0."""
    return json.dumps(
        [
            {"method": method, "params": list(params), "id": number}
            for number, (method, params) in enumerate(calls)
        ]
    ).encode()


def decode_response(status: int, body: bytes) -> Any:
    """The result of a call from the HTTP status and body of its answer.

    Raises ``RPCError`` for the node's errors, ``NodeUnreachable`` (or ``NodeUnauthorized``) for
    an answer that is no JSON-RPC response.
    """
    return _result(_decode_body(status, body))


def decode_batch(status: int, body: bytes, size: int) -> list[Any | RPCError]:
    """The results of ``size`` calls in their order; an ``RPCError`` stands where one failed."""
    answers = _decode_body(status, body)
    if not isinstance(answers, list):
        _result(answers)  # the node refused the batch as a whole
        raise NodeUnreachable("the answer to a batch is not a list")
    by_id = {
        item["id"]: item
        for item in answers
        if isinstance(item, dict) and isinstance(item.get("id"), int)
    }
    results: list[Any | RPCError] = []
    for number in range(size):
        if number not in by_id:
            raise NodeUnreachable(f"call {number} of a batch has no answer")
        try:
            results.append(_result(by_id[number]))
        except RPCError as error:
            results.append(error)
    return results


class RPCClient:
    """Calls to the node at ``url`` (``http://127.0.0.1:18443``); use it as a context manager.

    Safe for concurrent calls. Nothing is retried here: only the caller knows whether a repeated
    call is harmless.
    """

    def __init__(
        self, url: str, credentials: Credentials, *, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self.url = url
        self._credentials = credentials
        self._timeout = timeout
        self._ids = count(1)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Connections are not kept: bitcoind closes idle ones after 30 seconds, and a call on a
        # connection that closes under it fails without need.
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, *params: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - a long poll has a limit of its own, and the error names it
        """The result of one call.

        ``timeout`` in seconds replaces the client's, for a long poll say. Raises ``RPCError`` or
        ``NodeUnreachable``.
        """
        body = encode_request(method, params, next(self._ids))
        return decode_response(*await self._post(body, method, timeout or self._timeout))

    async def batch(self, calls: Sequence[Call]) -> list[Any | RPCError]:
        """The results of several calls in one request; an ``RPCError`` stands where one failed."""
        if not calls:
            return []
        name = f"a batch of {len(calls)} calls"
        status, body = await self._post(encode_batch(calls), name, self._timeout)
        return decode_batch(status, body, len(calls))

    async def _post(self, body: bytes, name: str, seconds: float) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("RPCClient is an asynchronous context manager: enter it first")
        headers = {
            "Authorization": self._credentials.authorization(),
            "Content-Type": "application/json",
        }
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.post(
                self.url, data=body, headers=headers, timeout=limit
            ) as response:
                return response.status, await response.read()
        except TimeoutError as error:
            raise NodeUnreachable(
                f"{self.url} did not answer {name} within {seconds:g} s"
            ) from error
        except aiohttp.ClientError as error:
            raise NodeUnreachable(f"{self.url} is not reachable for {name}: {error}") from error


def _basic(pair: str) -> str:
    return "Basic " + b64encode(pair.encode()).decode()


def _decode_body(status: int, body: bytes) -> Any:
    if status in (401, 403):
        raise NodeUnauthorized(f"the node refused our user and password (HTTP {status})")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        start = body[:80].decode("utf-8", "replace")
        raise NodeUnreachable(
            f"HTTP {status} with a body that is not JSON: {start!r}; is this a Bitcoin node?"
        ) from error


def _result(answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise NodeUnreachable(f"the answer is not a JSON-RPC response but {type(answer).__name__}")
    error = answer.get("error")
    if error is not None:
        if not isinstance(error, dict) or not isinstance(error.get("code"), int):
            raise NodeUnreachable(f"the answer carries an error without a code: {error!r}")
        raise RPCError(error["code"], str(error.get("message", "")))
    if "result" not in answer:
        raise NodeUnreachable("the answer has neither result nor error")
    return answer["result"]
