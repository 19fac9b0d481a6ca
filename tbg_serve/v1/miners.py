"""Users and workers: hash rates, shares, rejects, bests, odds."""

import asyncio
from datetime import datetime
from typing import Annotated, Any, Final

import asyncpg
from fastapi import APIRouter, HTTPException, Query

from tbg_core.periods import midnight, monday
from tbg_serve.cursor import read, write
from tbg_serve.database import Database, now
from tbg_serve.miners import RATES, Address, Miners, WorkerName
from tbg_serve.miners import Odds as Chances
from tbg_serve.models import (
    Best,
    HashRates,
    Odds,
    Page,
    Proof,
    Sums,
    User,
    UserBests,
    UserHashRates,
    Worker,
    WorkerBests,
    WorkerLine,
)
from tbg_serve.sums import Recent, rate_of_7d, recent

Cursor = Annotated[
    str | None, Query(max_length=2000, description="`next_cursor` of the page before")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="most items of the page")]
MOST_REJECTS: Final = 100_000  # of the shares that are looked through for reasons


def router(database: Database) -> APIRouter:
    """The routes about miners."""
    routes = APIRouter(prefix="/v1/users", tags=["miners"])
    miners = Miners(database)

    @routes.get("/{address}")
    async def user(address: Address) -> User:
        """A miner's address: everything over all of its workers."""
        row = await miners.user(address)
        number = row["id"]
        sums, workers, bests, difficulty = await asyncio.gather(
            recent(database, "user_id", number),
            database.one(_WORKERS, number),
            database.row(_USER_BESTS, number),
            miners.network_difficulty(),
        )
        return User(
            user=row["btc_address"],
            first_seen=row["created_at"],
            last_seen=row["last_seen"],
            workers=workers["workers"],
            workers_online=workers["online"],
            hash_rates=UserHashRates(**_rates(row), last_7d=rate_of_7d(sums.work)),
            week=_week(sums),
            bests=_user_bests(bests),
            odds=Odds(**Chances(row["hashrate_24h"], difficulty).fields()),
        )

    @routes.get("/{address}/workers")
    async def workers(
        address: Address, cursor: Cursor = None, limit: Limit = 100
    ) -> Page[WorkerLine]:
        """A miner's workers, by name."""
        row = await miners.user(address)
        rows = await miners.page(row["id"], read(cursor, str), limit + 1)
        return Page[WorkerLine](
            items=[WorkerLine(**_line(one)) for one in rows[:limit]],
            next_cursor=write(rows[limit - 1]["worker_name"]) if len(rows) > limit else None,
        )

    @routes.get("/{address}/workers/{worker:text}")
    async def one_worker(address: Address, worker: WorkerName) -> Worker:
        """One worker; its name may hold slashes, and may be empty."""
        owner = await miners.user(address)
        row = await miners.worker(owner["id"], worker)
        if row is None:
            raise HTTPException(404, "no worker of this name was ever seen at this address")
        number = row["id"]
        sums, connected_at, reasons, difficulty = await asyncio.gather(
            recent(database, "worker_id", number),
            miners.connected_at(owner["btc_address"], worker),
            database.fetch(_REASONS, number, midnight(monday(now().date())), MOST_REJECTS),
            miners.network_difficulty(),
        )
        bests, best_hash = await _worker_bests(database, number, connected_at)
        return Worker(
            user=owner["btc_address"],
            **_line(row),
            connected_at=connected_at,
            last_7d=rate_of_7d(sums.work),
            week=_week(sums),
            rejects_by_reason={one["reason"]: one["shares"] for one in reasons},
            bests=bests,
            proof=await proof_of(database, best_hash),
            odds=Odds(**Chances(row["hashrate_24h"], difficulty).fields()),
        )

    return routes


def _rates(row: asyncpg.Record) -> dict[str, float]:
    return {f"last_{name.removeprefix('hashrate_')}": row[name] for name in RATES}


def _week(sums: Recent) -> Sums:
    first = monday(now().date())
    day = sums.since(first)
    return Sums(
        since=midnight(first),
        counted_until=sums.until,
        accepted=day.accepted,
        rejected=day.rejected,
        work=day.work,
    )


def _line(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "worker": row["worker_name"],
        "online": row["is_online"],
        "first_seen": row["first_seen"],
        "last_share": row["last_share"],
        "user_agent": row["user_agent"],
        "assigned_difficulty": row["current_diff"],
        "hash_rates": HashRates(**_rates(row)),
    }


