"""The RPC client gives a result, the node's own error, or says that there is no node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnet.rpc import (
    CookieCredentials,
    NodeUnauthorized,
    NodeUnreachable,
    PasswordCredentials,
    RPCClient,
    RPCError,
    RPCErrorCode,
    RPCFailure,
    decode_batch,
    decode_response,
    encode_batch,
    encode_request,
)
from tests.devnet.node.conftest import PASSWORD, USER, running_node

JSON: st.SearchStrategy[Any] = (
    st.none() | st.integers(0, 1) | st.text(max_size=3) | st.just([]) | st.just({"code": -1})
)
CREDENTIALS = PasswordCredentials(USER, PASSWORD)


@asynccontextmanager
async def server_that_says(answer: bytes, *, pause: float = 0) -> AsyncIterator[str]:
    """A port where every request is answered with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(pause)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def call(url: str, **options: Any) -> Any:
    async with RPCClient(url, CREDENTIALS) as client:
        return await client.call("getblockcount", **options)


async def test_calls_and_batches_reach_a_node(tmp_path: Path) -> None:
    async with running_node(tmp_path) as rpc:
        assert await rpc.call("getblockcount") == 0
        assert await rpc.batch([]) == []
        results = await rpc.batch([("getblockcount", []), ("getblockhash", [7]), ("nosuch", [])])
        many = await asyncio.gather(*(rpc.call("getblockhash", 0) for _ in range(20)))

    assert results[0] == 0
    assert [error.code for error in results[1:]] == [
        RPCErrorCode.INVALID_PARAMETER,
        RPCErrorCode.METHOD_NOT_FOUND,
    ]
    assert len(set(many)) == 1


async def test_a_port_where_nobody_listens_is_named() -> None:
    async with server_that_says(b"") as url:
        pass  # it was free a moment ago

    with pytest.raises(NodeUnreachable, match=f"{url} is not reachable for getblockcount"):
        await call(url)


async def test_a_node_that_is_too_slow_is_unreachable() -> None:
    async with server_that_says(b"", pause=60) as url:
        with pytest.raises(NodeUnreachable, match=r"did not answer getblockcount within 0\.1 s"):
            await call(url, timeout=0.1)


async def test_a_refused_password_is_told_from_a_missing_node() -> None:
    async with server_that_says(http("401 Unauthorized", b"")) as url:
        with pytest.raises(NodeUnauthorized, match="user and password"):
            await call(url)


async def test_another_program_on_the_port_is_recognised() -> None:
    async with server_that_says(http("200 OK", b"<html>It works!</html>")) as url:
        with pytest.raises(NodeUnreachable, match="is this a Bitcoin node"):
            await call(url)
    async with server_that_says(b"SSH-2.0-OpenSSH_9.6\r\n") as url:
        with pytest.raises(NodeUnreachable, match="not reachable"):
            await call(url)


async def test_the_error_of_a_node_carries_its_code_whatever_the_status() -> None:
    body = b'{"result": null, "error": {"code": -28, "message": "Loading"}, "id": 1}'
    for status in ("200 OK", "500 Internal Server Error"):
        async with server_that_says(http(status, body)) as url:
            with pytest.raises(RPCError, match=r"Loading \(code -28\)") as caught:
                await call(url)
            assert caught.value.code == RPCErrorCode.IN_WARMUP
            assert caught.value.message == "Loading"


async def test_a_client_that_was_not_entered_says_so() -> None:
    with pytest.raises(RuntimeError, match="enter it first"):
        await RPCClient("http://127.0.0.1:1", CREDENTIALS).call("uptime")


def test_a_cookie_file_is_read_afresh_and_its_absence_is_named(tmp_path: Path) -> None:
    path = tmp_path / ".cookie"
    credentials = CookieCredentials(path)
    with pytest.raises(NodeUnauthorized, match=r"\.cookie cannot be read .*is the node running"):
        credentials.authorization()

    path.write_text("__cookie__:one")
    first = credentials.authorization()
    path.write_text("__cookie__:two")
    assert credentials.authorization() != first
    assert credentials.authorization() == PasswordCredentials("__cookie__", "two").authorization()


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(PasswordCredentials("user", "secret"))


def test_requests_are_what_the_json_rpc_1_specification_has() -> None:
    assert json.loads(encode_request("getblockhash", [1], 7)) == {
        "method": "getblockhash",
        "params": [1],
        "id": 7,
    }
    assert [item["id"] for item in json.loads(encode_batch([("a", []), ("b", [1])]))] == [0, 1]


def test_a_batch_is_put_in_order_and_a_missing_answer_is_noticed() -> None:
    answers = [
        {"id": 1, "result": None, "error": {"code": -8, "message": "no"}},
        {"id": 0, "result": "first", "error": None},
    ]
    first, second = decode_batch(200, json.dumps(answers).encode(), 2)
    assert first == "first"
    assert isinstance(second, RPCError)

    with pytest.raises(NodeUnreachable, match="call 2 of a batch"):
        decode_batch(200, json.dumps(answers).encode(), 3)
    with pytest.raises(RPCError, match="refused"):
        decode_batch(500, b'{"error": {"code": -1, "message": "refused"}}', 2)


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


@given(answers=st.lists(st.dictionaries(st.sampled_from(["id", "error", "result"]), JSON)) | JSON)
def test_any_answer_to_a_batch_is_results_or_a_failure(answers: Any) -> None:
    try:
        results = decode_batch(200, json.dumps(answers).encode(), 2)
    except RPCFailure:
        return
    assert len(results) == 2
