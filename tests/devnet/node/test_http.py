"""The HTTP port answers like bitcoind's, also to those who do not speak its language."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnet.node import web
from devnet.node.auth import Auth, write_cookie
from devnet.node.jsonrpc import answer
from devnet.node.web import Response
from devnet.rpc import RPCClient
from tbg_core.rpc import NodeUnreachable, PasswordCredentials, RPCError, RPCErrorCode
from tests.devnet.node.conftest import PASSWORD, PATIENCE, USER

AUTHORIZED = {"Authorization": PasswordCredentials(USER, PASSWORD).authorization()}


@pytest.fixture
async def http(rpc: RPCClient) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=rpc.url) as session:
        yield session


async def post(
    http: aiohttp.ClientSession, content: Any, **options: Any
) -> tuple[int, Any, dict[str, str]]:
    """Status, decoded body (None when there is none) and headers."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    options.setdefault("headers", AUTHORIZED)
    async with http.post("/", data=data, **options) as response:
        body = await response.read()
        return response.status, json.loads(body) if body else None, dict(response.headers)


async def test_without_the_right_password_nothing_is_answered(http: aiohttp.ClientSession) -> None:
    call = {"method": "getblockcount"}
    wrong = PasswordCredentials(USER, PASSWORD + "r").authorization()

    for headers in ({}, {"Authorization": wrong}, {"Authorization": "Bearer x"}):
        status, body, answered = await post(http, call, headers=headers)
        assert (status, body) == (401, None)
        assert answered["WWW-Authenticate"] == 'Basic realm="jsonrpc"'
    assert (await post(http, call))[0] == 200


async def test_other_paths_and_methods_are_refused(http: aiohttp.ClientSession) -> None:
    async with http.get("/", headers=AUTHORIZED) as response:
        assert response.status == 405
    async with http.post("/wallet/x", headers=AUTHORIZED, data=b"{}") as response:
        assert response.status == 404


async def test_a_body_beyond_32_mib_is_refused_and_a_block_of_4_mb_is_read(
    http: aiohttp.ClientSession,
) -> None:
    async with http.post("/", data=b" " * (32 * 2**20 + 1), headers=AUTHORIZED) as response:
        assert response.status == 413
    status, body, _ = await post(http, {"method": "submitblock", "params": ["00" * 4_000_000]})
    assert (status, body["result"]) == (200, "high-hash")


