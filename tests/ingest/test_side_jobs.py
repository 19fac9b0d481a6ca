"""Jobs beside the rows fail loudly, and no row waits for them."""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async

from tbg.stack.embedded import EmbeddedValkey, free_port
from tbg_core.names import leaderboard_key, week_start
from tests.ingest.harness import OWN, golden, stage
from tests.processes import until

Db = asyncpg.Connection


def leaderboards() -> list[str]:
    """The keys of the running week, and of one that begins before the test ends."""
    now = datetime.now(UTC)
    return [leaderboard_key(week_start(at)) for at in (now, now + timedelta(hours=1))]


async def publish(client: redis_async.Redis, seq: int, **changes: object) -> None:
    """Adds a share, as a receiver does."""
    fields: Any = golden("share_submitted", instance="e/1", seq=seq, **changes)
    fields["data"] = json.dumps(fields["data"])
    await client.xadd("mining:share_submitted", fields)


async def stored(db: Db, count: int) -> None:
    async def done() -> bool:
        return bool(await db.fetchval("select count(*) = $1 from shares", count))

    await until(done)


async def test_a_leaderboard_of_another_type_stops_no_row_and_comes_back(
    tmp_path: Path, redis_url: str, database_url: str, db: Db, redis: redis_async.Redis
) -> None:
    boards = leaderboards()
    for board in boards:
        await redis.set(board, "mine")
    await publish(redis, 1)
    async with stage(
        "writer", tmp_path, redis_url, database_url, WRITER_METRICS_PORT=OWN
    ) as writer:
        await stored(db, 1)
        await writer.process.saying("the leaderboard waits")
        await publish(redis, 2)
        await stored(db, 2)
        assert writer.metric("tbg_side_job_failures_total") >= 1
        for board in boards:
            assert await redis.get(board) == b"mine"
        await redis.delete(*boards)

        async def back() -> bool:
            return any([await redis.zcard(board) for board in boards])

        await until(back)
        assert "cannot commit" not in writer.process.output


async def test_a_key_that_is_no_stream_stops_no_row_of_the_others(
    tmp_path: Path, redis_url: str, database_url: str, db: Db, redis: redis_async.Redis
) -> None:
    await publish(redis, 1)
    for key in ("mining:dead_letter", "mining:diff_updated", "mining:identity"):
        await redis.lpush(key, "mine")
    async with stage("writer", tmp_path, redis_url, database_url) as writer:
        await stored(db, 1)
        await redis.set("mining:miner_connected", "mine")  # while it reads
        await publish(redis, 2)
        await stored(db, 2)
        for key in ("mining:dead_letter", "mining:diff_updated", "mining:miner_connected"):
            await writer.process.saying(f"key={key}")
            await redis.delete(key)
        event: Any = golden("diff_updated", instance="e/1", seq=3)
        event["data"] = json.dumps(event["data"])
        await redis.xadd("mining:diff_updated", event)

        async def there() -> bool:
            return bool(await db.fetchval("select count(*) = 1 from mining_events"))

        await until(there)
        assert await redis.lrange("mining:identity", 0, -1) == [b"mine"]
        assert "cannot commit: events wait in Redis error='WRONGTYPE" not in writer.process.output


@pytest.mark.parametrize(
    "denied", ["info", "xtrim", "zadd", "expireat", "xinfo|stream", "info xtrim zadd expireat"]
)
async def test_a_right_that_only_side_jobs_need_stops_no_row(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    database_url: str,
    db: Db,
    denied: str,
) -> None:
    server = valkey_server()
    client = redis_async.Redis.from_url(server.url)
    rights = ["~*", "&*", "+@all"]
    await client.execute_command("ACL", "SETUSER", "w", "reset", "on", ">secret", *rights)
    url = f"redis://w:secret@127.0.0.1:{server.port}/0"
    async with stage("writer", tmp_path, url, database_url, STREAM_KEEP="0") as writer:
        await publish(client, 1)
        await stored(db, 1)
        less = [f"-{one}" for one in denied.split()]
        await client.execute_command("ACL", "SETUSER", "w", *less)
        for seq in range(2, 5):
            await publish(client, seq, share_diff=1e9 * seq)
            await stored(db, seq)
        if denied != "xtrim":  # a few entries need no trimming
            await writer.process.saying("has no permissions")
        await publish(client, 5)
        await stored(db, 5)
        assert "cannot commit" not in writer.process.output
    await client.aclose()


async def test_a_writer_without_these_rights_from_its_start_commits(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], database_url: str, db: Db
) -> None:
    server = valkey_server()
    client = redis_async.Redis.from_url(server.url)
    rights = ["~*", "+@all", "-info", "-xtrim", "-zadd", "-expireat", "-publish"]
    await client.execute_command("ACL", "SETUSER", "w", "reset", "on", ">secret", *rights)
    await publish(client, 1)
    url = f"redis://w:secret@127.0.0.1:{server.port}/0"
    async with stage("writer", tmp_path, url, database_url, STREAM_KEEP="0"):
        await stored(db, 1)
    await client.aclose()


async def test_a_policy_that_evicts_and_what_it_evicted_are_said(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], database_url: str
) -> None:
    server = valkey_server(maxmemory="20mb", **{"maxmemory-policy": "allkeys-lru"})
    client = redis_async.Redis.from_url(server.url)
    async with stage(
        "writer", tmp_path, server.url, database_url, WRITER_METRICS_PORT=OWN
    ) as writer:
        await writer.process.saying("set maxmemory-policy noeviction")
        for number in range(30):
            await client.set(f"other:{number}", b"x" * 1_000_000)
        await writer.process.saying("redis has evicted keys")
        assert writer.metric("tbg_redis_evicted_keys") > 0
    await client.aclose()


async def test_a_policy_that_is_set_while_the_writer_runs_is_said(
    tmp_path: Path, valkey_server: Callable[..., EmbeddedValkey], database_url: str
) -> None:
    server = valkey_server(maxmemory="50mb")
    client = redis_async.Redis.from_url(server.url)
    async with stage("writer", tmp_path, server.url, database_url) as writer:
        assert "maxmemory-policy" not in writer.process.output
        await client.config_set("maxmemory-policy", "volatile-lru")
        await writer.process.saying("policy=volatile-lru")
    await client.aclose()


@pytest.mark.parametrize("name", ["receiver", "writer"])
async def test_a_metrics_port_in_use_stops_no_stage_and_is_taken_when_it_is_free(
    tmp_path: Path, redis_url: str, database_url: str, name: str
) -> None:
    taken = socket.socket()
    taken.bind(("127.0.0.1", free_port()))
    taken.listen()
    port = {f"{name.upper()}_METRICS_PORT": str(taken.getsockname()[1])}
    async with stage(name, tmp_path, redis_url, database_url, **port) as made:
        await made.process.saying("no metrics")
        taken.close()
        await made.process.saying("metrics are served")
        made.port = int(port[f"{name.upper()}_METRICS_PORT"])
        assert made.get("/healthz")[0] == 200
