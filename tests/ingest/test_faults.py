"""kill -9 of every part in turn, while numbered events flow.

What must hold: an event that the receiver read before a kill is in the database
once, or its number is among the missing ones, and those are few: what a process
held in memory, at most a batch.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tbg.embedded import EmbeddedPostgres, EmbeddedValkey
from tbg.migrate import migrate
from tests.ingest.harness import Stage, packed, stage

Eventually = Callable[..., Awaitable[Any]]
EVENTS = 6000


class Engine:
    """Sends numbered shares at an even pace, waiting while nobody receives.

    Attributes:
        sent: how many the socket took; a number is used again only when the
            socket refused it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self.sent = 0

    async def run(self, count: int) -> None:
        """Sends until ``count`` events are sent."""
        while self.sent < count:
            try:
                if self._socket is None:
                    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    made.setblocking(False)
                    made.connect(str(self._path))
                    self._socket = made
                self._socket.send(packed("share_submitted", instance="engine/1", seq=self.sent + 1))
            except BlockingIOError:
                await asyncio.sleep(0.001)
            except (ConnectionRefusedError, FileNotFoundError, ConnectionResetError):
                if self._socket is not None:
                    self._socket.close()
                    self._socket = None
                await asyncio.sleep(0.01)
            else:
                self.sent += 1
                if self.sent % 10 == 0:
                    await asyncio.sleep(0.005)
        if self._socket is not None:
            self._socket.close()


@pytest.mark.parametrize("victim", ["receiver", "writer", "valkey", "postgresql"])
async def test_kill_9_loses_nothing_that_is_not_counted(
    victim: str,
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    postgres_server: Callable[..., EmbeddedPostgres],
    eventually: Eventually,
) -> None:
    valkey = valkey_server(appendfsync="always")
    postgres = postgres_server()
    await asyncio.to_thread(migrate, postgres.url)
    async with (
        stage("receiver", tmp_path, valkey.url) as receiver,
        stage("writer", tmp_path, valkey.url, postgres.url) as writer,
    ):
        engine = Engine(tmp_path / "events.sock")
        running = asyncio.create_task(engine.run(EVENTS))
        for kill in range(1, 4):
            await eventually(lambda kill=kill: engine.sent >= kill * EVENTS // 4)
            await kill_and_restart(victim, receiver, writer, valkey, postgres)
        await running

        async def counted() -> bool:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                connection = await asyncpg.connect(postgres.url)
                try:
                    return bool(
                        await connection.fetchval(
                            "select coalesce(sum(seq_max), 0) = $1 from engine_instances", EVENTS
                        )
                    )
                finally:
                    await connection.close()
            return False

        await eventually(counted, 60)
    db = await asyncpg.connect(postgres.url)
    stored = await db.fetchval("select count(*) from shares")
    distinct = await db.fetchval("select count(distinct seq) from shares")
    missing = await db.fetchval(
        "select coalesce(sum(upper(hole) - lower(hole)), 0) "
        "from engine_instances, unnest(seq_missing) as hole"
    )
    total = await db.fetchval("select total_shares from weekly_best_diff")
    events = await db.fetchval("select events from engine_instances")
    await db.close()
    assert stored == distinct == total == events
    assert stored + missing == EVENTS
    if victim == "receiver":
        # In its memory, or in the kernel's queue, when it was killed: three times.
        assert missing < 3 * 1000
    else:
        assert missing == 0


async def kill_and_restart(
    victim: str,
    receiver: Stage,
    writer: Stage,
    valkey: EmbeddedValkey,
    postgres: EmbeddedPostgres,
) -> None:
    match victim:
        case "receiver":
            await receiver.kill()
            await asyncio.sleep(0.1)
            await receiver.start()
        case "writer":
            await writer.kill()
            await writer.start()
        case "valkey":
            await asyncio.to_thread(valkey.kill)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(valkey.start)
        case "postgresql":
            await asyncio.to_thread(postgres.kill)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(postgres.start)
