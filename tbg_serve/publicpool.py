"""public-pool's dialect, ``/api``: what public-pool-ui, NerdMiner's display and integrations read.

The shapes are those of benjamin-wilson/public-pool, src/app.controller.ts and
src/controllers/client/client.controller.ts; docs/api.md has them beside each other. One worker
is one session: engines may hold several connections under one name.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
from fastapi import APIRouter, HTTPException, Response

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_core.periods import monday
from tbg_serve.answer import as_json, iso
from tbg_serve.database import Database, now
from tbg_serve.miners import Address, Miners, WorkerName
from tbg_serve.pool import Pool, chart
from tbg_serve.sums import Done, by_worker, recent

BLOCK_SECONDS: Final = 600
MOST_SHARES: Final = 100_000  # of a chart, newest first; what is older comes from the hours
DAY_HOURS: Final = 24
# public-pool's own name for a worker without one (AuthorizationMessage.ts): the pages of
# public-pool-ui are by name, and it has none for the empty one.
NAMELESS: Final = "worker"


def router(database: Database, pool: Pool) -> APIRouter:
    """The routes of the dialect."""
    routes = APIRouter(prefix="/api", tags=["public-pool"])
    miners = Miners(database)
    started = now()

    @routes.get("/pool")
    async def pool_info() -> Response:
        """The pool's hash rate (H/s), miners, height and blocks."""
        agents = await pool.agents.get()
        tip = await database.row(_TIP)
        return as_json(
            {
                "totalHashRate": sum(agent.hash_rate for agent in agents),
                "blockHeight": tip["height"] if tip else 0,
                "totalMiners": sum(agent.workers for agent in agents),
                "blocksFound": _blocks(await pool.blocks()),
                "fee": 0,
            }
        )

    @routes.get("/network")
    async def network() -> Response:
        """The network as our engines see it, in the words of the node's getmininginfo."""
        tip = await database.row(_TIP)
        difficulty = tip["network_difficulty"] if tip else 0
        return as_json(
            {
                "blocks": tip["height"] if tip else 0,
                "currentblockweight": 0,
                "currentblocktx": 0,
                "difficulty": difficulty,
                # What a block every ten minutes takes.
                "networkhashps": difficulty * HASHES_PER_DIFFICULTY / BLOCK_SECONDS,
                "pooledtx": 0,
                "chain": tip["chain"] if tip else "main",
                "warnings": "",
            }
        )

    @routes.get("/info")
    async def info() -> Response:
        """Blocks, user agents, and the best shares of all time."""
        agents = await pool.agents.get()
        return as_json(
            {
                "blockData": _blocks(await pool.blocks()),
                "userAgents": [
                    {
                        "userAgent": agent.user_agent,
                        "count": str(agent.workers),
                        "bestDifficulty": agent.best_difficulty,
                        "totalHashRate": _text(agent.hash_rate),
                    }
                    for agent in agents
                ],
                "highScores": [
                    {
                        "updatedAt": iso(row["best_share_time"]),
                        "bestDifficulty": _text(row["best_difficulty"]),
                        "bestDifficultyUserAgent": row["user_agent"],
                    }
                    for row in await pool.high_scores()
                ],
                "uptime": iso(started),
            }
        )

    @routes.get("/info/chart")
    async def info_chart() -> Response:
        """The pool's hash rate (H/s) in ten-minute buckets over 24 hours."""
        return _chart(await pool.chart())

    @routes.get("/client/{address}")
    async def client(address: Address) -> Response:
        """An address: its best share of all time, and its workers that are online."""
        user = await miners.find(address)
        if user is None:
            return as_json({"bestDifficulty": 0, "workersCount": 0, "workers": []})
        rows = await miners.workers(user["id"], online=True)
        done = await by_worker(database, user["id"])
        connected = await miners.connected(user, len(rows))
        ever = (await database.one(_BEST, user["id"]))["best"]
        # As its source: who has no best of all time yet has the best of the workers.
        best = max(ever or 0.0, *(one.sums.best or 0.0 for one in done.values()), 0.0)
        return as_json(
            {
                "bestDifficulty": _text(best) if best else 0,
                "workersCount": len(rows),
                "workers": [_session(row, done, connected) for row in rows],
            }
        )

    @routes.get("/client/{address}/chart")
    async def client_chart(address: Address) -> Response:
        """An address's hash rate (H/s) in ten-minute buckets over 24 hours."""
        user = await miners.find(address)
        return _chart(await _points(database, "user_id", user["id"]) if user else [])

    @routes.get("/client/{address}/{worker:text}")
    async def worker_or_session(address: Address, worker: WorkerName) -> Response:
        """A worker with its chart; with the id of its session after a slash, that session."""
        user = await miners.find(address)
        rows = await _of_name(miners, user, worker)
        name, _, session = worker.rpartition("/")
        row = rows[0] if rows else None
        if row is None and session:
            found = await _of_name(miners, user, name)
            row = next((one for one in found if _session_id(one["id"]) == session), None)
        if user is None or row is None:
            if worker.count("/"):
                raise HTTPException(404, "Not Found")
            # As its source: nobody of that name is an empty group.
            return as_json({"name": worker, "bestDifficulty": 0, "chartData": []})
        sums = await recent(database, "worker_id", row["id"])
        best = sums.since(monday(now().date())).best or 0.0
        points = await _points(database, "worker_id", row["id"])
        answer: dict[str, Any] = {
            "name": row["worker_name"] or NAMELESS,
            "bestDifficulty": int(best),
            "chartData": _labels(points),
        }
        if not rows:
            since = await miners.connected_at(user["btc_address"], row["worker_name"])
            answer |= {"sessionId": session, "startTime": iso(since or row["first_seen"])}
        return as_json(answer)

    return routes


