"""A writer goes on where it was, by the entries themselves, whatever Redis lost or gave again."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async

from ingest.counts import Tally
from ingest.writer.codecs import prepare
from ingest.writer.offsets import OffsetsMovedError
from ingest.writer.resume import check
from tbg.stack.embedded import EmbeddedValkey
from tbg_core.decode import decode
from tbg_core.names import IDENTITY_KEY, LEDGER_STREAM, STREAMS, stream_of
from tbg_core.periods import HOUR
from tests.ingest.harness import Parts, packed, parts_of, sending, stage
from tests.processes import until
from tests.settled import committed

SHARES = stream_of("share_submitted")
Db = asyncpg.Connection
Redis = redis_async.Redis


def share(**changes: Any) -> dict[Any, Any]:
    """The fields of a share's entry."""
    decoded = decode(packed("share_submitted", **changes))
    return {
        "event": "share_submitted",
        "timestamp": decoded.timestamp,
        "source": decoded.source,
        "instance": decoded.instance or "",
        "seq": decoded.seq or "",
        "data": decoded.raw_data,
    }


@contextlib.asynccontextmanager
async def writer(database_url: str, client: Redis, name: str = "writer") -> AsyncIterator[Parts]:
    """A writer's parts, on a connection of its own."""
    connection = await asyncpg.connect(database_url)
    try:
        await prepare(connection)
        yield await parts_of(connection, client, name)
    finally:
        await connection.close()


async def commit_all(
    database_url: str, client: Redis, name: str = "writer", most: int = 100
) -> None:
    """A writer's whole life."""
    async with writer(database_url, client, name) as parts:
        while entries := await parts.streams.read(most, 0):
            await parts.store.commit(entries)
            await parts.trimming.trim(parts.offsets)


async def lose_after(client: Redis, stream: str, last_id: str) -> None:
    """Redis has a stream only up to an entry, as after a crash of its machine."""
    kept: Any = await client.xrange(stream, max=last_id)
    await client.delete(stream)
    for entry_id, fields in kept:
        await client.xadd(stream, fields, id=entry_id)


async def stored(db: Db) -> tuple[int, int, int]:
    """Rows with a number, numbers, and rows without one."""
    row = await db.fetchrow(
        "select count(seq), count(distinct seq), count(*) - count(seq) from shares"
    )
    assert row is not None
    return tuple(row)


async def test_what_comes_with_lower_ids_after_a_lost_tail_is_stored_and_nothing_twice(
    database_url: str, redis: Redis, db: Db
) -> None:
    for number in range(1, 401):  # a mark lies within
        fields = share(instance="e/1", seq=number) if number % 4 else share()
        await redis.xadd(SHARES, fields, id=f"{5000 + number}-0")
    await commit_all(database_url, redis, most=30)
    await lose_after(redis, SHARES, "5290-0")
    # Its clock is behind: new ids lie below the offset, and some are those of lost entries.
    for number in range(401, 451):
        fields = share(instance="e/1", seq=number) if number % 4 else share()
        await redis.xadd(SHARES, fields, id=f"{5290 + number - 400}-0")
    await commit_all(database_url, redis)
    assert await stored(db) == (338, 338, 112)
    state = await db.fetchrow("select events, duplicates, seq_missing from engine_instances")
    assert state is not None
    # What is read again is no second copy; every fourth number was never given.
    assert (state["events"], state["duplicates"]) == (338, 0)
    await commit_all(database_url, redis)
    assert await stored(db) == (338, 338, 112)


async def test_the_id_of_a_lost_entry_that_is_given_to_another_one_is_another_entry(
    database_url: str, redis: Redis, db: Db
) -> None:
    for number in (1, 2):
        await redis.xadd(SHARES, share(instance="e/1", seq=number), id=f"{number}-0")
    await commit_all(database_url, redis)
    await lose_after(redis, SHARES, "1-0")
    await redis.xadd(SHARES, share(), id="2-0")
    await redis.xadd(SHARES, share(), id="3-0")
    await commit_all(database_url, redis)
    assert await stored(db) == (2, 2, 2)


