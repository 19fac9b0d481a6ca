"""The whole pool: what takes long to count is counted once, for every dialect."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_serve.database import Database, now
from tbg_serve.held import Held
from tbg_serve.miners import RATES, Miners, rate_sql, rates_sql
from tbg_serve.series import SLOT, Series

SECONDS: Final = 60.0  # that a count of the pool may take: nobody waits for it
MOST_AGENTS: Final = 100
HIGH_SCORES: Final = 10
BLOCKS: Final = 100
DAYS_SECONDS: Final = 7 * 86_400
BUCKET: Final = 600  # seconds, of public-pool's charts


@dataclass(frozen=True)
class Counts:
    """The pool in numbers; hash rates in H/s."""

    users: int
    workers: int  # online
    idle: int  # online, and no share for an hour
    disconnected: int  # that had a share in the last day, and are not online
    rates: dict[str, float]
    shares_a_second: float


@dataclass(frozen=True)
class Agent:
    """The workers online with one user agent. Hash rate in H/s."""

    user_agent: str
    workers: int
    best_difficulty: float
    hash_rate: float


class Pool:
    """Counts the pool.

    Args:
        database: what to ask.
        seconds: that a count is kept at least.
        patience: seconds that a person waits for the first one.
    """

    def __init__(self, database: Database, seconds: float, patience: float) -> None:
        self._database = database
        self._series = Series(database)
        self.miners = Miners(database)
        self.counts = Held(self._counts, seconds, patience)
        self.agents = Held(self._agents, seconds, patience)
        self.slots = Held(self._series.day, seconds, patience)
        self.round = Held(self._round, seconds, patience)
        self.week = Held(self._week, seconds, patience)
        self.days = Held(self._days, seconds, patience)

    async def _counts(self) -> Counts:
        (row,) = await self._database.fetch(_COUNTS, seconds=SECONDS)
        (users,) = await self._database.fetch(_USERS, seconds=SECONDS)
        return Counts(
            users["users"],
            row["workers"],
            row["idle"],
            row["disconnected"],
            {name: users[name] for name in RATES},
            row["shares_a_second"],
        )

    async def _agents(self) -> list[Agent]:
        rows = await self._database.fetch(_AGENTS, MOST_AGENTS, seconds=SECONDS)
        return [
            Agent(row["user_agent"], row["workers"], row["best_difficulty"], row["hash_rate"])
            for row in rows
        ]

    async def _week(self) -> asyncpg.Record:
        (row,) = await self._database.fetch(_WEEK, seconds=SECONDS)
        return row

    async def _round(self) -> tuple[datetime | None, float]:
        """When the pool's last block was found (or its first day), and the work since."""
        row = await self._database.row(_LAST_BLOCK)
        since: datetime | None = None if row is None else row["found_at"]
        begin = since
        if begin is None:
            first = await self._database.row("select min(created_at) as first from users")
            begin = first["first"] if first is not None else None
        if begin is None:
            return None, 0.0
        return since, await self._series.since(begin)

    async def chart(self) -> list[tuple[datetime, float]]:
        """The closed buckets of ten minutes with work of the last 24 hours, and their H/s."""
        slots = await self.slots.get()
        return chart([(slot * SLOT, sums.work) for slot, sums in slots.items()])

    async def rate_of(self, minutes: int) -> float:
        """The pool's hash rate (H/s) over the closed slots of the last minutes."""
        running = int(now().timestamp()) // SLOT
        count = minutes * 60 // SLOT
        slots = await self.slots.get()
        work = sum(
            slots[running - back].work for back in range(1, count + 1) if running - back in slots
        )
        return work * HASHES_PER_DIFFICULTY / (count * SLOT)

    async def rate_7d(self) -> float:
        """The pool's hash rate (H/s) over the last seven days."""
        work = await self.days.get()
        return work * HASHES_PER_DIFFICULTY / DAYS_SECONDS

    async def _days(self) -> float:
        return await self._series.since(now() - timedelta(seconds=DAYS_SECONDS))

    async def blocks(self) -> list[asyncpg.Record]:
        """The newest blocks that the chain did not refuse, highest first."""
        return await self._database.fetch(_BLOCKS, BLOCKS)

    async def found(self) -> asyncpg.Record:
        """The best share of the running week (None without one), and how many blocks there are."""
        return await self._database.one(_FOUND)

    async def high_scores(self) -> list[asyncpg.Record]:
        """The best shares of all time, one of each user."""
        return await self._database.fetch(_HIGH_SCORES, HIGH_SCORES)


def chart(works: list[tuple[float, float]]) -> list[tuple[datetime, float]]:
    """Closed buckets of ten minutes of the last 24 hours, with their mean hash rate in H/s.

    Args:
        works: Unix times, and the work (accepted difficulty) that belongs to each.
    """
    moment = now()
    running = int(moment.timestamp()) // BUCKET
    first = running - 24 * 3600 // BUCKET
    buckets: dict[int, float] = {}
    for when, work in works:
        bucket = int(when) // BUCKET
        if first <= bucket < running:
            buckets[bucket] = buckets.get(bucket, 0.0) + work
    return [
        (
            datetime.fromtimestamp(bucket * BUCKET, moment.tzinfo),
            buckets[bucket] * HASHES_PER_DIFFICULTY / BUCKET,
        )
        for bucket in sorted(buckets)
    ]