@pytest.mark.parametrize(
    ("request_object", "status", "expected"),
    [
        (
            {"method": "getblockcount", "id": "a"},
            200,
            {"result": 0, "error": None, "id": "a"},
        ),
        (
            {"jsonrpc": "1.0", "method": "getblockhash", "params": {"height": 9}, "id": 1},
            500,
            {
                "result": None,
                "error": {"code": -8, "message": "Block height out of range"},
                "id": 1,
            },
        ),
        (
            {"jsonrpc": "2.0", "method": "getblockhash", "params": {"height": 9}, "id": 1},
            200,
            {
                "jsonrpc": "2.0",
                "error": {"code": -8, "message": "Block height out of range"},
                "id": 1,
            },
        ),
        (
            {"jsonrpc": "2.0", "method": "getblockcount", "id": None},
            200,
            {"jsonrpc": "2.0", "result": 0, "id": None},
        ),
        ({"jsonrpc": "2.0", "method": "getblockcount"}, 204, None),
        ({"jsonrpc": "2.0", "method": "nosuchmethod"}, 204, None),
        (
            {"method": "nosuchmethod"},
            404,
            {"result": None, "error": {"code": -32601, "message": "Method not found"}, "id": None},
        ),
        (
            {"jsonrpc": "2.0", "method": "nosuchmethod", "id": 5},
            200,
            {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": 5},
        ),
    ],
)
async def test_versions_differ_in_status_and_shape_as_bitcoinds_do(
    http: aiohttp.ClientSession, request_object: dict[str, Any], status: int, expected: Any
) -> None:
    answered, body, _ = await post(http, request_object)

    assert (answered, body) == (status, expected)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 500, RPCErrorCode.PARSE_ERROR),
        (b"{", 500, RPCErrorCode.PARSE_ERROR),
        (b"7", 500, RPCErrorCode.PARSE_ERROR),
        (b'"x"', 500, RPCErrorCode.PARSE_ERROR),
        (b"\xff\xfe", 500, RPCErrorCode.PARSE_ERROR),
        (b'{"id": NaN}', 500, RPCErrorCode.PARSE_ERROR),
        (b'{"id": 1e999}', 500, RPCErrorCode.PARSE_ERROR),
        (b'{"id": ' + b"9" * 5000 + b"}", 500, RPCErrorCode.PARSE_ERROR),
        (b"[" * 200_000, 500, RPCErrorCode.PARSE_ERROR),
        (b"{}", 400, RPCErrorCode.INVALID_REQUEST),
        (b'{"method": 7}', 400, RPCErrorCode.INVALID_REQUEST),
        (b'{"method": "uptime", "params": 7}', 400, RPCErrorCode.INVALID_REQUEST),
        (b'{"method": "uptime", "jsonrpc": "3.0"}', 400, RPCErrorCode.INVALID_REQUEST),
        (b'{"method": "uptime", "jsonrpc": 2}', 400, RPCErrorCode.INVALID_REQUEST),
        (b'{"method": "uptime", "params": {"x": 1}}', 500, RPCErrorCode.INVALID_PARAMETER),
    ],
)
async def test_malformed_requests_get_bitcoinds_status_and_code(
    http: aiohttp.ClientSession, body: bytes, status: int, code: RPCErrorCode
) -> None:
    answered, content, _ = await post(http, body)

    assert (answered, content["error"]["code"], content["result"]) == (status, code, None)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("host", [["Host: 127.0.0.1:8332/"], []])
async def test_clients_with_bare_line_feeds_or_without_host_are_served_as_by_bitcoind(
    rpc: RPCClient, end: str, host: list[str]
) -> None:
    port = int(rpc.url.rpartition(":")[2])
    body = '{"method": "getblockcount", "params": []}\n'
    head = ["POST / HTTP/1.1", f"Authorization: {AUTHORIZED['Authorization']}", *host]
    request = end.join([*head, f"Content-Length: {len(body)}", "", body]).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    for _ in range(2):  # on one connection
        writer.write(request)
        answered = (await reader.readuntil(b"}\n")).decode()
        assert answered.startswith("HTTP/1.1 200 OK\r\n")
        assert json.loads(answered.partition("\r\n\r\n")[2])["result"] == 0
    writer.close()


async def test_a_client_that_asks_before_it_sends_is_told_to_continue(rpc: RPCClient) -> None:
    """As curl does with a large block."""
    port = int(rpc.url.rpartition(":")[2])
    body = b'{"method": "getblockcount"}'
    head = f"POST / HTTP/1.0\r\nAuthorization: {AUTHORIZED['Authorization']}\r\n"
    head += f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    writer.write(head.encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)

    answered = await reader.read()  # an HTTP/1.0 connection ends after the answer
    assert answered.startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()


async def test_a_batch_is_answered_in_order_with_its_errors_inside(
    http: aiohttp.ClientSession,
) -> None:
    status, body, _ = await post(
        http,
        [
            {"method": "getblockcount", "id": 1},
            {"jsonrpc": "2.0", "method": "getblockcount"},
            {"method": "nosuchmethod", "id": "two"},
            7,
            {"jsonrpc": "2.0", "method": "getblockcount", "id": 3},
        ],
    )

    assert status == 200
    assert [item["id"] for item in body] == [1, "two", None, 3]
    assert [item.get("error") and item["error"]["code"] for item in body] == [
        None,
        RPCErrorCode.METHOD_NOT_FOUND,
        RPCErrorCode.INVALID_REQUEST,
        None,
    ]
    assert (await post(http, []))[:2] == (200, [])
    assert (await post(http, [{"jsonrpc": "2.0", "method": "uptime"}]))[:2] == (204, None)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
