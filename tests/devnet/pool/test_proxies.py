"""Miners behind one address: a router, a proxy, a Tor exit; and TLS."""

import asyncio
import contextlib
import ipaddress
import json
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from devnet.pool.config import ConfigError, PoolConfig
from devnet.pool.proxy_header import SIGNATURE, ProxyHeaderError, read_header
from devnet.pool.tls import Certificate
from devnet.rpc import RPCClient
from tests.devnet.pool.harness import EASY, PATIENCE, Client, Running, client, running_pool
from tests.haproxy import certificate, tls_in_front_of

MINER = "203.0.113.7"


def version_1(source: str) -> bytes:
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {source} 40000 3333\r\n".encode()


def version_2(source: str, command: int = 0x21, extensions: bytes = b"") -> bytes:
    address = ipaddress.ip_address(source).packed
    family = 0x11 if len(address) == 4 else 0x21
    body = address + address + struct.pack(">HH", 40000, 3333) + extensions
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


async def read(data: bytes) -> str | None:
    reader = asyncio.StreamReader()
    reader.feed_data(data + b'{"id":1}\n')
    reader.feed_eof()
    address = await read_header(reader, await reader.read(1))
    assert await reader.read() == b'{"id":1}\n'  # what follows the header is the miner's
    return address


@pytest.mark.parametrize("source", [MINER, "2001:db8::7"])
async def test_both_versions_name_the_miners_address(source: str) -> None:
    assert await read(version_1(source)) == source
    assert await read(version_2(source)) == source
    assert await read(version_2(source, extensions=b"\x04\x00\x02ok")) == source


