"""From the socket to the database, through both stages as real processes."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio as redis_async

from tbg_core.events import EVENTS
from tbg_core.names import BLOCKS_CHANNEL, leaderboard_key, stream_of, week_start
from tests.clock import moment, moment_of
from tests.ingest.harness import golden, packed, sending, stage
from tests.processes import LIMIT

Eventually = Callable[..., Awaitable[Any]]


async def test_every_event_reaches_redis_and_its_table(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    redis: redis_async.Redis,
    db: asyncpg.Connection,
    eventually: Eventually,
) -> None:
    now = moment()
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url) as writer,
        redis.pubsub() as pubsub,
    ):
        await pubsub.subscribe(BLOCKS_CHANNEL)
        # What is published before the server has confirmed it is not for us.
        assert (await pubsub.get_message(timeout=LIMIT) or {})["type"] == "subscribe"
        with sending(tmp_path / "events.sock") as sender:
            for seq, event in enumerate(EVENTS, 1):
                sender.send(packed(event, instance="test/1", seq=seq, timestamp=now))

        async def all_committed() -> bool:
            return bool(
                await db.fetchval(
                    "select events = 8 from engine_instances where instance = 'test/1'"
                )
            )

        await eventually(all_committed)
        for event in EVENTS:
            assert await redis.xlen(stream_of(event)) == 1

        async def celebrated() -> bool:
            message = await pubsub.get_message()
            return (
                message is not None
                and golden("block_found")["data"]["hash"].encode() in message["data"]
            )

        await eventually(celebrated)
        assert await writer.stop() == 0

    data = golden("share_submitted")["data"]
    share = await db.fetchrow("select * from shares_hex")
    assert share is not None
    assert (share["btc_address"], share["worker_name"]) == (data["user"], data["worker"])
    assert (share["nonce"], share["nonce2"], share["share_hash"]) == (
        data["nonce"],
        data["nonce2"],
        data["hash"],
    )
    assert (share["share_diff"], share["difficulty"], str(share["ip_address"])) == (
        data["share_diff"],
        data["difficulty"],
        data["ip"],
    )
    assert share["is_valid"]
    assert share["is_block"]  # its hash is the block's
    assert (share["instance"], share["seq"], share["source"]) == ("test/1", 1, "hosted")
    block = await db.fetchrow("select * from blocks")
    assert block is not None
    assert block["status"] == "found"
    assert str(block["reward_btc"]) == "3.18750000"
    worker = await db.fetchrow("select * from workers")
    assert worker is not None
    assert worker["hashrate_1h"] == 1.2e12
    assert worker["user_agent"] == data["user_agent"]
    assert not worker["is_online"]  # miner_disconnected came last
    assert await db.fetchval("select count(*) from mining_events") == 7
    assert await db.fetchval("select count(*) from network_blocks") == 1
    week = week_start(moment_of(now))
    best = await db.fetchrow("select * from weekly_standings")
    assert best is not None
    assert (
        best["week_start"],
        best["best_difficulty"],
        best["total_shares"],
        best["total_work"],
    ) == (
        week,
        4821.375,
        1,
        512.0,
    )
    assert best["best_share_hash"].hex() == data["hash"]
    assert await redis.zrange(leaderboard_key(week), 0, -1, withscores=True) == [
        (data["user"].encode(), 4821.375)
    ]