async def _of_name(miners: Miners, user: asyncpg.Record | None, name: str) -> list[asyncpg.Record]:
    """The workers that have a name in this dialect: one, or two where one has none."""
    if user is None:
        return []
    names = [name, ""] if name == NAMELESS else [name]
    rows = [await miners.worker(user["id"], one) for one in names]
    return [row for row in rows if row is not None]


def _session_id(worker: int) -> str:
    """Eight hex digits, as public-pool's: the worker stands for its connections."""
    return f"{worker:08x}"


def _session(
    row: asyncpg.Record, done: dict[int, Done], connected: dict[str, datetime]
) -> dict[str, Any]:
    week = done.get(row["id"])
    since = connected.get(row["worker_name"], row["first_seen"])
    seen = max(
        (moment for moment in (row["last_share"], week and week.last_share) if moment),
        default=since,
    )
    return {
        "sessionId": _session_id(row["id"]),
        "name": row["worker_name"] or NAMELESS,
        "bestDifficulty": f"{(week.sums.best if week else None) or 0.0:.2f}",
        "hashRate": row["hashrate_5m"],
        "startTime": iso(since),
        "lastSeen": iso(seen),
    }


def _blocks(rows: Sequence[asyncpg.Record]) -> list[dict[str, Any]]:
    return [
        {
            "height": row["height"],
            "minerAddress": row["btc_address"],
            "worker": row["worker_name"] or NAMELESS,
            "sessionId": _session_id(row["worker_id"]),
        }
        for row in rows
    ]


def _text(number: float) -> str:
    """A number as text, without an exponent, which some readers stumble over."""
    if number >= 1e15:
        return f"{number:.0f}"
    return (f"{number:.12f}" if number < 1e-3 else repr(number)).removesuffix(".0")


def _labels(points: list[tuple[datetime, float]]) -> list[dict[str, Any]]:
    return [{"label": iso(moment), "data": rate} for moment, rate in points]


def _chart(points: list[tuple[datetime, float]]) -> Response:
    return as_json(_labels(points))


async def _points(
    database: Database, whose: Literal["user_id", "worker_id"], number: int
) -> list[tuple[datetime, float]]:
    """The chart of a user or a worker: from the shares, and before them from the hours."""
    rows = await database.fetch(_SHARES[whose], number, MOST_SHARES)
    works = [(float(row["bucket"]), row["work"]) for row in rows]
    if sum(row["shares"] for row in rows) >= MOST_SHARES:
        # The oldest bucket may have been read in part: it comes from its hour.
        oldest = min(works)[0]
        works.remove(min(works))
        hours = await database.fetch(_HOURS[whose], number, DAY_HOURS + 1)
        for row in hours:
            begin = row["bucket"].timestamp()
            works += [
                (begin + minute * 60, row["work"] / 6)
                for minute in range(0, 60, 10)
                if begin + minute * 60 <= oldest
            ]
    return chart(works)


_TIP: Final = """
select height, bounded(network_difficulty) as network_difficulty, coalesce(
    (
        select case when btc_address like 'bcrt1%' then 'regtest'
            when btc_address ~ '^(tb1|[mn2])' then 'signet' else 'main' end
        from users order by id desc limit 1
    ),
    'main'
) as chain
from network_blocks order by seen_at desc, height desc limit 1
"""
_BEST: Final = """
select bounded(max(best_difficulty)) as best from weekly_best_diff where user_id = $1
"""
# The time's own bounds keep a partition that begins later from being looked at.
_SHARES: Final = {
    whose: f"""
select floor(extract(epoch from time) / 600)::bigint * 600 as bucket, count(*) as shares,
    coalesce(sum(difficulty) filter (where is_valid), 0) as work
from (
    select time, difficulty, is_valid from served_shares
    where {whose} = $1 and time > now() - interval '24 hours 10 minutes'
      and time < now() + interval '1 day'
    order by time desc limit $2
) s
group by 1
having count(*) filter (where is_valid) > 0
"""  # noqa: S608  a constant
    for whose in ("user_id", "worker_id")
}
_HOURS: Final = {
    whose: f"""
select bucket, sum(least(work, 1e290)) as work
from shares_hourly
where {whose} = $1 and bucket = any(array(
    select date_trunc('hour', now(), 'UTC') - interval '1 hour' * back
    from generate_series(0, $2::integer) back
))
group by bucket
"""  # noqa: S608  a constant
    for whose in ("user_id", "worker_id")
}
