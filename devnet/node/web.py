"""HTTP/1.x as forgiving as bitcoind's, which is what mining software was written against.

Clients such as ckpool end their header lines with a bare line feed, others send no Host: the
maintained servers (aiohttp, h11, tornado) refuse one or the other. What is needed is small: a
request with a Content-Length, an answer, and connections that stay open.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import structlog

log = structlog.get_logger(__name__)

MAX_HEAD: Final = 8192
"""Bytes of request line and headers that bitcoind takes."""

MAX_BODY: Final = 32 * 2**20
"""Bytes of body that bitcoind takes."""

MAX_CONNECTIONS: Final = 100

READ_TIMEOUT: Final = 30.0
"""Seconds that a client may take to send a request, the wait before it included."""

_GONE_CHECK: Final = 1.0
"""Seconds between checks that the client of a long call is still connected."""

_SHUTDOWN_GRACE: Final = 2.0
"""Seconds that running calls may take when the server stops."""


class PortInUse(Exception):
    """The server cannot listen on its address."""


class _BadRequest(Exception):
    """A request that the server refuses; ``status`` is the answer."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A request up to its body; header names are in lower case."""

    method: str
    target: str
    version: str
    headers: Mapping[str, str]
    peer: str

    @property
    def keep_alive(self) -> bool:
        """Whether the client expects to use the connection again."""
        default = "close" if self.version == "HTTP/1.0" else "keep-alive"
        return self.headers.get("connection", default).lower() != "close"


@dataclass(frozen=True, slots=True)
class Response:
    """Status, body (JSON unless it is empty), and further headers."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Check = Callable[[Head], Awaitable[Response | None]]
"""Refuses a request by its head, before the body is read; None lets it pass."""

Handle = Callable[[bytes], Awaitable[Response]]
"""Answers the body of a request."""


@asynccontextmanager
async def serve(check: Check, handle: Handle, host: str, port: int) -> AsyncIterator[int]:
    """Listens on ``host`` and ``port`` (0 for any free one); yields the port.

    On exit it gives running calls two seconds, then cancels them.

    Raises:
        PortInUse: the port cannot be bound.
    """
    connections: dict[asyncio.Task[None], _Connection] = {}

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(connections) >= MAX_CONNECTIONS:
            log.warning("too many RPC connections", limit=MAX_CONNECTIONS)
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        connections[task] = connection = _Connection(reader, writer, check, handle)
        try:
            await connection.run()
        finally:
            del connections[task]
            writer.close()

    try:
        server = await asyncio.start_server(accept, host, port, limit=MAX_HEAD)
    except OSError as error:
        # The event loop's own text repeats the address in Python's notation.
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PortInUse(f"cannot listen on {host} port {port}: {reason}") from error
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        busy = [task for task, connection in connections.items() if connection.busy]
        if busy:
            await asyncio.wait(busy, timeout=_SHUTDOWN_GRACE)
        remaining = list(connections)
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
        await server.wait_closed()


@dataclass(eq=False)
class _Connection:
    """One client: request after request until it leaves, falls silent, or sends garbage."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _check: Check
    _handle: Handle
    busy: bool = False

    def __post_init__(self) -> None:
        self._peer = str((self._writer.get_extra_info("peername") or ("unknown",))[0])

    async def run(self) -> None:
        try:
            while await self._serve_one():
                self.busy = False
        except _BadRequest as error:
            log.debug("bad HTTP request", peer=self._peer, status=error.status.value)
            await self._send(Response(error.status), keep_alive=False)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as error:
            log.debug("RPC client left", peer=self._peer, reason=type(error).__name__)

    async def _serve_one(self) -> bool:
        """Answers one request; False when the connection ends here."""
        async with asyncio.timeout(READ_TIMEOUT):
            head = await self._read_head()
        if head is None:
            return False
        self.busy = True
        refusal = await self._check(head)
        if refusal is not None:
            # The body is not read, so the next request could not be found.
            await self._send(refusal, keep_alive=False)
            return False
        async with asyncio.timeout(READ_TIMEOUT):
            body = await self._read_body(head)
        response = await self._answer(body)
        await self._send(response, keep_alive=head.keep_alive)
        return head.keep_alive

    async def _read_head(self) -> Head | None:
        """The next request's head; None when the client closed instead."""
        lines: list[str] = []
        size = 0
        while True:
            try:
                raw = await self._reader.readline()
            except ValueError as error:  # a line longer than the reader's limit
                raise _BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from error
            size += len(raw)
            if size > MAX_HEAD:
                raise _BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            if not raw.endswith(b"\n"):
                if size == 0:
                    return None
                raise asyncio.IncompleteReadError(raw, None)
            line = raw.rstrip(b"\r\n").decode("latin-1")
            if line:
                lines.append(line)
            elif lines:  # empty lines before a request are skipped (RFC 9112, 2.2)
                return _parse_head(lines, self._peer)

    async def _read_body(self, head: Head) -> bytes:
        if "transfer-encoding" in head.headers:
            raise _BadRequest(HTTPStatus.NOT_IMPLEMENTED)
        text = head.headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise _BadRequest(HTTPStatus.BAD_REQUEST)
        size = int(text)
        if size > MAX_BODY:
            raise _BadRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if head.headers.get("expect", "").lower() == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await self._reader.readexactly(size)

    async def _answer(self, body: bytes) -> Response:
        """The handler's response; a handler whose client has left is cancelled."""
        call = asyncio.ensure_future(self._handle(body))
        try:
            while not (await asyncio.wait({call}, timeout=_GONE_CHECK))[0]:
                if self._reader.at_eof():
                    raise ConnectionResetError("the client left")
            return call.result()
        finally:
            call.cancel()

    async def _send(self, response: Response, *, keep_alive: bool) -> None:
        status = HTTPStatus(response.status)
        headers = {"Content-Type": "application/json"} if response.body else {}
        headers |= {"Content-Length": str(len(response.body)), **response.headers}
        if not keep_alive:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + response.body)
        await self._writer.drain()


def _parse_head(lines: list[str], peer: str) -> Head:
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise _BadRequest(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _BadRequest(HTTPStatus.BAD_REQUEST)
        if headers.setdefault(name.lower(), value.strip()) != value.strip():
            # Two lengths, or two passwords: either could be the one that counts.
            raise _BadRequest(HTTPStatus.BAD_REQUEST)
    return Head(words[0], words[1], words[2], headers, peer)
