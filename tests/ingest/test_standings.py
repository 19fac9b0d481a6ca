"""The views that add what the rows of a week and of a worker do not hold."""

from datetime import timedelta
from typing import Any

import asyncpg
import redis.asyncio as redis_async

from tests.ingest.test_bests import World

TOTALS = (
    "select user_id, best_difficulty, total_shares, total_work, provisional "
    "from weekly_standings order by week_start desc, user_id"
)


async def totals(db: asyncpg.Connection) -> list[Any]:
    return [tuple(row) for row in await db.fetch(TOTALS)]


async def test_the_totals_of_an_open_week_are_those_of_the_raw_shares_however_far_it_is_rolled_up(
    redis: redis_async.Redis, db: asyncpg.Connection, redis_url: str, database_url: str
) -> None:
    world = World(redis_url, database_url)
    await world.begin()
    try:
        await world.step(
            "commit",
            0,
            0,
            [("a", 1, second, 3, second != 2, 2.0) for second in range(4)]
            + [("b", 1, 0, 2, True, 1.0)],
        )
        right = [(1, 3.0, 3, 6.0, True), (2, 2.0, 1, 1.0, True)]
        assert await totals(db) == right
        row = await db.fetchrow("select total_shares, total_work from weekly_best_diff limit 1")
        assert tuple(row or ()) == (None, None)
        await _roll_up(db)
        assert await totals(db) == right
        await world.step("commit", 0, 0, [("a", 1, 5, 1, True, 4.0), ("a", 0, 0, 1, True, 1.0)])
        right = [(1, 1.0, 1, 1.0, True), (1, 3.0, 4, 10.0, True), right[1]]
        assert await totals(db) == right
        await _roll_up(db)
        assert await totals(db) == right
        await world.step("finalise", 0, 1, [])
        assert (await totals(db))[1:] == [(1, 0.5, 1, 1.0, False), (2, 0.5, 1, 1.0, False)]
    finally:
        await world.end()


async def _roll_up(db: asyncpg.Connection) -> None:
    if await db.fetchval("select to_regproc('rebuild_shares_hourly') is not null"):
        await db.execute(
            "select rebuild_shares_hourly(date_trunc('hour', min(time)), "
            "date_trunc('hour', max(time)) + interval '1 hour') from shares"
        )
    else:
        await db.execute("call refresh_continuous_aggregate('shares_hourly', null, null)")


async def test_a_worker_is_seen_at_its_last_share_though_its_row_lags(
    redis: redis_async.Redis, db: asyncpg.Connection, redis_url: str, database_url: str
) -> None:
    world = World(redis_url, database_url)
    await world.begin()
    try:
        await world.step("commit", 0, 0, [("a", 0, 0, 1, True, 1.0), ("b", 0, 0, 1, True, 1.0)])
        await world.step("commit", 0, 0, [("a", 0, 5, 1, False, 1.0)])
        seen = await db.fetch(
            "select last_share - noted_share as lag, last_share from workers_seen order by id"
        )
        assert [row["lag"] for row in seen] == [timedelta(seconds=5), timedelta(0)]
        newest = await db.fetchval("select max(time) from shares")
        assert seen[0]["last_share"] == newest
    finally:
        await world.end()
