"""A block's way from ckpool's own functions to the node's word on it."""

import asyncio
import hashlib
import http.server
import json
import os
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.rows import dict_row

from tbg_dagster.blocks.confirmations import confirm
from tbg_dagster.resources import BitcoinNode
from tests.ingest.harness import stage
from tests.processes import running

COINBASE = bytes.fromhex("01000000010000") + b"a coinbase transaction" * 9
BRANCH = [hashlib.sha256(bytes([n])).digest() for n in range(3)]


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def header_of(coinbase: bytes, branch: list[bytes]) -> bytes:
    """A block header whose merkle root the coinbase and the branch give."""
    root = sha256d(coinbase)
    for node in branch:
        root = sha256d(root + node)
    previous = bytes(reversed(bytes.fromhex("00" * 4 + "5e1f2d" + "ab" * 25)))
    return struct.pack(
        "<I32s32sIII", 0x20000000, previous, root, 0x6920FD41, 0x207FFFFF, 0x7A1C03E2
    )


HEADER = header_of(COINBASE, BRANCH)
HASH = bytes(reversed(sha256d(HEADER))).hex()


async def run_solve(solve: Path, socket: Path) -> None:
    command = [solve, HASH, HEADER.hex(), COINBASE.hex(), *(node.hex() for node in BRANCH)]
    environment = {"TBG_EVENTS_SOCKET": str(socket), "TBG_EVENTS_STATE": ""}
    with running(command, socket.with_name("solve.log"), environment) as process:
        assert await process.ended() == 0, process.output


@contextmanager
def node_with(block_hash: str, height: int) -> Iterator[str]:
    """A node that has this block, 100 deep, and no other."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer: dict[str, Any] = {"id": asked["id"], "error": None}
            if asked["method"] == "getblockheader":
                if asked["params"][0] == block_hash:
                    answer["result"] = {"hash": block_hash, "height": height, "confirmations": 100}
                else:
                    answer |= {"result": None, "error": {"code": -5, "message": "Block not found"}}
            elif asked["method"] == "getblockcount":
                answer["result"] = height + 99
            else:
                answer["result"] = {
                    "blocks": height + 99,
                    "headers": height + 99,
                    "initialblockdownload": False,
                    "chain": "regtest",
                }
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.timeout(300)
async def test_a_block_has_the_hash_of_its_share_and_the_node_confirms_it(
    tmp_path: Path,
    solve: Path,
    redis_url: str,
    database_url: str,
    db: asyncpg.Connection,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url),
    ):
        await run_solve(solve, tmp_path / "events.sock")

        async def both_are_there() -> bool:
            return bool(
                await db.fetchval(
                    "select (select count(*) from blocks) = 1 and (select count(*) from shares) = 1"
                )
            )

        await eventually(both_are_there, 60)
    share = await db.fetchrow("select encode(share_hash, 'hex') as hash, is_block from shares")
    block = await db.fetchrow("select block_hash, block_height, status from blocks")
    assert share is not None
    assert block is not None
    assert share["hash"] == HASH
    assert share["is_block"]
    assert dict(block) == {"block_hash": HASH, "block_height": 102, "status": "found"}

    with (
        node_with(HASH, 102) as url,
        psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as connection,
    ):
        confirm(connection, BitcoinNode(url=url), 100, timedelta(0))
    assert await db.fetchval("select status from blocks") == "confirmed"
