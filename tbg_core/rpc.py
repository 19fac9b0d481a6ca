"""JSON-RPC to a Bitcoin node (bitcoind, or the devnet's): the encoding, and a client that blocks.

It lives here because every room may import this one. The encoding is pure, so the devnet's
asyncio client (:mod:`devnet.rpc`) shares it.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

DEFAULT_TIMEOUT: Final = 10.0  # seconds


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
    """The node answered with an error.

    Attributes:
        code: see :class:`RPCErrorCode`.
        message: the node's words.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code
        self.message = message


class NodeUnreachable(RPCFailure):
    """The node is not running, is too slow, or is not a Bitcoin node."""


class NodeUnauthorized(NodeUnreachable):
    """The node refused our user and password, or the cookie file cannot be read."""


class Credentials(Protocol):
    """What fills the Authorization header."""

    def authorization(self) -> str:
        """The header for the next request.

        Raises:
            NodeUnauthorized: when it cannot be read.
        """
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
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise NodeUnauthorized(
                f"the cookie file {self.path} cannot be read ({reason}); is the node running?"
            ) from error


def split_url(url: str) -> tuple[str, PasswordCredentials | None]:
    """A URL without its ``user:password@``, and these.

    Raises:
        ValueError: when it is not http://host:port or https://host:port.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the URL of a node's RPC is http://host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    bare = urlunsplit(parts._replace(netloc=f"{host}:{parts.port}" if parts.port else host))
    if parts.username is None:
        return bare, None
    return bare, PasswordCredentials(unquote(parts.username), unquote(parts.password or ""))


def call(
    url: str,
    credentials: Credentials | None,
    method: str,
    *params: Any,
    timeout: float = DEFAULT_TIMEOUT,
) -> Any:
    """The result of one call; blocks, and tries once.

    It goes to the node itself: no proxy of the environment sees the password.

    Args:
        url: http://host:port, without user and password.
        credentials: None to send none.
        method: of the node.
        *params: of the method, by position.
        timeout: seconds that the node may be silent.

    Raises:
        RPCError: the node's error.
        NodeUnreachable: no answer, or not a node's.
    """
    try:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=timeout)
        try:
            connection.request(
                "POST", parts.path or "/", encode_request(method, params), headers(credentials)
            )
            response = connection.getresponse()
            status, body = response.status, response.read()
        finally:
            connection.close()
    except TimeoutError as error:
        raise NodeUnreachable(f"{url} did not answer {method} within {timeout:g} s") from error
    except (OSError, HTTPException, ValueError) as error:
        raise NodeUnreachable(f"{url} is not reachable for {method}: {error}") from error
    return decode_response(status, body)


def headers(credentials: Credentials | None) -> dict[str, str]:
    """The headers of a request.

    Raises:
        NodeUnauthorized: when the credentials cannot be read.
    """
    fixed = {"Content-Type": "application/json"}
    return fixed if credentials is None else fixed | {"Authorization": credentials.authorization()}


def encode_request(method: str, params: Sequence[Any] = ()) -> bytes:
    """The body of a call. Versionless JSON-RPC 1, which every release of bitcoind takes."""
    return json.dumps({"method": method, "params": list(params), "id": 1}).encode()


def decode_response(status: int, body: bytes) -> Any:
    """The result of a call from the HTTP status and body of its answer.

    Raises:
        RPCError: the node's error.
        NodeUnreachable: when the answer is not a JSON-RPC response.
        NodeUnauthorized: when the node refused the credentials.
    """
    if status in (401, 403):
        raise NodeUnauthorized(f"the node refused our user and password (HTTP {status})")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        start = body[:80].decode("utf-8", "replace")
        raise NodeUnreachable(
            f"HTTP {status} with a body that is not JSON: {start!r}; is this a Bitcoin node?"
        ) from error
    if not isinstance(answer, dict):
        raise NodeUnreachable(f"the answer is not a JSON-RPC response but {type(answer).__name__}")
    refusal = answer.get("error")
    if refusal is not None:
        if not isinstance(refusal, dict) or not isinstance(refusal.get("code"), int):
            raise NodeUnreachable(f"the answer carries an error without a code: {refusal!r:.200}")
        raise RPCError(refusal["code"], str(refusal.get("message", "")))
    if "result" not in answer:
        raise NodeUnreachable("the answer has neither result nor error")
    return answer["result"]


def _basic(pair: str) -> str:
    return "Basic " + b64encode(pair.encode()).decode()
