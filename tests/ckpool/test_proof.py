"""Anybody can check a best or a block of ckpool's from its proof alone."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import msgspec

from tbg_core.decode import decode
from tbg_core.events import EVENTS, MAX_DATAGRAM
from tests.ckpool.test_block import HASH, run_solve, sha256d


def listen(path: Path) -> socket.socket:
    """The event socket, with room for what one share makes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    listener.setblocking(False)
    return listener


async def said_by(solve: Path, folder: Path) -> list[bytes]:
    """Every datagram; those that are not read yet when the program ends wait in the socket."""
    datagrams: list[bytes] = []
    with listen(folder / "events.sock") as listener:
        running = asyncio.create_task(run_solve(solve, folder / "events.sock"))
        while not running.done():
            with contextlib.suppress(BlockingIOError):
                while True:
                    datagrams.append(listener.recv(65536))
            await asyncio.sleep(0.01)
        await running
        with contextlib.suppress(BlockingIOError):
            while True:
                datagrams.append(listener.recv(65536))
    return [line for line in datagrams if json.loads(line)["event"] != "engine_status"]


def check(data: dict[str, Any]) -> None:
    """What a stranger does, with hashlib alone."""
    proof = data["proof"]
    header, coinbase = bytes.fromhex(proof["header"]), bytes.fromhex(proof["coinbase"])
    assert len(header) == 80
    assert sha256d(header)[::-1].hex() == data["hash"]
    root = sha256d(coinbase)
    for node in proof["branch"]:
        assert len(node) == 64
        root = sha256d(root + bytes.fromhex(node))
    assert root == header[36:68]


async def test_bests_and_blocks_carry_what_proves_them(solve: Path, tmp_path: Path) -> None:
    datagrams = await said_by(solve, tmp_path)
    proven = []
    for datagram in datagrams:
        assert len(datagram) < MAX_DATAGRAM
        event = decode(datagram).event
        EVENTS[event].model_validate_json(datagram)
        data = json.loads(datagram)["data"]
        if "proof" in data:
            assert data["hash"] == HASH
            assert msgspec.to_builtins(decode(datagram).data.proof) == data["proof"]
            assert len(json.dumps(data["proof"])) < 4096
            assert data["proof"].keys() == {"header", "coinbase", "branch"}
            check(data)
            proven.append((event, data.get("period")))
    assert proven == [
        ("block_found", None),
        ("share_best_diff", "week"),
        ("share_best_diff", "alltime"),
    ]
