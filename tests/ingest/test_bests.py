"""The week's bests are the plain maximum of the raw shares, whatever happens."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import redis.asyncio as redis_async
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.writer.codecs import prepare
from ingest.writer.provisional import ProvisionalBests
from tbg_core.decode import decode
from tbg_core.entry import Entry
from tbg_core.names import stream_of, week_start
from tests.clock import DAY, moment, moment_of
from tests.ingest.harness import Parts, packed, parts_of

WEEK = 7 * DAY
SHARES = stream_of("share_submitted")
TABLES = (
    "shares, ledger, stream_offsets, stream_marks, weekly_best_diff, workers, users, engine_instances, "
    "late_share_hours, dead_letters"
)
REFUSED = 13.0  # an assigned difficulty that only the database refuses

# What the table must hold of every open week, and does not.
WRONG = """
with raw as (
    select distinct on (user_id, date_trunc('week', time at time zone 'UTC'))
        user_id, date_trunc('week', time at time zone 'UTC')::date as week_start,
        share_diff, time
    from shares
    where is_valid
    order by 1, date_trunc('week', time at time zone 'UTC'), share_diff desc, time
)
select * from raw
full join weekly_best_diff w using (user_id, week_start)
where w.finalized_at is null
  and (w.best_difficulty, w.best_share_time) is distinct from (raw.share_diff, raw.time)
"""

SHARE = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 2),  # weeks ago
    st.integers(0, 5),  # second of the week
    st.integers(1, 6),  # achieved difficulty: many ties
    st.sampled_from([True] * 9 + [False]),
    st.sampled_from([1.0] * 30 + [REFUSED]),
)
STEP = st.tuples(
    st.sampled_from(["commit"] * 6 + ["roll back", "restart", "finalise", "reconcile"]),
    st.integers(0, 1),  # writer
    st.integers(0, 2),  # weeks ago
    st.lists(SHARE, max_size=8),
)


class World:
    """Two writers on one database."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.entry = 0
        start = datetime.combine(week_start(moment_of(moment())), datetime.min.time(), UTC)
        self.monday = int(start.timestamp()) * 1_000_000

    async def begin(self) -> None:
        self.admin = await asyncpg.connect(self.database_url)
        self.client = redis_async.Redis.from_url(self.redis_url)
        await self.client.flushdb()
        await self.admin.execute(f"truncate {TABLES} restart identity cascade")
        await self.admin.execute("alter table shares drop constraint if exists no_13")
        await self.admin.execute("alter table shares add constraint no_13 check (difficulty <> 13)")
        self.connections: list[asyncpg.Connection] = []
        self.parts: list[Parts] = []
        for number in range(2):
            connection, parts = await self.writer(number)
            self.connections.append(connection)
            self.parts.append(parts)

    async def writer(self, number: int) -> tuple[asyncpg.Connection, Parts]:
        connection = await asyncpg.connect(self.database_url)
        await prepare(connection)
        return connection, await parts_of(connection, self.client, f"w{number}")

    async def step(self, kind: str, number: int, ago: int, shares: list[Any]) -> None:
        week = moment_of(self.monday - ago * WEEK).date()
        if kind == "restart":
            await self.connections[number].close()
            self.connections[number], self.parts[number] = await self.writer(number)
        elif kind == "finalise" and ago:
            # As the batch side does, which may lower a best: some shares are left out.
            await self.admin.execute(
                "update weekly_best_diff set finalized_at = now(), best_difficulty = 0.5, "
                "total_shares = 1, total_work = 1 where week_start = $1",
                week,
            )
        elif kind == "reconcile":
            self.parts[number].store.bests.forget()
        entries = [self.made(number, *share) for share in shares]
        if kind == "roll back" and entries:
            await self.admin.execute("alter table ledger rename to away")
            try:
                await self.parts[number].store.commit(entries)
            except asyncpg.UndefinedTableError:
                pass
            else:
                raise AssertionError("it was committed without a ledger")
            finally:
                await self.admin.execute("alter table away rename to ledger")
            return  # what comes next may be lower
        await self.parts[number].store.commit(entries)

    def made(
        self, number: int, user: str, ago: int, second: int, best: int, valid: bool, diff: float
    ) -> Entry:
        self.entry += 1
        event = decode(
            packed(
                "share_submitted",
                timestamp=self.monday - ago * WEEK + second * 1_000_000,
                instance=f"e{number}/1",
                seq=self.entry,
                user=user,
                share_diff=float(best),
                difficulty=diff,
                valid=valid,
                reject_reason=None if valid else "Stale",
            )
        )
        fields = {
            "event": "share_submitted",
            "timestamp": str(event.timestamp),
            "source": event.source,
            "instance": event.instance or "",
            "seq": str(event.seq),
            "data": event.raw_data.decode(),
        }
        flat = [part.encode() for pair in fields.items() for part in pair]
        return Entry(SHARES, f"{self.entry}-0".encode(), flat)

    async def end(self) -> None:
        for connection in (*self.connections, self.admin):
            await connection.close()
        await self.client.aclose()