def _user_bests(row: asyncpg.Record | None) -> UserBests:
    if row is None:
        return UserBests(session=None, week=None, alltime=None)

    def best(name: str, since: datetime | None) -> Best | None:
        if row[f"{name}_best"] is None:
            return None
        return Best(
            since=since,
            difficulty=row[f"{name}_best"],
            found_at=row[f"{name}_at"],
            share_hash=row[f"{name}_hash"],
            chance=None,
        )

    return UserBests(
        session=best("session", row["session_since"]),
        week=best("week", midnight(monday(now().date()))),
        alltime=best("alltime", None),
    )


async def _worker_bests(
    database: Database, worker: int, connected: datetime | None
) -> tuple[WorkerBests, bytes | None]:
    """The bests of every period, and the hash of the best of all time."""
    last = await database.row(_LAST_BLOCK)
    today = now().date()
    periods: dict[str, datetime | None] = {
        "session": connected,
        "week": midnight(monday(today)),
        "month": midnight(today.replace(day=1)),
        "round": last["found_at"] if last else None,
        "alltime": None,
    }
    known = {period: since for period, since in periods.items() if since or period == "alltime"}
    rows = await database.fetch(_WORKER_BESTS, worker, list(known), list(known.values()))
    found: dict[str, Best | None] = dict.fromkeys(periods)
    best_hash: bytes | None = None
    for row in rows:
        found[row["period"]] = Best(
            since=periods[row["period"]],
            difficulty=row["best_difficulty"],
            found_at=row["found_at"],
            share_hash=row["share_hash"].hex() if row["share_hash"] else None,
            chance=row["chance"],
        )
        if row["period"] == "alltime":
            best_hash = row["share_hash"]
    return WorkerBests(**found), best_hash


async def proof_of(database: Database, share_hash: bytes | None) -> Proof | None:
    """The proof of a share, None where none is stored."""
    if share_hash is None:
        return None
    row = await database.row(_PROOF, share_hash)
    if row is None:
        return None
    branch = row["branch"]
    return Proof(
        share_hash=share_hash.hex(),
        difficulty=row["difficulty"],
        found_at=row["found_at"],
        header=row["header"].hex(),
        coinbase=row["coinbase"].hex(),
        branch=[branch[at : at + 32].hex() for at in range(0, len(branch), 32)],
    )


_WORKERS: Final = """
select count(*) as workers, count(*) filter (where is_online) as online
from workers where user_id = $1
"""
_USER_BESTS: Final = """
select
    b.session_since, bounded(b.session_best) as session_best, null::timestamptz as session_at,
    null as session_hash,
    bounded(b.week_best) as week_best, b.week_best_at as week_at,
    encode(w.best_share_hash, 'hex') as week_hash,
    bounded(b.alltime_best) as alltime_best, b.alltime_best_at as alltime_at,
    encode(a.best_share_hash, 'hex') as alltime_hash
from user_bests b
left join weekly_best_diff w on w.user_id = b.user_id and w.week_start = b.week_start
left join weekly_best_diff a on a.user_id = b.user_id and a.week_start = b.alltime_week
where b.user_id = $1
"""
# Closed days as the batch side counted them, then the shares.
_REASONS: Final = """
with days as (
    select day, rejects_by_reason from worker_stats_daily
    where worker_id = $1 and day = any(array(
        select generate_series($2::timestamptz at time zone 'UTC', now() at time zone 'UTC', '1 day')::date
    ))
),
reasons as (
    select reason, shares::bigint as shares
    from days, jsonb_each_text(rejects_by_reason) as reasons (reason, shares)
    union all
    select coalesce(reject_reason, ''), count(*)
    from (
        select reject_reason, is_valid from served_shares
        where worker_id = $1 and time < now() + interval '1 day' and time >= coalesce(
            (select (max(day) + 1)::timestamp at time zone 'UTC' from days), $2::timestamptz
        )
        order by time desc limit $3
    ) s
    where not is_valid
    group by 1
)
select reason, sum(shares)::bigint as shares from reasons group by 1 order by 2 desc, 1 limit 100
"""
_LAST_BLOCK: Final = "select max(found_at) as found_at from blocks where status <> 'rejected'"
_WORKER_BESTS: Final = """
select p.period, bounded(b.best_difficulty) as best_difficulty, b.found_at, b.share_hash,
    case when b.work > 0 then chance_of(b.best_difficulty, b.work) end as chance
from unnest($2::text[], $3::timestamptz[]) as p (period, since)
cross join lateral served_worker_bests($1, coalesce(p.since, '2009-01-03Z')) b
where b.best_difficulty is not null
"""
_PROOF: Final = """
select bounded(difficulty) as difficulty, found_at, header, coinbase, branch
from share_proofs where share_hash = $1
"""
