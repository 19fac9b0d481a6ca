"""The writer keeps each share's proof once, and one user for both cases of an address."""

import json
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async

from ingest.writer.codecs import prepare
from tbg_core.entry import Entry
from tbg_core.names import stream_of
from tests.forged import DEFORMED, forged, genuine
from tests.ingest.harness import golden, parts_of, stage
from tests.ingest.test_writer import publish
from tests.settled import committed

Db = asyncpg.Connection
Redis = redis_async.Redis
PROOFS = "select encode(share_hash, 'hex') as hash, * from share_proofs order by 1"


def best(**changes: Any) -> dict[str, Any]:
    return {**genuine()["data"], **changes}


async def test_a_proof_is_stored_once_for_week_all_time_and_block(
    tmp_path: Any, redis_url: str, database_url: str, redis: Redis, db: Db
) -> None:
    block = genuine("block_found")["data"]
    async with stage("writer", tmp_path, redis_url, database_url):
        await publish(redis, "share_best_diff", seq=1, instance="e/1", **best())
        await committed(db, redis)
        await publish(redis, "share_best_diff", seq=2, instance="e/1", **best(period="alltime"))
        await publish(redis, "block_found", seq=3, instance="e/1", **block)
        await publish(redis, "share_best_diff", seq=4, instance="e/1")  # without a proof
        await publish(redis, "share_best_diff", seq=5, instance="e/1", **best(user="thief"))
        await committed(db, redis)
    (row,) = await db.fetch(PROOFS)
    data = best()
    assert row["hash"] == data["hash"]
    assert row["header"].hex() == data["proof"]["header"]
    assert row["coinbase"].hex() == data["proof"]["coinbase"]
    assert row["branch"].hex() == "".join(data["proof"]["branch"])
    assert row["difficulty"] == data["new_best_diff"]
    owner = await db.fetchval("select btc_address from users where id = $1", row["user_id"])
    assert owner == data["user"]  # the first claim stays
    assert await db.fetchval("select count(*) from dead_letters") == 0


async def test_a_best_that_names_no_hash_is_kept_under_that_of_its_header(
    redis: Redis, db: Db
) -> None:
    await publish(redis, "share_best_diff", **best(hash=None))
    await publish(redis, "share_best_diff", **best(hash="AB" * 32))
    await prepare(db)
    parts = await parts_of(db, redis, "writer")
    await parts.store.commit(await parts.streams.read(10, 0))
    found = [row["hash"] for row in await db.fetch(PROOFS)]
    assert found == sorted([best()["hash"], "ab" * 32])


async def test_a_proof_commits_with_its_batch_or_not_at_all(redis: Redis, db: Db) -> None:
    await publish(redis, "share_best_diff", seq=1, instance="e/1", **best())
    await prepare(db)
    parts = await parts_of(db, redis, "writer")
    entries: list[Entry] = await parts.streams.read(10, 0)
    await db.execute("alter table ledger rename to away")
    with pytest.raises(asyncpg.UndefinedTableError):  # after the proof was inserted
        await parts.store.commit(entries)
    assert await db.fetch(PROOFS) == []
    await db.execute("alter table away rename to ledger")
    await parts.store.commit(entries)
    assert len(await db.fetch(PROOFS)) == 1


async def test_a_proof_of_the_wrong_form_in_a_stream_becomes_a_dead_letter(
    redis: Redis, db: Db
) -> None:
    for change in DEFORMED.values():
        fields: Any = golden("share_best_diff")
        fields["data"] = json.dumps(forged(change))
        await redis.xadd(stream_of("share_best_diff"), fields)
    await prepare(db)
    parts = await parts_of(db, redis, "writer")
    await parts.store.commit(await parts.streams.read(100, 0))
    letters = await db.fetch("select reason, detail from dead_letters")
    assert [row["reason"] for row in letters] == ["bad_data"] * len(DEFORMED)
    assert all("proof" in row["detail"] or "header" in row["detail"] for row in letters)
    assert await db.fetch(PROOFS) == []


async def test_both_cases_of_a_bech32_address_are_one_user(redis: Redis, db: Db) -> None:
    lower = golden("share_submitted")["data"]["user"]
    upper = lower.upper()
    for user in (upper, lower):
        await publish(redis, "share_submitted", user=user)
        await publish(redis, "share_best_diff", user=user)
    # What an earlier receiver left in the stream.
    fields: Any = golden("miner_connected")
    fields["data"] = json.dumps({**fields["data"], "user": upper})
    await redis.xadd(stream_of("miner_connected"), fields)
    await prepare(db)
    parts = await parts_of(db, redis, "writer")
    await parts.store.commit(await parts.streams.read(100, 0))
    assert [row["btc_address"] for row in await db.fetch("select * from users")] == [lower]
    assert await db.fetchval("select count(*) from workers") == 1
    assert await db.fetchval("select total_shares from weekly_standings") == 2
    named = await db.fetch("select distinct payload ->> 'user' as user from mining_events")
    assert [row["user"] for row in named] == [lower]
