"""A real node on a fresh chain, served on a free port, and a client for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from devnet.node.auth import Auth
from devnet.node.methods import Methods
from devnet.node.node import Node
from devnet.node.server import RPCServer
from devnet.rpc import RPCClient
from tbg_core.rpc import PasswordCredentials

USER, PASSWORD = "miner", "correct horse"
PATIENCE = 120.0
"""Seconds; spent only if a test fails."""


@asynccontextmanager
async def running_node(datadir: Path) -> AsyncIterator[RPCClient]:
    """The node on ``datadir`` until the block ends; ``stop`` is accepted and does nothing."""
    async with Node(datadir) as node:
        server = RPCServer(Methods(node, request_stop=lambda: None), Auth(USER, PASSWORD))
        async with (
            server.listen("127.0.0.1", 0) as port,
            RPCClient(
                f"http://127.0.0.1:{port}", PasswordCredentials(USER, PASSWORD), timeout=PATIENCE
            ) as client,
        ):
            try:
                yield client
            finally:
                node.release_waiters()


@pytest.fixture
async def rpc(tmp_path: Path) -> AsyncIterator[RPCClient]:
    async with running_node(tmp_path / "node") as client:
        yield client