async def test_a_wrong_redis_for_a_moment_stores_nothing_twice(
    database_url: str, redis_url: str, redis: Redis, db: Db
) -> None:
    wrong = redis_async.Redis.from_url(redis_url, db=1)
    async with contextlib.aclosing(wrong):
        await wrong.flushdb()
        for _ in range(30):
            await redis.xadd(SHARES, share())
        tally = Tally()
        for _ in range(30):
            tally.received("e/1", HOUR)
        await redis.xadd(LEDGER_STREAM, {"report": tally.take()})
        await commit_all(database_url, redis)
        await commit_all(database_url, wrong)  # empty
        await wrong.xadd(SHARES, share())
        await commit_all(database_url, wrong)
        await redis.xadd(SHARES, share())
        await commit_all(database_url, redis)
        await commit_all(database_url, wrong)
        await commit_all(database_url, redis)
        await wrong.flushdb()
    assert await stored(db) == (0, 0, 32)
    assert await db.fetchval("select sum(received) from ledger_hours") == 30


async def test_a_redis_that_lost_its_name_alone_is_known_by_its_entries(
    database_url: str, redis: Redis, db: Db
) -> None:
    for _ in range(5):
        await redis.xadd(SHARES, share())
    await commit_all(database_url, redis)
    name = await redis.get(IDENTITY_KEY)
    assert name
    await redis.delete(IDENTITY_KEY)
    await commit_all(database_url, redis)
    assert await redis.get(IDENTITY_KEY) == name
    assert await stored(db) == (0, 0, 5)
    await redis.flushdb()
    await redis.xadd(SHARES, share(), id="1-0")
    await commit_all(database_url, redis)
    assert await redis.get(IDENTITY_KEY) != name
    assert await stored(db) == (0, 0, 6)


async def test_a_writer_of_another_name_goes_on_where_the_former_stopped(
    database_url: str, redis: Redis, db: Db
) -> None:
    for _ in range(5):
        await redis.xadd(SHARES, share())
    await commit_all(database_url, redis, "former")
    # Of a version that kept no more than ids.
    await db.execute("update stream_offsets set redis = null, entry = null")
    await redis.xadd(SHARES, share())
    await commit_all(database_url, redis, "another")
    assert await stored(db) == (0, 0, 6)
    assert await db.fetchval("select array_agg(distinct consumer) from stream_offsets") == [
        "another"
    ]


async def test_what_is_read_again_from_the_beginning_is_stored_once(
    database_url: str, redis: Redis, db: Db
) -> None:
    """What ``tbg ledger --audit --repair`` does."""
    for number in range(1, 251):
        await redis.xadd(SHARES, share(instance="e/1", seq=number) if number % 2 else share())
    report = b'{"received": [["e/1", 0, 7]], "dropped": []}'  # of a receiver that gave no ids
    await redis.xadd(LEDGER_STREAM, {"report": report})
    await commit_all(database_url, redis, most=20)
    await db.execute("update stream_offsets set last_id = '0-0', entries = 0")
    await redis.xadd(SHARES, share())
    await commit_all(database_url, redis, most=7)
    assert await stored(db) == (125, 125, 126)
    assert await db.fetchval("select sum(received) from ledger_hours") == 7


async def test_a_report_that_is_in_the_stream_twice_counts_once(
    database_url: str, redis: Redis, db: Db
) -> None:
    tally = Tally()
    reports = []
    for _ in range(3):
        tally.received("e/1", HOUR)
        reports.append(tally.take())
    for report in (reports[0], reports[0], reports[1]):
        await redis.xadd(LEDGER_STREAM, {"report": report})
    await commit_all(database_url, redis)
    for report in (reports[1], reports[2], reports[0]):
        await redis.xadd(LEDGER_STREAM, {"report": report})
    await commit_all(database_url, redis)
    assert await db.fetchval("select sum(received) from ledger_hours") == 3


async def test_a_stream_that_was_emptied_is_read_on_and_one_that_was_deleted_from_its_beginning(
    database_url: str, redis: Redis, db: Db
) -> None:
    for number in (1, 2):
        await redis.xadd(SHARES, share(instance="e/1", seq=number), id=f"{number}000-0")
    async with writer(database_url, redis) as parts:
        await parts.store.commit(await parts.streams.read(10, 0))
        await check(parts.offsets, parts.streams)
        await redis.xtrim(SHARES, maxlen=0)
        await check(parts.offsets, parts.streams)  # whatever comes has a higher id
        await redis.delete(SHARES)
        await redis.xadd(SHARES, share(instance="e/1", seq=3), id="1-0")
        with pytest.raises(OffsetsMovedError, match="redis lost committed entries of"):
            await check(parts.offsets, parts.streams)
    await commit_all(database_url, redis)
    assert await stored(db) == (3, 3, 0)