def test_whatever_is_remembered_the_bests_of_open_weeks_are_those_of_the_raw_shares(
    redis_url: str, database_url: str
) -> None:
    async def go(steps: list[tuple[str, int, int, list[Any]]]) -> None:
        world = World(redis_url, database_url)
        await world.begin()
        try:
            for step in steps:
                await world.step(*step)
                assert await world.admin.fetch(WRONG) == []
            finalised = await world.admin.fetch(
                "select best_difficulty from weekly_best_diff where finalized_at is not null"
            )
            assert {row["best_difficulty"] for row in finalised} <= {0.5}
        finally:
            await world.end()

    @settings(max_examples=40)
    @given(st.lists(STEP, min_size=1, max_size=12))
    def holds(steps: list[tuple[str, int, int, list[Any]]]) -> None:
        asyncio.run(go(steps))

    holds()


async def test_a_share_that_raises_nothing_does_not_touch_the_week(
    redis: redis_async.Redis, db: asyncpg.Connection, redis_url: str, database_url: str
) -> None:
    world = World(redis_url, database_url)
    await world.begin()
    try:
        await world.step("commit", 0, 0, [("a", 0, 3, 5, True, 1.0), ("b", 0, 3, 5, True, 1.0)])
        before = await db.fetch("select *, xmin from weekly_best_diff")
        await world.step("commit", 0, 0, [("a", 0, 4, 4, True, 1.0), ("b", 0, 4, 4, False, 1.0)])
        assert await db.fetch("select *, xmin from weekly_best_diff") == before
        await world.step("restart", 0, 0, [("a", 0, 4, 4, True, 1.0)])
        assert await db.fetch("select *, xmin from weekly_best_diff") == before
        await world.step("commit", 0, 0, [("a", 0, 2, 5, True, 1.0)])  # a tie, and earlier
        assert await db.fetch(WRONG) == []
        assert await db.fetch("select *, xmin from weekly_best_diff where user_id = 1") != [
            before[0]
        ]
    finally:
        await world.end()


async def test_a_best_that_was_rolled_back_is_not_remembered(
    redis: redis_async.Redis, db: asyncpg.Connection, redis_url: str, database_url: str
) -> None:
    world = World(redis_url, database_url)
    await world.begin()
    try:
        await world.step("commit", 0, 0, [("a", 0, 0, 1, True, 1.0)])
        await world.step("roll back", 0, 0, [("a", 0, 1, 5, True, 1.0)])
        await world.step("commit", 0, 0, [("a", 0, 2, 3, True, 1.0)])
        assert await db.fetch(WRONG) == []
    finally:
        await world.end()


def test_weeks_that_are_remembered_are_few_and_the_newest() -> None:
    bests = ProvisionalBests()
    weeks = [moment_of(moment()).date() + timedelta(days=7 * number) for number in range(10)]
    for week in weeks:
        bests.learn(week, 1, 5.0)
    assert [bests.of(week)[1] for week in weeks] == [-1.0] * 6 + [5.0] * 4
