"""A real node on a fresh chain, and a pool on it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devnet.rpc import RPCClient
from tests.devnet.node.conftest import running_node
from tests.devnet.pool.harness import Client, Running, client, running_pool


@pytest.fixture
async def rpc(tmp_path: Path) -> AsyncIterator[RPCClient]:
    async with running_node(tmp_path / "node") as running:
        yield running


@pytest.fixture
async def running(tmp_path: Path, rpc: RPCClient) -> AsyncIterator[Running]:
    async with running_pool(tmp_path, rpc.url) as started:
        yield started


@pytest.fixture
async def miner(running: Running) -> AsyncIterator[Client]:
    async with client(running.port) as connected:
        yield connected
