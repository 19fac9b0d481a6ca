"""Checks of blocks and of the weekly game."""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import dagster as dg

from ingest.names import leaderboard_key, week_start
from tbg_dagster.quality.verdict import ERROR, WARN, verdict
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, RedisServer, Thresholds
from tbg_dagster.resources.database import Connection

# The writer commits a best to the database first, and to Redis right after.
SETTLE_SECONDS: Final = 2.0
# A block and its share travel in two streams.
TOGETHER: Final = timedelta(minutes=2)
SETTLED: Final = timedelta(days=1)


@dg.asset_check(asset="blocks")
def blocks_and_their_shares_match(
    database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """Every block found has its share, and every share that solved a block has its block.

    ERROR: one of the two events was lost.
    """
    now = datetime.now(UTC)
    with database.connect() as connection:
        row = connection.execute(
            query(__package__, "unmatched_blocks.sql"),
            # Shares of the oldest day may be gone before their block's.
            {"start": now - thresholds.retention + timedelta(days=1), "end": now - TOGETHER},
        ).fetchone()
    assert row is not None
    return verdict(
        row["blocks"] == 0 and row["shares"] == 0,
        f"{row['blocks']} blocks without a share, {row['shares']} solving shares without a block",
        blocks_without_share=row["blocks"],
        shares_without_block=row["shares"],
    )


@dg.asset_check(asset="block_confirmations")
def old_blocks_are_settled(database: Database) -> dg.AssetCheckResult:
    """Every block older than a day is confirmed, orphaned or rejected.

    ERROR: a hundred blocks take 17 hours, so the node or the schedule stands still.
    """
    with database.connect() as connection:
        rows = connection.execute(
            "select block_height, status from blocks "
            "where status in ('found', 'accepted') and found_at < %s order by block_height",
            [datetime.now(UTC) - SETTLED],
        ).fetchall()
    return verdict(
        not rows,
        f"{len(rows)} blocks are older than a day and not final"
        + "".join(f"; {row['block_height']} {row['status']}" for row in rows[:5]),
        unsettled=len(rows),
    )


@dg.asset_check(asset="weekly_best_diff", blocking=True)
def weeks_equal_hours(database: Database) -> dg.AssetCheckResult:
    """The finalised weeks of the last month count what their hours count, ranks included.

    ERROR, and blocking: a week that does not add up must not be published.
    """
    this_week = week_start(datetime.now(UTC))
    with database.connect() as connection:
        wrong = connection.execute(
            query(__package__, "wrong_weeks.sql"),
            {"first": this_week - timedelta(days=28), "end": this_week},
        ).fetchall()
    return verdict(
        not wrong,
        f"{len(wrong)} users' weeks differ from their hours"
        + "".join(f"; {row['week_start']} user {row['user_id']}" for row in wrong[:5]),
        rows_wrong=len(wrong),
    )


@dg.asset_check(asset="live_leaderboard")
def leaderboard_equals_the_running_week(
    database: Database, redis_server: RedisServer
) -> dg.AssetCheckResult:
    """The sorted set in Redis holds what the table of the running week holds.

    WARN: players see a wrong leaderboard; the reset computes from raw shares.
    """
    week = week_start(datetime.now(UTC))
    with database.connect() as connection, redis_server.connect() as client:

        def different() -> set[str]:
            table = _bests(connection, week)
            ranked: Any = client.zrange(leaderboard_key(week), 0, -1, withscores=True)
            scores: dict[str, float] = dict(ranked)
            return {
                user for user in table.keys() | scores.keys() if table.get(user) != scores.get(user)
            }

        users = different()
        if users:
            time.sleep(SETTLE_SECONDS)
            users &= different()
    return verdict(
        not users,
        f"{len(users)} users differ between table and leaderboard of the week of {week}",
        WARN,
        users=sorted(users)[:10],
    )


def _bests(connection: Connection, week: date) -> dict[str, float]:
    rows = connection.execute(
        "select u.btc_address as user, w.best_difficulty from weekly_best_diff w "
        "join users u on u.id = w.user_id where w.week_start = %s",
        [week],
    )
    return {row["user"]: row["best_difficulty"] for row in rows}


@dg.asset_check(asset="weekly_leaderboard")
def messages_are_sent(database: Database) -> dg.AssetCheckResult:
    """No message to the world waits in the outbox.

    WARN after ten minutes; ERROR after an hour: the next run of its asset sends it.
    """
    with database.connect() as connection:
        row = connection.execute(
            "select count(*) as messages, max(now() - created_at) as age "
            "from outbox where sent_at is null and created_at < now() - interval '10 minutes'"
        ).fetchone()
    assert row is not None
    old = row["age"] is not None and row["age"] > timedelta(hours=1)
    return verdict(
        row["messages"] == 0,
        f"{row['messages']} messages wait for more than ten minutes",
        ERROR if old else WARN,
        waiting=row["messages"],
    )


CHECKS = [
    blocks_and_their_shares_match,
    old_blocks_are_settled,
    weeks_equal_hours,
    leaderboard_equals_the_running_week,
    messages_are_sent,
]