requests = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["getblockhash", "nosuch"]) | json_values,
        "params": json_values,
        "id": json_values,
        "jsonrpc": st.sampled_from(["1.0", "2.0"]) | json_values,
    },
)


async def _refuse_all(method: str, params: object) -> None:
    raise RPCError(RPCErrorCode.MISC_ERROR, f"{method} {type(params).__name__}")


@given(content=requests | st.lists(requests, max_size=3) | json_values)
def test_any_json_is_answered_with_json_that_echoes_the_ids(content: Any) -> None:
    answered = asyncio.run(answer(json.dumps(content).encode(), _refuse_all))

    assert answered.status in (200, 204, 400, 404, 500)
    if answered.status == 204:
        assert answered == Response(204, b"")
        return
    body = json.loads(answered.body)
    if isinstance(content, dict):
        assert body["id"] == content.get("id")
        assert body["error"]["code"] in (RPCErrorCode.MISC_ERROR, RPCErrorCode.INVALID_REQUEST)


@given(body=st.binary(max_size=200))
def test_any_bytes_are_answered_with_json(body: bytes) -> None:
    answered = asyncio.run(answer(body, _refuse_all))

    assert answered.status == 204 or json.loads(answered.body) is not None


async def test_garbage_on_the_port_is_answered_or_closed_and_logged_without_a_trace(
    rpc: RPCClient, caplog: pytest.LogCaptureFixture
) -> None:
    port = int(rpc.url.rpartition(":")[2])
    authorized = f"POST / HTTP/1.1\r\nAuthorization: {AUTHORIZED['Authorization']}\r\n".encode()
    garbage = [
        b"\x00" * 200,
        b"\xff\xfe\r\n\r\n",
        b"mining.subscribe\n\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: abc\r\n\r\n{}",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n: nameless\r\n\r\n",
        authorized + b"Content-Length: 99999999999\r\n\r\n",
        authorized + b"Content-Length: -5\r\n\r\n",
        authorized + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        authorized + b"Content-Length: 50\r\n\r\ntoo short",
        b"POST / HTTP/1.1\r\nAuthorization: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
        b"A" * 100_000,
        b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    ]

    def send(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                return connection.recv(4096)
            except (ConnectionResetError, BrokenPipeError):
                return b""

    for data in [*garbage, *_random_garbage()]:
        reply = await asyncio.to_thread(send, data)
        assert reply == b"" or reply.startswith(b"HTTP/1.")
        assert b" 200 " not in reply.partition(b"\r\n")[0]

    assert await rpc.call("getblockcount") == 0
    assert not [record for record in caplog.records if record.exc_info]


def _random_garbage() -> list[bytes]:
    drawn: list[bytes] = []

    @settings(max_examples=40, database=None)
    @given(st.binary(min_size=1, max_size=300))
    def draw(data: bytes) -> None:
        drawn.append(data)

    draw()
    return drawn


async def test_clients_that_leave_in_the_middle_of_a_long_poll_are_forgotten(
    rpc: RPCClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 2)
    tip = await rpc.call("getbestblockhash")
    request = {"rules": ["segwit"], "longpollid": tip + "0"}
    for _ in range(2):
        with pytest.raises(NodeUnreachable, match="did not answer"):
            await rpc.call("getblocktemplate", request, timeout=0.5)

    # They took both places; these become free once the server sees that they are gone.
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                assert await rpc.call("getblockcount") == 0
                break
            except NodeUnreachable:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!!", "Basic \udcff", "basic x", "é"])
def test_an_authorization_header_that_is_not_ours_is_not_accepted(header: str) -> None:
    assert not Auth(USER, PASSWORD).accepts(header)


def test_an_empty_password_or_a_user_with_a_colon_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Auth("user", "")
    with pytest.raises(ValueError, match="colon"):
        Auth("a:b", "password")


def test_every_start_makes_a_new_cookie(tmp_path: Path) -> None:
    path = tmp_path / ".cookie"
    write_cookie(path)
    first = path.read_text()
    auth = write_cookie(path)

    user, password = path.read_text().split(":")
    assert path.read_text() != first
    assert auth.accepts(PasswordCredentials(user, password).authorization())
