"""The writer as a process: once each, in the right table, whatever comes."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import redis.asyncio as redis_async

from tbg_core.decode import decode
from tbg_core.names import (
    DEAD_LETTER_STREAM,
    LEDGER_STREAM,
    leaderboard_key,
    stream_of,
    week_start,
)
from tests.clock import DAY, HOUR, moment, moment_of
from tests.ingest.harness import Stage, entries, packed, stage
from tests.processes import until
from tests.settled import committed

SHARES = stream_of("share_submitted")
Db = asyncpg.Connection
Redis = redis_async.Redis
USER = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


async def publish(client: Redis, event: str, /, **changes: Any) -> None:
    """Adds an event to its stream as the receiver does."""
    decoded = decode(packed(event, **changes))
    await client.xadd(
        stream_of(event),
        {
            "event": event,
            "timestamp": decoded.timestamp,
            "source": decoded.source,
            "instance": decoded.instance or "",
            "seq": decoded.seq or "",
            "data": decoded.raw_data,
        },
    )


async def test_a_resent_event_is_stored_once(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    async with stage("writer", tmp_path, redis_url, database_url) as writer:
        for seq in (1, 2, 2, 3, 1):
            await publish(redis, "share_submitted", instance="e/1", seq=seq)
        await committed(db, redis)
        await writer.kill()
        await writer.start()
        for seq in (3, 4):
            await publish(redis, "share_submitted", instance="e/1", seq=seq)
        await publish(redis, "share_submitted", instance="e/2", seq=1)  # another boot
        await committed(db, redis)
    rows = await db.fetch("select instance, seq from shares_hex order by 1, 2")
    assert [tuple(row) for row in rows] == [
        ("e/1", 1),
        ("e/1", 2),
        ("e/1", 3),
        ("e/1", 4),
        ("e/2", 1),
    ]
    state = await db.fetchrow("select * from engine_instances where instance = 'e/1'")
    assert state is not None
    assert (state["seq_max"], state["events"], state["duplicates"]) == (4, 4, 3)
    total = await db.fetchval("select sum(total_shares) from weekly_standings")
    assert total == 5


async def test_a_gap_stays_until_the_late_event_fills_it(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    async with stage("writer", tmp_path, redis_url, database_url):
        for seq in (2, 6):
            await publish(redis, "share_submitted", instance="e/1", seq=seq)
        await committed(db, redis)
        missing = "select seq_missing::text from engine_instances"
        assert await db.fetchval(missing) == "{[1,2),[3,6)}"
        await publish(redis, "hashrate_update", instance="e/1", seq=4)
        # A refused event was received: it is no loss.
        await redis.xadd(
            DEAD_LETTER_STREAM,
            {
                "stage": "receiver",
                "reason": "bad_data",
                "detail": "d",
                "instance": "e/1",
                "seq": 1,
                "raw": b"\xff\x00",
            },
        )
        await committed(db, redis)
        assert await db.fetchval(missing) == "{[3,4),[5,6)}"
    letter = await db.fetchrow("select * from dead_letters")
    assert letter is not None
    assert (letter["stage"], letter["reason"], letter["raw"], letter["seq"]) == (
        "receiver",
        "bad_data",
        b"\xff\x00",
        1,
    )


async def test_events_without_a_number_are_stored(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    async with stage("writer", tmp_path, redis_url, database_url):
        await publish(redis, "share_submitted")
        await publish(redis, "share_submitted")
        await committed(db, redis)
    assert await db.fetchval("select count(*) from shares where instance_id is null") == 2


async def test_what_the_database_refuses_is_isolated_and_the_batch_goes_on(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    # A rule that only the database knows stands for whatever it may refuse.
    await db.execute("alter table shares add constraint no_13 check (seq <> 13)")
    for seq in range(1, 31):
        await publish(redis, "share_submitted", instance="e/1", seq=seq)
    async with stage("writer", tmp_path, redis_url, database_url):
        await committed(db, redis)
    stored = await db.fetch("select seq from shares order by seq")
    assert [row["seq"] for row in stored] == [seq for seq in range(1, 31) if seq != 13]
    letter = await db.fetchrow("select * from dead_letters")
    assert letter is not None
    assert (letter["stage"], letter["reason"], letter["instance"], letter["seq"]) == (
        "writer",
        "database",
        "e/1",
        13,
    )
    assert "no_13" in letter["detail"]
    assert await db.fetchval("select sum(total_shares) from weekly_standings") == 29
    assert await db.fetchval("select seq_missing::text from engine_instances") == "{}"


async def test_entries_that_another_program_wrote_badly_are_dead_letters(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    good = {"event": "share_submitted", "timestamp": "1", "source": "x", "data": "{}"}
    bad: list[dict[str, str | bytes]] = [
        {"nothing": "here"},
        {**good, "event": "nonsense"},
        {**good, "timestamp": "soon"},
        {**good, "timestamp": "9" * 30},
        {**good, "data": b"\xff\x00"},
    ]
    for fields in bad:
        await redis.xadd(SHARES, fields)  # type: ignore[arg-type]  # redis-py wants invariant keys
    await publish(redis, "share_submitted")
    async with stage("writer", tmp_path, redis_url, database_url):
        await committed(db, redis)
    assert await db.fetchval("select count(*) from shares") == 1
    assert await db.fetchval("select count(*) from dead_letters") == len(bad)


async def test_shares_older_than_the_retention_are_refused_and_younger_ones_find_a_partition(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    now = moment()
    async with stage("writer", tmp_path, redis_url, database_url, RETENTION_DAYS="30"):
        for days in (0, 1, 10, 29, 31):
            await publish(redis, "share_submitted", timestamp=now - days * DAY)
        await publish(redis, "hashrate_update", timestamp=now - 29 * DAY)
        await committed(db, redis)
    assert await db.fetchval("select count(*) from shares") == 4
    assert await db.fetchval("select count(*) from mining_events") == 1
    assert await db.fetchval("select reason from dead_letters") == "past_retention"


async def test_a_week_begins_on_monday_at_midnight_utc(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    monday = week_start(moment_of(moment())) - timedelta(days=7)
    midnight = int(datetime.combine(monday, datetime.min.time(), UTC).timestamp()) * 1_000_000
    async with stage("writer", tmp_path, redis_url, database_url) as writer:
        await publish(redis, "share_submitted", timestamp=midnight - 1, share_diff=1000.0)
        await publish(redis, "share_submitted", timestamp=midnight, share_diff=2000.0)
        await publish(
            redis, "share_submitted", timestamp=midnight + 1, share_diff=2000.0, worker="later"
        )
        await committed(db, redis)
        assert await writer.stop() == 0
    rows = await db.fetch(
        "select week_start, best_difficulty, total_shares, total_work, worker_name, best_share_time "
        "from weekly_standings join workers w on w.id = best_worker_id order by 1"
    )
    before = monday - timedelta(days=7)
    assert [(row[0], row[1], row[2], row[3], row[4]) for row in rows] == [
        (before, 1000.0, 1, 512.0, "bitaxe-1"),
        (monday, 2000.0, 2, 1024.0, "bitaxe-1"),  # of equals the earlier one
    ]
    assert await redis.zscore(leaderboard_key(monday), USER) == 2000.0
    assert await redis.zscore(leaderboard_key(before), USER) == 1000.0
    assert await redis.ttl(leaderboard_key(monday)) > 0


async def test_a_finalised_week_is_left_alone_and_the_late_hour_is_noted(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    now = moment()
    late = now - 8 * DAY
    async with stage("writer", tmp_path, redis_url, database_url) as writer:
        await publish(redis, "share_submitted", timestamp=late, share_diff=1000.0)
        await committed(db, redis)
        week: date = await db.fetchval("select week_start from weekly_best_diff")
        # The leaderboard is written after the commit.
        await until(lambda: redis.exists(leaderboard_key(week)))
        await db.execute(
            "update weekly_best_diff set finalized_at = now(), total_shares = 1, total_work = 512"
        )
        await redis.delete(leaderboard_key(week))
        await publish(redis, "share_submitted", timestamp=late, share_diff=9000.0)
        await publish(redis, "share_submitted", timestamp=now)
        await committed(db, redis)
        assert await writer.stop() == 0
    rows = await db.fetch(
        "select best_difficulty, total_shares from weekly_best_diff order by week_start"
    )
    assert tuple(rows[0]) == (1000.0, 1)
    assert not await redis.exists(leaderboard_key(week))
    assert await redis.exists(leaderboard_key(week_start(moment_of(now))))
    hours = await db.fetch("select hour, shares from late_share_hours")
    hour = moment_of(late - late % HOUR)
    assert [tuple(row) for row in hours] == [(hour, 2)]


async def test_a_share_of_an_hour_that_was_read_is_late_whatever_the_clock_says(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    now = moment()
    read = moment_of(now - now % HOUR + HOUR)  # the rollup's clock is ahead, by up to an hour
    await db.execute("update rollup_progress set read_until = $1", read)
    async with stage("writer", tmp_path, redis_url, database_url):
        await publish(redis, "share_submitted", timestamp=now)
        await publish(redis, "share_submitted", timestamp=now)
        await committed(db, redis)
    hours = await db.fetch("select hour, shares from late_share_hours")
    assert [tuple(row) for row in hours] == [(moment_of(now - now % HOUR), 2)]


async def test_a_block_marks_its_share_whichever_comes_first(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    first, second = "0a" * 32, "0b" * 32
    async with stage("writer", tmp_path, redis_url, database_url) as writer:
        await publish(redis, "block_found", hash=first, height=1)
        await committed(db, redis)
        await writer.kill()  # known after a restart too
        await writer.start()
        await publish(redis, "share_submitted", hash=first.upper())
        await publish(redis, "share_submitted", hash=second)
        await committed(db, redis)
        await publish(redis, "block_found", hash=second, height=2)
        await publish(redis, "block_found", hash=second, height=2)
        await publish(redis, "share_submitted", hash="0c" * 32)
        await committed(db, redis)
    rows = await db.fetch("select share_hash, is_block from shares_hex order by 1")
    assert [tuple(row) for row in rows] == [(first, True), (second, True), ("0c" * 32, False)]
    assert await db.fetchval("select count(*) from blocks") == 2


async def test_a_users_total_hashrate_makes_no_worker(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    async with stage("writer", tmp_path, redis_url, database_url):
        await publish(redis, "share_submitted")
        await publish(redis, "hashrate_update", worker="")
        await committed(db, redis)
        assert await db.fetchval("select count(*) from workers") == 1
        # A miner that has no worker name is the worker ''.
        await publish(redis, "share_submitted", worker="")
        await publish(redis, "hashrate_update", worker="", hashrate_1h=7.0)
        await committed(db, redis)
    rows = await db.fetch("select worker_name, hashrate_1h from workers order by 1")
    assert [tuple(row) for row in rows] == [("", None), ("bitaxe-1", None)]
    assert await db.fetchval("select hashrate_1h from users") == 7.0


async def test_an_old_event_says_nothing_of_the_present(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    now = moment()
    async with stage("writer", tmp_path, redis_url, database_url):
        await publish(redis, "share_submitted", timestamp=now, difficulty=64.0)
        await committed(db, redis)
        await publish(redis, "share_submitted", timestamp=now - 5 * HOUR, difficulty=1.0)
        await publish(redis, "miner_disconnected", timestamp=now - 4 * HOUR)
        await committed(db, redis)
        worker = await db.fetchrow("select * from workers")
        assert worker is not None
        assert (worker["current_diff"], worker["is_online"]) == (64.0, True)
        assert worker["last_share"] == moment_of(now)
        await publish(redis, "miner_disconnected")
        await committed(db, redis)
        assert not await db.fetchval("select is_online from workers")


async def test_what_is_news_of_a_worker_is_written_at_once_and_a_time_alone_is_not(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    now = moment()
    state = "select xmin, last_share, current_diff, user_agent from workers"
    async with stage("writer", tmp_path, redis_url, database_url) as writer:
        # When the time of a share is written: test_presence.py.
        for later in (4, 3):
            await publish(redis, "share_submitted", timestamp=now - later, user_agent="a")
            await committed(db, redis)
        before = await db.fetchrow(state)
        assert before is not None
        assert before["last_share"] == moment_of(now - 4)
        await publish(redis, "share_submitted", timestamp=now - 2, user_agent="b")
        await committed(db, redis)
        after = await db.fetchrow(state)
        assert after is not None
        assert (after["last_share"], after["user_agent"]) == (moment_of(now - 2), "b")
        await writer.kill()  # what the next writer finds is no news to it
        await writer.start()
        for later in (1, 0):
            await publish(redis, "share_submitted", timestamp=now - later, user_agent="b")
            await committed(db, redis)
        assert await db.fetchrow(state) == after
        assert await db.fetchval("select last_share from workers_seen") == moment_of(now)
        # A connection is news, and brings the time up to the newest share.
        await publish(redis, "miner_disconnected", timestamp=now)
        await committed(db, redis)
        assert await writer.stop() == 0
    latest = await db.fetchrow(
        "select w.last_share, u.last_seen, w.is_online from workers w, users u"
    )
    assert latest is not None
    assert tuple(latest) == (moment_of(now), moment_of(now), False)
    # Nobody took a number in vain.
    assert await db.fetchval("select last_value from workers_id_seq") == 1


async def test_an_event_tells_whence_its_instance_is_when_a_report_did_not(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    report = b'{"received": [["sim/1", 0, 1], ["sim/2", 0, 1]], "dropped": []}'
    async with stage("writer", tmp_path, redis_url, database_url):
        await redis.xadd(LEDGER_STREAM, {"report": report})
        await committed(db, redis)
        await publish(redis, "share_submitted", instance="sim/1", seq=1, source="simulated")
        await committed(db, redis)
    rows = await db.fetch("select instance, source from engine_instances order by 1")
    assert [tuple(row) for row in rows] == [("sim/1", "simulated"), ("sim/2", "hosted")]


async def test_an_entry_is_read_in_any_order_of_its_fields(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    decoded = decode(packed("share_submitted", instance="x/1", seq=7))
    fields: Any = {
        "data": decoded.raw_data,
        "more": "of another program",
        "seq": 7,
        "instance": "x/1",
        "source": "hosted",
        "timestamp": decoded.timestamp,
        "event": "share_submitted",
    }
    async with stage("writer", tmp_path, redis_url, database_url):
        await redis.xadd(SHARES, fields)
        await committed(db, redis)
    assert await db.fetchval("select seq from shares") == 7


async def test_streams_are_trimmed_to_what_is_kept_and_never_past_the_commit(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    async with stage(
        "writer", tmp_path, redis_url, database_url, STREAM_KEEP="300", BATCH_SIZE="100"
    ) as writer:
        pipeline = redis.pipeline(transaction=False)
        fields: Any = {
            "event": "share_submitted",
            "timestamp": moment(),
            "source": "hosted",
            "data": decode(packed("share_submitted")).raw_data,
        }
        for _ in range(2000):
            pipeline.xadd(SHARES, fields)
        await pipeline.execute()
        await committed(db, redis)
        assert await writer.stop() == 0
    left = len(await entries(redis, SHARES))
    assert 300 <= left < 700  # Redis drops whole nodes of about a hundred entries
    assert await db.fetchval("select count(*) from shares") == 2000


async def test_a_second_writer_waits_and_takes_over(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    async with stage("writer", tmp_path, redis_url, database_url) as first:
        other = Stage(
            "writer", first.environment, tmp_path / "other.log", ready="another writer is at work"
        )
        try:
            await other.start()
            await publish(redis, "share_submitted", instance="e/1", seq=1)
            await committed(db, redis)
            await first.kill()
            await other.process.saying("committing")
            await publish(redis, "share_submitted", instance="e/1", seq=2)
            await committed(db, redis)
            assert await other.stop() == 0
        finally:
            await other.kill()
    assert await db.fetchval("select count(*) from shares") == 2


async def test_a_database_without_schema_is_told_and_waited_for(
    tmp_path: Path, redis_url: str, empty_database_url: str
) -> None:
    async with stage(
        "writer", tmp_path, redis_url, empty_database_url, ready="tbg migrate"
    ) as writer:
        assert await writer.stop() == 0


async def test_a_redis_that_lost_its_data_is_read_from_the_beginning(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    future = f"{moment() // 1000 + 10_000_000}-0"
    async with stage("writer", tmp_path, redis_url, database_url) as writer:
        await publish(redis, "share_submitted", instance="e/1", seq=1)
        await committed(db, redis)
        await writer.kill()
        # As after a clock that ran ahead: the new stream's ids are lower.
        await db.execute("update stream_offsets set last_id = $1 where stream = $2", future, SHARES)
        await redis.flushdb()
        await publish(redis, "share_submitted", instance="e/1", seq=1)
        await publish(redis, "share_submitted", instance="e/1", seq=2)
        await writer.start()
        await committed(db, redis)
        assert "redis lost a stream" in writer.log.read_text()
    assert await db.fetchval("select count(*) from shares") == 2


async def test_a_leaderboard_that_was_lost_is_made_again(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    async with stage("writer", tmp_path, redis_url, database_url) as writer:
        await publish(redis, "share_submitted", share_diff=5000.0)
        await committed(db, redis)
        week: date = await db.fetchval("select week_start from weekly_best_diff")
        assert await writer.stop() == 0
        # Only now, when nothing of it is on its way.
        assert await redis.delete(leaderboard_key(week)) == 1
        await writer.start()
        assert await redis.zscore(leaderboard_key(week), USER) == 5000.0


async def test_an_idle_writer_notices_that_its_offsets_were_moved_and_reads_again(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    redis: Redis,
    db: Db,
) -> None:
    """What ``tbg ledger --audit --repair`` does."""
    async with stage("writer", tmp_path, redis_url, database_url):
        for seq in (1, 2, 3):
            await publish(redis, "share_submitted", instance="e/1", seq=seq)
        await committed(db, redis)
        await db.execute("delete from shares where seq = 2")
        await db.execute("update engine_instances set seq_missing = '{[2,3)}'")
        await db.execute("update stream_offsets set last_id = '0-0' where stream = $1", SHARES)

        async def mended() -> bool:
            return bool(await db.fetchval("select count(*) = 3 from shares"))

        await until(mended)
    state = await db.fetchrow("select seq_missing, duplicates from engine_instances")
    assert state is not None
    assert (list(state["seq_missing"]), state["duplicates"]) == ([], 2)
