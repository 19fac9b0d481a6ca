"""Three engines and three writers at once, over one Redis and one database."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio as redis_async

from ingest.names import leaderboard_key, stream_of
from ingest.shard import Shard, shards
from tbg.embedded import EmbeddedValkey
from tests.faults.engine import Engine
from tests.ingest.harness import Stage, packed, sending, stage
from tests.processes import until
from tests.settled import committed

Db = asyncpg.Connection
Redis = redis_async.Redis
SHARES = stream_of("share_submitted")
USERS = tuple(f"miner-{number}" for number in range(12))
KEEP = 300
RATE = 400  # events a second, of each engine

_SUMS = """
select
    sum(emitted)::bigint as emitted,
    sum(received)::bigint as received,
    sum(committed + dead_lettered)::bigint as stored,
    sum(duplicates)::bigint as duplicates,
    sum(missing)::bigint as missing
from ledger_hours where instance = $1
"""
_ROWS = """
with stored as (
    select instance_id, seq from shares
    union all
    select instance_id, seq from mining_events
    union all
    select i.id, d.seq from dead_letters d join engine_instances i using (instance)
)
select count(*) as stored, count(distinct seq) as distinct
from stored join engine_instances i on i.id = instance_id where instance = $1
"""
_WEEKS = """
select u.btc_address, raw.week_start, w.total_shares, w.total_work, w.best_difficulty,
    raw.shares, raw.work, raw.best
from (
    select user_id, date_trunc('week', time at time zone 'UTC')::date as week_start,
        count(*) as shares, sum(difficulty) as work, max(share_diff) as best
    from shares where is_valid group by 1, 2
) raw
join users u on u.id = raw.user_id
full join weekly_standings w on w.user_id = raw.user_id and w.week_start = raw.week_start
"""


def instance_of(shard: Shard) -> str:
    """A boot of an engine that is the shard's."""
    names = (f"engine-{number}/1" for number in range(1000))
    return next(name for name in names if shard.owns(name.encode()))


async def killed_once(writer: Stage, draw: random.Random) -> None:
    """Kills a writer at a random moment, and starts it when the others are far ahead."""
    await asyncio.sleep(draw.uniform(0.3, 2.5))
    await writer.kill()
    await asyncio.sleep(draw.uniform(1.0, 2.0))
    await writer.start()


async def test_three_writers_killed_at_random_store_every_event_of_three_engines_once(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    redis: Redis,
    db: Db,
    fault_seed: str,
    note: Callable[[str], None],
) -> None:
    note(f"three writers: seed {fault_seed}")
    draw = random.Random(fault_seed)
    async with contextlib.AsyncExitStack() as stack:
        writers, engines = [], []
        for shard in shards(3):
            folder = tmp_path / str(shard.number)
            folder.mkdir()
            await stack.enter_async_context(stage("receiver", folder, redis_url))
            writers.append(
                await stack.enter_async_context(
                    stage(
                        "writer",
                        folder,
                        redis_url,
                        database_url,
                        WRITER_SHARD=str(shard),
                        STREAM_KEEP=str(KEEP),
                        BATCH_SIZE="200",
                    )
                )
            )
            seed = f"{fault_seed}:{shard}"
            name = instance_of(shard)
            path = folder / "events.sock"
            engines.append(Engine(path, name, RATE, seed, resends=True, users=USERS).start())
        try:
            await asyncio.gather(*(killed_once(writer, draw) for writer in writers))
        finally:
            for engine in engines:
                await asyncio.to_thread(engine.stop)
                engine.close()

        async def all_received() -> bool:
            received = await db.fetchval("select sum(received) from ledger_hours")
            return bool(received == sum(engine.sent + engine.resent for engine in engines))

        await until(all_received)
        await committed(db, redis, {shard.consumer("writer") for shard in shards(3)})
        for writer in writers:
            assert await writer.stop() == 0
            assert "Deadlock" not in writer.log.read_text()
    for engine in engines:
        sums = await db.fetchrow(_SUMS, engine.name)
        assert sums is not None
        sent, resent = engine.sent, engine.resent
        assert tuple(sums) == (sent, sent + resent, sent, resent, 0), engine.name
        assert tuple(await db.fetchrow(_ROWS, engine.name) or ()) == (sent, sent), engine.name
    weeks = await db.fetch(_WEEKS)
    assert {row["btc_address"] for row in weeks} == set(USERS)
    for row in weeks:
        assert (row["total_shares"], row["total_work"]) == (row["shares"], row["work"])
        assert row["best_difficulty"] == row["best"]
        key = leaderboard_key(row["week_start"])
        assert await redis.zscore(key, row["btc_address"]) == row["best"]
    # Redis drops whole nodes of about a hundred entries, and a floor is a second old.
    assert KEEP <= await redis.xlen(SHARES) < KEEP + 3 * RATE


