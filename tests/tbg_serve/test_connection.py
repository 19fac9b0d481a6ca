"""What one client may hold of the server: a bounded head, a bounded time, and no answer for ever."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from tbg_serve import connection
from tbg_serve.connection import Connection, let_go_of_the_stalled
from tests.processes import LIMIT

ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[str, int]]:
    """An application behind our connections: its address."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        port=0,
        timeout_keep_alive=1,
    )
    listening = config.bind_socket()
    let_go_of_the_stalled(listening)
    listening.listen()
    server = uvicorn.Server(config)
    # Signals are the test run's.
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment]
    task = asyncio.create_task(server.serve([listening]))
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        await task


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hi"})


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := await asyncio.wait_for(reader.read(65536), LIMIT):
            found += part
    return found


async def test_a_head_that_has_no_end_is_refused() -> None:
    async with serving(hello) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(ASK)
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        # The request before it is not counted.
        writer.write(b"GET / HTTP/1.1\r\nx: " + b"y" * 60_000 + b"\r\n\r\n")
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(200):
                writer.write(b"x%d: %s\r\n" % (number, b"y" * 1000))
                await writer.drain()
        answer = await all_of(reader)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
        writer.close()


async def test_who_says_nothing_or_half_a_request_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    async with serving(hello) as address:
        for half in (b"", ASK[:-2], ASK + ASK[:-2]):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(half)
            assert (await all_of(reader)).count(b"200 OK") == half.count(ASK)
            writer.close()


async def test_two_requests_at_once_and_one_of_http_1_0_are_answered() -> None:
    async with serving(hello) as address:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(ASK + ASK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await all_of(reader)).count(b"\r\n\r\nhi") == 2
        writer.close()
        # An upgrade that nobody serves is a request like any other.
        reader, writer = await asyncio.open_connection(*address)
        asked = ASK.replace(b"host: x", b"host: x\r\nconnection: upgrade\r\nupgrade: websocket")
        writer.write(asked)
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux's kernel has it")
async def test_who_takes_no_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALLED_SECONDS", 1)
    gone = asyncio.Event()

    async def endless(_scope: Any, receive: Any, send: Any) -> None:
        async def pour() -> None:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})

        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        pouring = asyncio.create_task(pour())
        assert (await receive())["type"] == "http.disconnect"
        pouring.cancel()
        gone.set()

    async with serving(endless) as address:
        with socket.socket() as client:
            client.setblocking(False)
            await asyncio.get_running_loop().sock_connect(client, address)
            await asyncio.get_running_loop().sock_sendall(client, ASK)
            await asyncio.wait_for(gone.wait(), LIMIT)