async def test_numbers_that_another_program_changed_are_read_again_before_anything_is_judged(
    database_url: str, redis: Redis, db: Db
) -> None:
    async with writer(database_url, redis) as parts:
        await redis.xadd(SHARES, share(instance="e/1", seq=2))
        await parts.store.commit(await parts.streams.read(10, 0))
        await db.execute("update engine_instances set seq_max = 9, seq_missing = '{[3,5)}'")
        await redis.xadd(SHARES, share(instance="e/1", seq=3))
        entries = await parts.streams.read(10, 0)
        with pytest.raises(OffsetsMovedError, match="changed by a repair"):
            await parts.store.commit(entries)
    await commit_all(database_url, redis)
    state = await db.fetchrow("select seq_max, seq_missing::text as missing from engine_instances")
    assert state is not None
    assert tuple(state) == (9, "{[4,5)}")


async def test_what_is_kept_for_other_readers_is_bounded_however_often_the_writer_begins_anew(
    database_url: str, valkey_server: Callable[..., EmbeddedValkey]
) -> None:
    server = valkey_server(**{"stream-node-max-entries": "10"})
    client = redis_async.Redis.from_url(server.url)
    async with contextlib.aclosing(client):
        for _ in range(12):
            for _ in range(40):  # less than a mark takes
                await client.xadd(SHARES, share())
            async with writer(database_url, client) as parts:
                parts.trimming._keep = 200
                while entries := await parts.streams.read(1000, 0):
                    await parts.store.commit(entries)
                    await parts.trimming.trim(parts.offsets)
        assert 200 <= await client.xlen(SHARES) <= 320


async def test_a_connection_to_redis_that_breaks_ends_the_session_also_between_two_reads(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    async with stage("writer", tmp_path, redis_url, database_url) as process:
        await redis.xadd(SHARES, share(instance="e/1", seq=1))
        await committed(db, redis)
        await redis.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: process.log.read_text().count(" committing ") == 2)
        await redis.xadd(SHARES, share(instance="e/1", seq=2))
        await committed(db, redis)
    assert await stored(db) == (2, 2, 0)


async def test_every_stream_names_its_redis_and_its_entry(
    database_url: str, redis: Redis, db: Db
) -> None:
    entry_id: Any = await redis.xadd(SHARES, share())
    await commit_all(database_url, redis)
    rows = await db.fetch("select stream, redis, entry, last_id from stream_offsets")
    name: Any = await redis.get(IDENTITY_KEY)
    assert {row["stream"] for row in rows} == set(STREAMS)
    assert {row["redis"] for row in rows} == {name.decode()}
    [row] = [row for row in rows if row["stream"] == SHARES]
    assert row["last_id"] == entry_id.decode()
    assert row["entry"].startswith(f"{row['last_id']} ")


async def test_a_published_event_that_was_lost_before_it_was_committed_may_be_sent_again(
    tmp_path: Path, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    """The recipe of docs/guarantees.md: with its old instance and number, to any receiver."""
    sent = {seq: packed("share_submitted", instance="e/1", seq=seq) for seq in range(1, 61)}

    async def entries(count: int) -> None:
        await until(lambda: redis.xlen(SHARES), "something is published")

        async def there() -> bool:
            return bool(await redis.xlen(SHARES) == count)

        await until(there, f"{count} entries")

    async with (
        stage("receiver", tmp_path, redis_url) as receiver,
        stage("writer", tmp_path, redis_url, database_url) as process,
    ):
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(1, 21):
                sender.send(sent[seq])
            await entries(20)
            await committed(db, redis)
            assert await process.stop() == 0
            for seq in range(21, 41):
                sender.send(sent[seq])
            await entries(40)
            await redis.delete(SHARES)  # an operator, an eviction
            for seq in range(41, 61):
                sender.send(sent[seq])
            await entries(20)
        await process.start()
        await committed(db, redis)
        missing = "select seq_missing::text from engine_instances"
        assert await db.fetchval(missing) == "{[21,41)}"
        await until(lambda: redis.get("mining:missing:e/1"))
        with sending(tmp_path / "events.sock") as sender:
            for seq in (5, *range(21, 31), 50):
                sender.send(sent[seq])
            await entries(30)  # what is stored is left out
        await receiver.stop()
        await receiver.start()
        with sending(tmp_path / "events.sock") as sender:
            for seq in range(31, 41):
                sender.send(sent[seq])
            await entries(40)
        await committed(db, redis)
        assert await db.fetchval(missing) == "{}"

        async def said() -> bool:
            return not await redis.exists("mining:missing:e/1")

        await until(said)
    assert await stored(db) == (60, 60, 0)
