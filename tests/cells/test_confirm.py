"""REDIS_CONFIRM: what an engine has let go of is on a disk, or on two servers."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import asyncpg
import redis as redis_sync

from tbg.stack.embedded import EmbeddedValkey
from tests.ingest.harness import Sender, packed, sending, stage
from tests.processes import until

STREAM = "mining:share_submitted"


async def test_events_wait_on_disk_until_a_replica_has_them_and_are_there_once(
    valkey_node: Callable[..., EmbeddedValkey], server_folder: Path
) -> None:
    primary = await asyncio.to_thread(valkey_node)
    settings = {"REDIS_CONFIRM": "replica", "REDIS_TIMEOUT": "0.5"}
    async with stage("receiver", server_folder, primary.url, **settings) as receiver:
        with (
            sending(server_folder / "events.sock") as sender,
            contextlib.closing(redis_sync.Redis.from_url(primary.url)) as client,
        ):
            for seq in (1, 2):
                sender.send(packed("share_submitted", instance="pool/1", seq=seq))
            await receiver.process.saying("REDIS_CONFIRM=replica: not confirmed within 0.5 s")
            sender.send(packed("share_submitted", instance="pool/1", seq=3))
            replica = await asyncio.to_thread(valkey_node, replicaof=f"127.0.0.1 {primary.port}")
            await receiver.process.saying("redis is back")
            await until(lambda: client.xlen(STREAM) == 3)
            with contextlib.closing(redis_sync.Redis.from_url(replica.url)) as other:
                assert other.xlen(STREAM) == 3
        assert await receiver.stop() == 0
    assert not list((server_folder / "spool").glob("*.spool"))


async def test_a_redis_without_an_append_only_file_cannot_confirm_its_disk(
    valkey_node: Callable[..., EmbeddedValkey], server_folder: Path
) -> None:
    server = await asyncio.to_thread(valkey_node, appendonly="no")
    settings = {"REDIS_CONFIRM": "local", "REDIS_TIMEOUT": "5"}
    async with stage("receiver", server_folder, server.url, **settings) as receiver:
        with (
            sending(server_folder / "events.sock") as sender,
            contextlib.closing(redis_sync.Redis.from_url(server.url)) as client,
        ):
            sender.send(packed("share_submitted", instance="pool/1", seq=1))
            await receiver.process.saying("WAITAOF cannot be used")
            client.config_set("appendonly", "yes")
            await receiver.process.saying("redis is back")
            assert client.xlen(STREAM) == 1


async def test_what_a_failover_loses_that_only_the_disk_confirmed_is_named(
    valkey_node: Callable[..., EmbeddedValkey],
    server_folder: Path,
    database_url: str,
    db: asyncpg.Connection,
) -> None:
    primary = await asyncio.to_thread(valkey_node)
    replica = await asyncio.to_thread(valkey_node, replicaof=f"127.0.0.1 {primary.port}")
    first, other = (redis_sync.Redis.from_url(server.url) for server in (primary, replica))
    places = f"127.0.0.1:{primary.port},127.0.0.1:{replica.port}"
    url = f"redis://:{primary.password}@{places}/0"

    def send(sender: Sender, begin: int, end: int) -> None:
        for seq in range(begin, end):
            sender.send(packed("share_submitted", instance="pool/1", seq=seq))

    async def committed(count: int) -> bool:
        return bool(await db.fetchval("select count(*) = $1 from shares", count))

    async with stage("receiver", server_folder, url, REDIS_CONFIRM="local", REDIS_TIMEOUT="5"):
        with sending(server_folder / "events.sock") as sender:
            async with stage("writer", server_folder, url, database_url):
                send(sender, 1, 41)
                await until(lambda: committed(40))
            await until(lambda: other.xlen(STREAM) == 40, "the replica has what is committed")
            await asyncio.to_thread(other.replicaof, "NO", "ONE")  # it is promoted, and
            send(sender, 41, 61)  # knows nothing of these
            await until(lambda: first.xlen(STREAM) == 60)
            await asyncio.to_thread(primary.kill)
            send(sender, 61, 101)
            async with stage("writer", server_folder, url, database_url):
                await until(lambda: committed(80))
    first.close()
    other.close()
    books = await db.fetchrow(
        "select sum(emitted) as emitted, sum(committed) as committed, "
        "sum(unexplained) as unexplained from ledger_hours"
    )
    assert books is not None
    assert tuple(map(int, books.values())) == (100, 80, 20)
    holes = await db.fetchval("select seq_missing from engine_instances where instance = 'pool/1'")
    assert [(hole.lower, hole.upper) for hole in holes] == [(41, 61)]
