"""Both RPC clients give a result, the node's own error, or say that there is no node."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.rpc import RPCClient
from tbg_core.rpc import (
    CookieCredentials,
    Credentials,
    NodeUnauthorized,
    NodeUnreachable,
    PasswordCredentials,
    RPCError,
    RPCErrorCode,
    RPCFailure,
    call,
    decode_response,
    encode_request,
    split_url,
)
from tests.devnet.node.conftest import PASSWORD, USER, running_node

CREDENTIALS = PasswordCredentials(USER, PASSWORD)
Ask = Callable[..., Awaitable[Any]]


async def ask_async(
    url: str, method: str, *params: Any, credentials: Credentials = CREDENTIALS, limit: float = 60
) -> Any:
    async with RPCClient(url, credentials, timeout=limit) as client:
        return await client.call(method, *params)


async def ask_blocking(
    url: str, method: str, *params: Any, credentials: Credentials = CREDENTIALS, limit: float = 60
) -> Any:
    return await asyncio.to_thread(call, url, credentials, method, *params, timeout=limit)


@pytest.fixture(params=[ask_async, ask_blocking])
def ask(request: pytest.FixtureRequest) -> Ask:
    function: Ask = request.param
    return function


@asynccontextmanager
async def server_that_says(answer: bytes, *, pause: float = 0) -> AsyncIterator[str]:
    """A port where every request is answered with these bytes."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(pause)
            writer.write(answer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in serving:  # Python 3.12 and later wait for them
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def test_calls_reach_a_node(tmp_path: Path, ask: Ask) -> None:
    async with running_node(tmp_path) as rpc:
        assert await ask(rpc.url, "getblockcount") == 0
        many = await asyncio.gather(*(ask(rpc.url, "getblockhash", 0) for _ in range(20)))
        with pytest.raises(RPCError) as caught:
            await ask(rpc.url, "getblockhash", 7)
        with pytest.raises(NodeUnauthorized, match="user and password"):
            await ask(rpc.url, "uptime", credentials=PasswordCredentials(USER, "wrong"))
    assert len(set(many)) == 1
    assert caught.value.code == RPCErrorCode.INVALID_PARAMETER


async def test_a_port_where_nobody_listens_is_named(ask: Ask) -> None:
    # Bound and never listening: nobody else can have the port meanwhile.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(NodeUnreachable, match=f"{url} is not reachable for getblockcount"):
            await ask(url, "getblockcount")


async def test_a_node_that_is_too_slow_is_unreachable(ask: Ask) -> None:
    async with server_that_says(b"", pause=60) as url:
        with pytest.raises(NodeUnreachable, match=r"did not answer getblockcount within 0\.1 s"):
            await ask(url, "getblockcount", limit=0.1)


async def test_a_call_may_have_a_limit_of_its_own() -> None:
    async with (
        server_that_says(b"", pause=60) as url,
        RPCClient(url, CREDENTIALS, timeout=60) as client,
    ):
        with pytest.raises(NodeUnreachable, match=r"within 0\.1 s"):
            await client.call("getblocktemplate", timeout=0.1)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_refused_password_is_told_from_a_missing_node(ask: Ask, status: str) -> None:
    async with server_that_says(http(status, b"")) as url:
        with pytest.raises(NodeUnauthorized, match="user and password"):
            await ask(url, "getblockcount")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (http("200 OK", b"<html>It works!</html>"), "is this a Bitcoin node"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "is this a Bitcoin node",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not reachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "not reachable"),
        (b"", "not reachable"),
    ],
)
async def test_another_program_on_the_port_is_recognised(
    ask: Ask, answer: bytes, complaint: str
) -> None:
    async with server_that_says(answer) as url:
        with pytest.raises(NodeUnreachable, match=complaint):
            await ask(url, "getblockcount")


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_the_error_of_a_node_carries_its_code_whatever_the_status(
    ask: Ask, status: str
) -> None:
    body = b'{"result": null, "error": {"code": -28, "message": "Loading"}, "id": 1}'
    async with server_that_says(http(status, body)) as url:
        with pytest.raises(RPCError, match=r"Loading \(code -28\)") as caught:
            await ask(url, "getblockcount")
    assert caught.value.code == RPCErrorCode.IN_WARMUP
    assert caught.value.message == "Loading"


async def test_a_call_goes_past_every_proxy(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is for the node alone."""
    answer = http("200 OK", b'{"result": 7, "error": null, "id": 1}')
    async with server_that_says(answer) as url, server_that_says(http("200 OK", b"")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        assert await ask(url, "getblockcount") == 7


async def test_a_client_that_was_not_entered_says_so() -> None:
    with pytest.raises(RuntimeError, match="enter it first"):
        await RPCClient("http://127.0.0.1:1", CREDENTIALS).call("uptime")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_cookie_file_is_read_for_every_call_and_its_absence_is_named(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / ".cookie"
    credentials = CookieCredentials(path)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NodeUnauthorized, match=r"\.cookie cannot be read .*is the node running"):
        credentials.authorization()

    path.write_text("__cookie__:one")
    first = credentials.authorization()
    path.write_text("__cookie__:two")
    assert credentials.authorization() != first
    assert credentials.authorization() == PasswordCredentials("__cookie__", "two").authorization()


@pytest.mark.parametrize(
    ("url", "bare", "credentials"),
    [
        ("http://127.0.0.1:18443", "http://127.0.0.1:18443", None),
        ("http://a:b@node:1/", "http://node:1/", PasswordCredentials("a", "b")),
        ("https://a%40b:c%3Ad@[::1]:8332", "https://[::1]:8332", PasswordCredentials("a@b", "c:d")),
        ("http://a@node", "http://node", PasswordCredentials("a", "")),
    ],
)
def test_credentials_are_taken_out_of_a_url(
    url: str, bare: str, credentials: PasswordCredentials | None
) -> None:
    assert split_url(url) == (bare, credentials)


@pytest.mark.parametrize("url", ["", "node:18443", "ftp://node:1", "http://", "http://u:s3cret@:1"])
def test_a_url_that_names_no_node_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:port") as caught:
        split_url(url)
    assert "s3cret" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(PasswordCredentials("user", "secret"))


def test_requests_are_what_the_json_rpc_1_specification_has() -> None:
    assert json.loads(encode_request("getblockhash", [1])) == {
        "method": "getblockhash",
        "params": [1],
        "id": 1,
    }


@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=60)
    | st.sampled_from(
        [b"{}", b"[]", b"null", b'{"error": 1}', b'{"error": {"code": "x"}}', b'{"result": 1}']
    ),
)
def test_any_answer_is_a_result_or_a_failure(status: int, body: bytes) -> None:
    try:
        decode_response(status, body)
    except RPCFailure:
        return
    assert "result" in json.loads(body)
