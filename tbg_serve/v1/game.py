"""Blocks with their lifecycle, odds and luck, series of hours, the ledger's sums, proofs."""

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import asyncpg
import msgspec
from fastapi import APIRouter, HTTPException, Path, Query

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_serve import cursor
from tbg_serve.database import Database, now
from tbg_serve.miners import NO_NUL, Miners, spellings
from tbg_serve.miners import Odds as Chances
from tbg_serve.models import (
    Block,
    Hour,
    Ledger,
    LedgerSums,
    OpenHours,
    Page,
    PoolOdds,
    Proof,
    Round,
)
from tbg_serve.pool import Pool
from tbg_serve.series import HOUR_SLOTS
from tbg_serve.sums import hours_between
from tbg_serve.unavailable import Unavailable
from tbg_serve.v1.miners import Cursor, Limit, proof_of

Status = Literal["found", "accepted", "confirmed", "orphaned", "rejected"]
Hash = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="hex, as block explorers have it")]
MOST_HOURS: Final = 168
Hours = Annotated[int, Query(ge=1, le=MOST_HOURS, description="so many hours, newest last")]
Before = Annotated[
    datetime | None,
    Query(description="end of the series, ISO 8601, UTC unless it says more; now if left out"),
]


class BlockPosition(msgspec.Struct, array_like=True):
    """Where a page of blocks ends."""

    time: datetime
    id: int


