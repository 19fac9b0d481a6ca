"""A number is no identity: another event under a number that is taken is kept, and said loudly."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
import redis.asyncio as redis_async

from tbg_core.names import stream_of
from tests.clock import DAY, moment
from tests.ingest.harness import Sender, Stage, entries, golden, packed, sending, stage
from tests.processes import until

Db = asyncpg.Connection


@pytest.fixture
async def writer(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[Stage]:
    """A receiver and a writer; the writer is what it gives."""
    async with (
        stage("receiver", tmp_path, redis_url),
        stage("writer", tmp_path, redis_url, database_url) as made,
    ):
        yield made


async def counted(db: Db, events: int) -> None:
    """Waits until the database has taken so many numbered events, copies included."""

    async def done() -> bool:
        return bool(
            await db.fetchval(
                "select coalesce(sum(events + duplicates), 0) = $1 from engine_instances", events
            )
        )

    await until(done)


async def letters(db: Db) -> list[tuple[str, int]]:
    rows = await db.fetch("select reason, seq from dead_letters order by id")
    return [(row["reason"], row["seq"]) for row in rows]


def share(sender: Sender, seq: int, at: int, **changes: object) -> None:
    sender.send(packed("share_submitted", instance="e/1", seq=seq, timestamp=at, **changes))


async def test_a_boot_whose_name_is_used_again_loses_nothing(
    tmp_path: Path, writer: Stage, db: Db
) -> None:
    began = moment() - 60_000_000
    with sending(tmp_path / "events.sock") as sender:
        for seq in range(1, 101):
            share(sender, seq, began + seq)
        await counted(db, 100)
        # A snapshot of the machine goes on: new shares, old numbers, and then new ones.
        for seq in range(51, 131):
            share(sender, seq, began + 1000 + seq, share_diff=7777.0)
        await counted(db, 180)
        # And one whose clock is behind: older than what was sent under these numbers.
        for seq in range(101, 111):
            share(sender, seq, began + seq)
        await counted(db, 190)
    assert await letters(db) == [("number_reused", seq) for seq in range(51, 111)]
    assert await db.fetchval("select count(*) from shares") == 130
    raw = await db.fetchval("select raw from dead_letters order by id limit 1")
    assert json.loads(json.loads(raw)["data"])["share_diff"] == 7777.0
    assert "number_reused" in writer.process.output
    # The books say each number once.
    books = await db.fetchrow(
        "select sum(emitted) as emitted, sum(committed) as committed, "
        "sum(dead_lettered) as refused, sum(duplicates) as copies, "
        "sum(unexplained) as unexplained from ledger_hours"
    )
    assert books is not None
    assert dict(books) == {
        "emitted": 130, "committed": 130, "refused": 0, "copies": 60, "unexplained": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "event", ["share_submitted", "hashrate_update", "block_found", "new_block_network"]
)
async def test_honest_copies_are_duplicates_wherever_they_come_from(
    tmp_path: Path, writer: Stage, db: Db, redis: redis_async.Redis, event: str
) -> None:
    began = moment() - 60_000_000
    sent = [packed(event, instance="e/1", seq=seq, timestamp=began + seq) for seq in range(1, 41)]
    with sending(tmp_path / "events.sock") as sender:
        for datagram in sent:
            sender.send(datagram)
        await counted(db, 40)
    # Copies in the streams: of a receiver whose marks are gone, and of one before this version.
    for fields in (await entries(redis, stream_of(event)))[20:] * 2:
        await redis.xadd(stream_of(event), cast(Any, fields))
    await counted(db, 80)
    # The writer reads the streams again.
    await db.execute("update stream_offsets set last_id = '0-0', entries = 0")
    await counted(db, 160)
    assert await letters(db) == []
    assert await db.fetchval("select sum(duplicates) from engine_instances") == 120


async def test_a_copy_of_what_was_refused_is_a_duplicate_and_another_event_is_not(
    tmp_path: Path, writer: Stage, db: Db, redis: redis_async.Redis
) -> None:
    now = moment()
    with sending(tmp_path / "events.sock") as sender:
        share(sender, 1, now - 91 * DAY)  # past retention
        share(sender, 2, now, difficulty=0)  # outside the contract
        share(sender, 3, now + 1)
        await counted(db, 3)
        for stream in ("mining:share_submitted", "mining:dead_letter"):
            for fields in await entries(redis, stream):
                await redis.xadd(stream, cast(Any, fields))
        await counted(db, 6)
        assert await letters(db) == [("past_retention", 1), ("bad_data", 2)]
        # Numbers of what was refused are taken, too.
        share(sender, 1, now + 2)
        share(sender, 2, now + 3)
        await counted(db, 8)
    assert (await letters(db))[2:] == [("number_reused", 1), ("number_reused", 2)]


async def test_a_number_used_twice_in_one_batch_keeps_the_first_event_and_the_second(
    tmp_path: Path, redis_url: str, database_url: str, db: Db, redis: redis_async.Redis
) -> None:
    at = moment()
    made = [
        json.loads(packed("share_submitted", instance="e/1", seq=1, timestamp=at, hash=one * 64))
        for one in "aabb"  # a share, its copy, another share of the same moment, its copy
    ]
    for value in made:
        value["data"] = json.dumps(value["data"])
        await redis.xadd("mining:share_submitted", value)
    async with stage("writer", tmp_path, redis_url, database_url):
        await counted(db, 4)
    assert await db.fetchval("select count(*) from shares") == 1
    assert await letters(db) == [("number_reused", 1)]


async def test_an_event_and_what_was_refused_under_its_number_are_both_kept_and_each_once(
    tmp_path: Path, redis_url: str, database_url: str, db: Db, redis: redis_async.Redis
) -> None:
    value = golden("share_submitted", instance="e/1", seq=1)
    value["data"] = json.dumps(value["data"])
    letter = {"stage": "receiver", "reason": "bad_data", "detail": "", "raw": "{}"}
    letter |= {"instance": "e/1", "seq": "1"}
    for _ in range(2):
        await redis.xadd("mining:share_submitted", cast(Any, value))
        await redis.xadd("mining:dead_letter", cast(Any, letter))
    async with stage("writer", tmp_path, redis_url, database_url):
        await counted(db, 4)
        await redis.xadd("mining:dead_letter", cast(Any, letter))
        await counted(db, 5)
    assert await db.fetchval("select count(*) from shares") == 1
    assert await letters(db) == [("bad_data", 1)]