async def test_nothing_is_trimmed_that_a_writer_which_is_not_there_has_yet_to_commit(
    tmp_path: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    database_url: str,
    db: Db,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    redis_url = valkey_server().url  # of its own: the test changes its settings
    redis = Redis.from_url(redis_url)
    first, second = shards(2)
    shares = 1000
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    quick = {"STREAM_KEEP": "0", "BATCH_SIZE": "50", "FLUSH_SECONDS": "0.01"}

    async with (
        stage("receiver", tmp_path, redis_url),
        stage(
            "writer", folders[0], redis_url, database_url, WRITER_SHARD=str(first), **quick
        ) as writer,
    ):
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, shares + 1):
                for shard in (first, second):
                    sender.send(packed("share_submitted", instance=instance_of(shard), seq=seq))

        async def half() -> bool:
            return bool(await db.fetchval("select count(*) from shares") == shares)

        async def passed() -> bool:
            last = (await redis.xinfo_stream(SHARES))["last-generated-id"].decode()
            offset = await db.fetchval(
                "select last_id from stream_offsets where consumer = $1 and stream = $2",
                first.consumer("writer"),
                SHARES,
            )
            return bool(offset == last)

        await eventually(half)
        await eventually(passed)
        # Redis nearly full: even then only what everybody has may go.
        await redis.config_set("maxmemory", 1)
        await eventually(lambda: "redis is nearly full" in writer.log.read_text())
        await redis.config_set("maxmemory", 0)
        assert await redis.xlen(SHARES) == 2 * shares
        async with stage(
            "writer", folders[1], redis_url, database_url, WRITER_SHARD=str(second), **quick
        ):
            await committed(db, redis, {shard.consumer("writer") for shard in (first, second)})

            async def trimmed() -> bool:
                return bool(await redis.xlen(SHARES) < shares)

            await eventually(trimmed)
    await redis.aclose()
    assert await db.fetchval("select count(*) from shares") == 2 * shares


async def test_writers_of_another_count_are_refused_until_those_at_work_are_stopped(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    redis: Redis,
    db: Db,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    async with stage("writer", folders[0], redis_url, database_url) as alone:
        late = Stage(
            "writer", {**alone.environment, "WRITER_SHARD": "2/2"}, folders[1] / "writer.log"
        )
        start = asyncio.create_task(late.start())
        try:
            await eventually(lambda: late.log.exists() and "(n/1)" in late.log.read_text())
            text = late.log.read_text()
            assert "this writer is 2/2" in text
            assert "give every writer the same count in WRITER_SHARD" in text
            assert "committing" not in text
            assert await alone.stop() == 0
            await start
            assert "the number of writers has changed" in late.log.read_text()
        finally:
            start.cancel()
            await late.kill()


async def test_a_redis_that_lost_a_stream_is_read_anew_for_a_writer_that_is_not_there(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    redis: Redis,
    db: Db,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    first, second = shards(2)
    consumers = {shard.consumer("writer") for shard in (first, second)}
    shares = 500
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    quick = {"STREAM_KEEP": "0", "BATCH_SIZE": "50", "FLUSH_SECONDS": "0.01"}

    def send(*numbers: int) -> None:
        with sending(tmp_path / "events.sock") as sender:
            for seq in numbers:
                for shard in (first, second):
                    sender.send(packed("share_submitted", instance=instance_of(shard), seq=seq))

    async def until(stored: int) -> None:
        async def check() -> bool:
            return bool(await db.fetchval("select count(*) from shares") == stored)

        await eventually(check)

    async with (
        stage("receiver", tmp_path, redis_url),
        stage(
            "writer", folders[0], redis_url, database_url, WRITER_SHARD=str(first), **quick
        ) as one,
        stage(
            "writer", folders[1], redis_url, database_url, WRITER_SHARD=str(second), **quick
        ) as two,
    ):
        send(1)
        await until(2)
        await one.kill()
        await two.kill()
        # As after a clock that ran ahead: the new stream's ids are lower.
        future = f"{time.time_ns() // 1_000_000 + 10_000_000}-0"
        await db.execute("update stream_offsets set last_id = $1 where stream = $2", future, SHARES)
        await redis.flushdb()
        send(*range(1, shares + 1))
        await eventually(lambda: redis.xlen(SHARES))
        await one.start()

        await until(shares + 1)  # and the other's first
        await two.start()
        await committed(db, redis, consumers)
    assert await db.fetchval("select count(*) from shares") == 2 * shares