def router(database: Database, pool: Pool) -> APIRouter:
    """The routes about the pool."""
    routes = APIRouter(prefix="/v1", tags=["pool"])
    miners = Miners(database)

    @routes.get("/blocks")
    async def blocks(
        status: Annotated[Status | None, Query(description="of this status alone")] = None,
        user: Annotated[
            str | None, Query(max_length=256, pattern=NO_NUL, description="of this address alone")
        ] = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> Page[Block]:
        """The pool's blocks, newest first, and what became of each."""
        return await page_of_blocks(database, status, user, cursor, limit)

    @routes.get("/blocks/{block_hash}")
    async def block(block_hash: Hash) -> Block:
        """One block."""
        row = await database.row(_BLOCK, block_hash)
        if row is None:
            raise HTTPException(404, "the pool found no block of this hash")
        return _block(row)

    @routes.get("/odds")
    async def odds() -> PoolOdds:
        """How likely the pool's next block is, and its luck so far."""
        counts = await pool.counts.get()
        difficulty = await miners.network_difficulty()
        chances = Chances(counts.rates["hashrate_24h"], difficulty)
        try:
            since, work = await pool.round.get()
        except Unavailable:
            return PoolOdds(**chances.fields(), round=None)
        luck = difficulty / work if difficulty and work else None
        return PoolOdds(**chances.fields(), round=Round(since=since, work=work, luck=luck))

    @routes.get("/hours")
    async def hours(
        user: Annotated[
            str | None, Query(max_length=256, pattern=NO_NUL, description="of this address alone")
        ] = None,
        worker: Annotated[
            str | None, Query(max_length=256, pattern=NO_NUL, description="of its worker alone")
        ] = None,
        hours: Hours = 24,
        before: Before = None,
    ) -> list[Hour]:
        """Shares by the hour, for a chart: of the pool, a user, or a worker.

        Hours without a share are left out. The running hour is the last one. An hour that is
        not counted yet is counted from its shares.
        """
        if worker is not None and user is None:
            raise HTTPException(422, "worker: needs user")
        last = _hour(before)
        span = hours_between(last - timedelta(hours=hours - 1), last)
        if user is None:
            return await _pool_hours(database, pool, span)
        owner = await miners.user(user)
        if worker is None:
            return await _miner_hours(database, "user_id", owner["id"], span)
        row = await miners.worker(owner["id"], worker)
        if row is None:
            raise HTTPException(404, "no worker of this name was ever seen at this address")
        return await _miner_hours(database, "worker_id", row["id"], span)

    @routes.get("/ledger")
    async def ledger(hours: Annotated[int, Query(ge=1, le=8784)] = 24) -> Ledger:
        """What became of every event of the last hours: the sums of the share ledger."""
        since = _hour(None) - timedelta(hours=hours)
        closed, still_open = await database.together((_LEDGER, [since]), (_OPEN, [since]))
        return Ledger(
            closed=LedgerSums(since=since, **dict(closed[0])), open=OpenHours(**dict(still_open[0]))
        )

    @routes.get("/proofs/{share_hash}")
    async def proof(share_hash: Hash) -> Proof:
        """What proves a best share or a block."""
        found = await proof_of(database, bytes.fromhex(share_hash))
        if found is None:
            raise HTTPException(404, "no proof of a share of this hash is stored")
        return found

    return routes


def _hour(moment: datetime | None) -> datetime:
    """The beginning of the hour of a moment.

    Raises:
        HTTPException: 422, the moment is not of our time.
    """
    found = moment or now()
    if not 2009 <= found.year <= 2200:
        raise HTTPException(422, "before: must lie between 2009 and 2200")
    if found.tzinfo is None:
        found = found.replace(tzinfo=now().tzinfo)
    return found.astimezone(now().tzinfo).replace(minute=0, second=0, microsecond=0)


async def page_of_blocks(
    database: Database, status: Status | None, user: str | None, text: str | None, limit: int
) -> Page[Block]:
    """A page of the pool's blocks."""
    after = cursor.read(text, BlockPosition)
    time, number = (after.time, after.id) if after else (None, None)
    users = None if user is None else spellings(user)
    rows = await database.fetch(_BLOCKS, status, users, time, number, limit + 1)
    last = rows[limit - 1] if len(rows) > limit else None
    return Page[Block](
        items=[_block(row) for row in rows[:limit]],
        next_cursor=cursor.write(BlockPosition(last["found_at"], last["id"])) if last else None,
    )


def _block(row: asyncpg.Record) -> Block:
    return Block(**{name: row[name] for name in Block.model_fields})


def _one_hour(row: asyncpg.Record) -> Hour:
    return Hour(
        hour=row["bucket"],
        accepted=row["accepted"],
        rejected=row["rejected"],
        work=row["work"],
        hash_rate=row["work"] * HASHES_PER_DIFFICULTY / 3600,
        best_difficulty=row["best"],
    )


async def _miner_hours(
    database: Database, whose: Literal["user_id", "worker_id"], number: int, span: list[datetime]
) -> list[Hour]:
    rows = await database.fetch(_HOURS[whose], number, span)
    found = {row["bucket"]: _one_hour(row) for row in rows}
    last = max((row["until"] for row in rows), default=None)
    rest = await database.fetch(
        _SHARES[whose],
        number,
        span[0] if last is None else max(last + timedelta(microseconds=1), span[0]),
        span[-1] + timedelta(hours=1),
        MOST_SHARES,
    )
    for row in rest:
        hour = _one_hour(row)
        before = found.get(hour.hour)
        found[hour.hour] = hour if before is None else _joined(before, hour)
    return [found[hour] for hour in sorted(found)]


def _joined(one: Hour, other: Hour) -> Hour:
    bests = [hour.best_difficulty for hour in (one, other) if hour.best_difficulty is not None]
    return Hour(
        hour=one.hour,
        accepted=one.accepted + other.accepted,
        rejected=one.rejected + other.rejected,
        work=one.work + other.work,
        hash_rate=one.hash_rate + other.hash_rate,
        best_difficulty=max(bests, default=None),
    )


async def _pool_hours(database: Database, pool: Pool, span: list[datetime]) -> list[Hour]:
    rows = await database.fetch(_POOL_HOURS, span)
    found = {row["bucket"]: _one_hour(row) for row in rows}
    counted = set(found)
    for slot, sums in (await pool.slots.get()).items():
        hour = datetime.fromtimestamp(slot // HOUR_SLOTS * 3600, span[0].tzinfo)
        if span[0] <= hour <= span[-1] and hour not in counted:
            more = Hour(
                hour=hour,
                accepted=sums.accepted,
                rejected=sums.rejected,
                work=sums.work,
                hash_rate=sums.work * HASHES_PER_DIFFICULTY / 3600,
                best_difficulty=sums.best,
            )
            found[hour] = _joined(found[hour], more) if hour in found else more
    return [found[hour] for hour in sorted(found)]


MOST_SHARES: Final = 100_000  # of hours that are not counted yet, newest first

_COLUMNS: Final = """
    coalesce(b.chain_height, b.block_height) as height, b.block_hash as hash, b.prev_hash,
    b.status, b.confirmations, b.found_at, b.confirmed_at, u.btc_address as user,
    k.worker_name as worker, bounded(b.difficulty) as difficulty,
    bounded(b.network_difficulty) as network_difficulty, b.reward_sats, b.fees_sats,
    b.coinbase_sig, b.id
"""
_FROM: Final = """
from blocks b
join users u on u.id = b.user_id
join workers k on k.id = b.worker_id
"""
_BLOCK: Final = f"select {_COLUMNS} {_FROM} where b.block_hash = $1"
_BLOCKS: Final = f"""
select {_COLUMNS} {_FROM}
where ($1::text is null or b.status = $1) and ($2::text[] is null or u.btc_address = any($2))
  and ($3::timestamptz is null or (b.found_at, b.id) < ($3, $4::integer))
order by b.found_at desc, b.id desc
limit $5
"""
_HOURS: Final = {
    whose: f"""
select bucket, sum(accepted)::bigint as accepted, sum(rejected)::bigint as rejected,
    sum(least(work, 1e290)) as work, bounded(max(best_share_diff)) as best, max(last_share) as until
from shares_hourly where {whose} = $1 and bucket = any($2::timestamptz[]) group by bucket
"""  # noqa: S608  a constant
    for whose in ("user_id", "worker_id")
}
_SHARES: Final = {
    whose: f"""
select date_bin('1 hour', time, '2000-01-01Z') as bucket,
    count(*) filter (where is_valid) as accepted,
    count(*) filter (where not is_valid) as rejected,
    coalesce(sum(difficulty) filter (where is_valid), 0) as work,
    bounded(max(share_diff) filter (where is_valid)) as best
from (
    select time, is_valid, difficulty, share_diff from served_shares
    where {whose} = $1 and time >= $2 and time < $3 order by time desc limit $4
) s
group by 1
"""  # noqa: S608  a constant
    for whose in ("user_id", "worker_id")
}
_POOL_HOURS: Final = """
select bucket, sum(accepted)::bigint as accepted, sum(rejected)::bigint as rejected,
    sum(least(work, 1e290)) as work, bounded(max(best_share_diff)) as best
from shares_hourly where bucket = any($1::timestamptz[]) group by bucket
"""
_LEDGER: Final = """
select count(distinct hour) as hours, count(distinct instance_id) as engines,
    coalesce(sum(emitted), 0)::bigint as emitted,
    coalesce(sum(received), 0)::bigint as received,
    coalesce(sum(published), 0)::bigint as published,
    coalesce(sum(committed), 0)::bigint as committed,
    coalesce(sum(dead_lettered), 0)::bigint as dead_lettered,
    coalesce(sum(duplicates), 0)::bigint as duplicates,
    coalesce(sum(dropped), 0)::bigint as dropped,
    coalesce(sum(missing), 0)::bigint as missing,
    coalesce(sum(unexplained), 0)::bigint as unexplained
from share_ledger where hour >= $1
"""
_OPEN: Final = """
select coalesce(sum(received), 0)::bigint as received,
    coalesce(sum(committed), 0)::bigint as committed,
    coalesce(sum(dead_lettered), 0)::bigint as dead_lettered,
    coalesce(sum(duplicates), 0)::bigint as duplicates
from ledger l
where hour >= $1 and not exists (
    select from share_ledger s where s.hour = l.hour and s.instance_id = l.instance_id
)
"""