# workers.last_share may be an hour older than the truth while a worker is online.
_COUNTS: Final = """
select
    count(*) filter (where is_online) as workers,
    count(*) filter (where is_online and last_share < now() - interval '2 hours') as idle,
    count(*) filter (where not is_online and last_share > now() - interval '1 day')
        as disconnected,
    coalesce(sum(case when is_online and current_diff > 0
        then least(greatest(hashrate_5m, 0), 1e30) / bounded(current_diff) / 4294967296 else 0 end), 0)
        as shares_a_second
from workers
where is_online or last_share > now() - interval '1 day'
"""
_USERS: Final = f"""
select count(*) filter (where last_seen > now() - interval '1 day') as users,
    {", ".join(f"coalesce(sum({name}), 0) as {name}" for name in RATES)}
from (
    select u.last_seen, {rates_sql("u", "u.last_seen")}
    from users u where u.last_seen > now() - interval '1 day'
) u
"""  # noqa: S608  a constant
_AGENTS: Final = f"""
with agents as (
    select coalesce(w.user_agent, '') as user_agent, count(*) as workers,
        coalesce(sum({rate_sql("w", "hashrate_5m", "u.last_seen")}), 0) as hash_rate,
        coalesce(max(b.best_difficulty), 0) as best_difficulty,
        row_number() over (order by count(*) desc, coalesce(w.user_agent, '')) as place
    from workers w
    join users u on u.id = w.user_id
    left join weekly_best_diff b on b.best_worker_id = w.id and b.user_id = w.user_id
        and b.week_start = date_trunc('week', now() at time zone 'UTC')::date
    where w.is_online
    group by 1
)
select case when place > $1 then 'Other' else user_agent end as user_agent,
    sum(workers)::bigint as workers, sum(hash_rate) as hash_rate,
    max(best_difficulty) as best_difficulty
from agents
group by 1
order by 2 desc, 1
"""  # noqa: S608  a constant
_WEEK: Final = """
with days as (
    select sum(accepted)::bigint as accepted, sum(rejected)::bigint as rejected,
        sum(least(work, 1e290)) as work, (max(day) + 1)::timestamp at time zone 'UTC' as until
    from worker_stats_daily
    where day >= date_trunc('week', now() at time zone 'UTC')::date
),
hours as (
    select sum(h.accepted)::bigint as accepted, sum(h.rejected)::bigint as rejected,
        sum(least(h.work, 1e290)) as work, max(h.bucket) + interval '1 hour' as until
    from shares_hourly h, days d
    where h.bucket >= coalesce(d.until, date_trunc('week', now(), 'UTC')) and h.bucket <= now()
),
rest as (
    select count(*) filter (where is_valid) as accepted,
        count(*) filter (where not is_valid) as rejected,
        sum(difficulty) filter (where is_valid) as work
    from served_shares s, days d, hours h
    where s.time < now() + interval '1 day'
      and s.time >= coalesce(h.until, d.until, date_trunc('week', now(), 'UTC'))
)
select
    coalesce(d.accepted, 0) + coalesce(h.accepted, 0) + r.accepted as accepted,
    coalesce(d.rejected, 0) + coalesce(h.rejected, 0) + r.rejected as rejected,
    coalesce(d.work, 0) + coalesce(h.work, 0) + coalesce(r.work, 0) as work
from days d, hours h, rest r
"""
_LAST_BLOCK: Final = """
select found_at from blocks where status <> 'rejected' order by found_at desc limit 1
"""
_BLOCKS: Final = """
select coalesce(b.chain_height, b.block_height) as height, u.btc_address, w.worker_name,
    b.worker_id, b.block_hash, b.status, b.found_at
from blocks b
join users u on u.id = b.user_id
join workers w on w.id = b.worker_id
where b.status not in ('rejected', 'orphaned')
order by b.found_at desc, b.id desc
limit $1
"""
_FOUND: Final = """
select
    (
        select bounded(max(best_difficulty)) from weekly_best_diff
        where week_start = date_trunc('week', now() at time zone 'UTC')::date
    ) as best,
    (select count(*) from blocks where status not in ('rejected', 'orphaned')) as blocks
"""
_HIGH_SCORES: Final = """
with top as (
    select user_id, best_difficulty, best_share_time, best_worker_id
    from weekly_best_diff order by best_difficulty desc limit 1000
),
firsts as (
    select distinct on (user_id) * from top order by user_id, best_difficulty desc, best_share_time
)
select f.best_difficulty, f.best_share_time, coalesce(w.user_agent, '') as user_agent
from firsts f left join workers w on w.id = f.best_worker_id
order by f.best_difficulty desc, f.best_share_time
limit $1
"""