async def test_a_proxy_may_speak_for_itself() -> None:
    assert await read(b"PROXY UNKNOWN\r\n") is None
    assert await read(b"PROXY UNKNOWN ff ff 1 2\r\n") is None
    assert await read(version_2(MINER, command=0x20)) is None
    assert await read(SIGNATURE + struct.pack(">BBH", 0x21, 0x00, 0)) is None
    assert await read(SIGNATURE + struct.pack(">BBH", 0x21, 0x31, 216) + bytes(216)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY\r\n",
        b"PROXY TCP4 nonsense 1.2.3.4 1 2\r\n",
        b"PROXY TCP9 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"POST / HTTP/1.1\r\n",
        b"P" + b"x" * 200 + b"\r\n",
        b"\r\n\r\n\x00\r\nQUIX\n" + struct.pack(">BBH", 0x21, 0x11, 12) + bytes(12),
        SIGNATURE + struct.pack(">BBH", 0x31, 0x11, 12) + bytes(12),
        SIGNATURE + struct.pack(">BBH", 0x21, 0x11, 11) + bytes(11),
        SIGNATURE + struct.pack(">BBH", 0x21, 0x11, 60_000) + bytes(60_000),
    ],
)
async def test_what_is_no_header_is_an_error(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        await read(data)


@contextlib.asynccontextmanager
async def behind_proxy(port: int, header: bytes) -> AsyncIterator[Client]:
    async with client(port) as miner:
        miner.writer.write(header)
        yield miner


async def test_events_carry_the_address_of_the_miner_behind_a_proxy(
    tmp_path: Path, rpc: RPCClient
) -> None:
    headers = (version_1(MINER), version_2("2001:db8::7"), version_2(MINER, command=0x20), b"")
    async with running_pool(tmp_path, rpc.url, proxies="127.0.0.0/8") as running:
        for header in headers:
            async with behind_proxy(running.port, header) as miner:
                job = await miner.start()
                await miner.ask("mining.submit", *miner.solve(job, EASY))
        shares = await running.events.wait("share_submitted", len(headers))
        gone = await running.events.wait("miner_disconnected", len(headers))
    told = [MINER, "2001:db8::7", "127.0.0.1", "127.0.0.1"]
    assert [item.ip for item in shares] == told
    assert [item.ip for item in running.events.of("miner_connected")] == told
    assert sorted(item.ip for item in gone) == sorted(told)


async def test_a_stranger_cannot_say_who_the_miner_is(running: Running) -> None:
    async with behind_proxy(running.port, version_1(MINER)) as miner:
        answer = await miner.line()
        assert "name it in the pool's setting `proxies`" in answer["error"][1]
        await miner.start()
        [connected] = await running.events.wait("miner_connected")
    assert connected.ip == "127.0.0.1"


async def test_a_proxy_whose_header_makes_no_sense_is_closed(
    tmp_path: Path, rpc: RPCClient
) -> None:
    async with (
        running_pool(tmp_path, rpc.url, proxies="127.0.0.1") as running,
        behind_proxy(running.port, b"PROXY TCP4 nowhere\r\n") as miner,
    ):
        async with asyncio.timeout(PATIENCE):
            assert b"Too many" not in await miner.reader.read(-1)
        async with client(running.port) as other:
            await other.start()


async def test_connections_from_one_address_are_limited(tmp_path: Path, rpc: RPCClient) -> None:
    settings: dict[str, Any] = {"max_per_address": 2, "proxies": "127.0.0.1"}
    async with (
        running_pool(tmp_path, rpc.url, **settings) as running,
        behind_proxy(running.port, version_1(MINER)) as one,
        behind_proxy(running.port, version_2(MINER)) as two,
    ):
        await one.start()
        await two.start()
        async with behind_proxy(running.port, version_1(MINER)) as three:
            async with asyncio.timeout(PATIENCE):
                assert b"Too many connections" in await three.reader.read(-1)
        # Another miner behind the same proxy is innocent.
        async with behind_proxy(running.port, version_1("203.0.113.8")) as other:
            await other.start()
        one.writer.close()
        await running.events.wait("miner_disconnected", 2)
        async with behind_proxy(running.port, version_1(MINER)) as again:
            await again.start()


@pytest.mark.parametrize("source", ["127.0.0.1", "192.168.1.9", "10.9.8.7", "fd00::9"])
async def test_a_local_network_has_no_limit_by_address(
    tmp_path: Path, rpc: RPCClient, source: str
) -> None:
    settings: dict[str, Any] = {"max_per_address": 1, "proxies": "127.0.0.1"}
    async with (
        running_pool(tmp_path, rpc.url, **settings) as running,
        behind_proxy(running.port, version_1(source)) as one,
        behind_proxy(running.port, version_1(source)) as two,
    ):
        await one.start()
        await two.start()


async def test_no_limit_by_address_is_a_choice(tmp_path: Path, rpc: RPCClient) -> None:
    settings: dict[str, Any] = {"max_per_address": 0, "proxies": "127.0.0.1"}
    async with (
        running_pool(tmp_path, rpc.url, **settings) as running,
        behind_proxy(running.port, version_1(MINER)) as one,
        behind_proxy(running.port, version_1(MINER)) as two,
    ):
        await one.start()
        await two.start()


# --- TLS


@contextlib.asynccontextmanager
async def secure(port: int, trusted: Path, source: str = "127.0.0.1") -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=trusted)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost", local_addr=(source, 0)
    )
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_a_miner_works_over_tls_and_beside_it_one_without(
    tmp_path: Path, rpc: RPCClient
) -> None:
    made, key = certificate(tmp_path)
    settings: dict[str, Any] = {
        "tls_serverurl": "127.0.0.1:0",
        "tls_certificate": made,
        "tls_key": key,
    }
    async with running_pool(tmp_path, rpc.url, **settings) as running:
        for connection in (secure(running.secure_port, made), client(running.port)):
            async with connection as miner:
                job = await miner.start()
                await miner.ask("mining.submit", *miner.solve(job, EASY))
        shares = await running.events.wait("share_submitted", 2)
        # Plain bytes on the port for TLS cost that connection alone.
        async with client(running.secure_port) as plain:
            await plain.send(json.dumps({"id": 1, "method": "mining.subscribe"}).encode() + b"\n")
            async with asyncio.timeout(PATIENCE):
                with contextlib.suppress(ConnectionResetError):
                    assert b"result" not in await plain.reader.read(-1)
        async with secure(running.secure_port, made) as miner:
            await miner.start()
    assert [(item.valid, item.ip) for item in shares] == [(True, "127.0.0.1")] * 2


async def test_events_have_the_address_of_a_miner_behind_haproxy(
    tmp_path: Path, rpc: RPCClient
) -> None:
    async with running_pool(tmp_path, rpc.url, proxies="127.0.0.1") as running:
        # It is waited for on a thread: the pool runs on this one.
        with contextlib.ExitStack() as stack:
            port, made = await asyncio.to_thread(
                stack.enter_context, tls_in_front_of(running.port, tmp_path)
            )
            for source in ("127.0.0.5", "127.0.0.6"):
                async with secure(port, made, source) as miner:
                    job = await miner.start()
                    await miner.ask("mining.submit", *miner.solve(job, EASY))
            shares = await running.events.wait("share_submitted", 2)
    assert [item.ip for item in shares] == ["127.0.0.5", "127.0.0.6"]


def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    made, key = certificate(tmp_path)
    held = Certificate(made, key)
    before = held.context
    made.write_text("broken")
    held.renew()
    fresh, fresh_key = certificate(tmp_path, "fresh")
    fresh.replace(made)
    fresh_key.replace(key)
    held.renew()
    assert held.context is before  # the one that the server holds


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls_certificate .*absent\.pem"):
        Certificate(tmp_path / "absent.pem", None)
    with pytest.raises(ConfigError, match="tls_certificate"):
        PoolConfig.read(None, {"tls_serverurl": "127.0.0.1:3443"})
