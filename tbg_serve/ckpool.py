"""ckpool's dialect: ``/pool/pool.status`` and ``/users/{address}``, as ckstats and others read.

The fields are those that ckpool writes into its log folder. Its `shares`, `accepted` and
`rejected` are sums of difficulty; here they are of the running week of the game, as is
`bestshare`; `bestever` is of all time.
"""

import json
import re
from datetime import datetime
from typing import Any, Final

import asyncpg
from fastapi import APIRouter, HTTPException, Response

from tbg_core.periods import monday
from tbg_serve.database import Database, now
from tbg_serve.miners import Address, Miners
from tbg_serve.pool import Pool
from tbg_serve.sums import Done, by_worker, rate_of_7d, recent

SUFFIXES: Final = "KMGTPE"
# ckpool names a user's file by its address: nothing else is a name of one of ours.
FILE_NAME: Final = re.compile(r"[A-Za-z0-9]{1,128}")
MOST_WORKERS: Final = 1000  # whose bests of all time are looked up; of more, the week's are given


def router(database: Database, pool: Pool) -> APIRouter:
    """The routes of the dialect."""
    routes = APIRouter(tags=["ckpool"])
    dialect = Dialect(database, pool)

    @routes.get("/pool/pool.status")
    async def pool_status() -> Response:
        """The pool: three JSON objects on three lines."""
        return Response(await dialect.pool_status(), media_type="text/plain")

    @routes.get("/users/{address}")
    async def user(address: Address) -> Response:
        """An address and its workers."""
        found = await dialect.user(address)
        if found is None:
            raise HTTPException(404, "no miner with this address was ever seen here")
        return Response(found, media_type="application/json")

    return routes


class Dialect:
    """Writes what ckpool would write."""

    def __init__(self, database: Database, pool: Pool) -> None:
        self._database = database
        self._pool = pool
        self._miners = Miners(database)
        self._started = now()

    async def pool_status(self) -> str:
        """The three lines of pool.status.

        Raises:
            Unavailable: the pool cannot be counted now.
        """
        pool = self._pool
        counts, week = await pool.counts.get(), await pool.week.get()
        difficulty = await self._miners.network_difficulty()
        best = (await pool.found())["best"] or 0.0
        moment = now()
        rates = counts.rates
        lines: list[dict[str, Any]] = [
            {
                "runtime": int((moment - self._started).total_seconds()),
                "lastupdate": int(moment.timestamp()),
                "Users": counts.users,
                "Workers": counts.workers,
                "Idle": counts.idle,
                "Disconnected": counts.disconnected,
            },
            {
                "hashrate1m": suffixed(rates["hashrate_1m"]),
                "hashrate5m": suffixed(rates["hashrate_5m"]),
                "hashrate15m": suffixed(await pool.rate_of(15)),
                "hashrate1hr": suffixed(rates["hashrate_1h"]),
                "hashrate6hr": suffixed(await pool.rate_of(360)),
                "hashrate1d": suffixed(rates["hashrate_24h"]),
                "hashrate7d": suffixed(await pool.rate_7d()),
            },
            {
                # Of the work that a block takes on average, in percent.
                "diff": round(100 * await self._round() / difficulty, 2) if difficulty else 0.0,
                "accepted": int(week["work"]),
                "rejected": _rejected(week["accepted"], week["rejected"], week["work"]),
                "bestshare": int(best),
                # One figure is measured: the pace of the last five minutes.
                "SPS1m": _sps(counts.shares_a_second),
                "SPS5m": _sps(counts.shares_a_second),
                "SPS15m": _sps(counts.shares_a_second),
                "SPS1h": _sps(counts.shares_a_second),
            },
        ]
        return "".join(json.dumps(line) + "\n" for line in lines)

    async def _round(self) -> float:
        _, work = await self._pool.round.get()
        return work

    async def user(self, address: str) -> str | None:
        """A user's file; None for an address that never mined here."""
        user = await self._miners.find(address)
        return None if user is None else await self.of(user)

    async def of(self, user: asyncpg.Record) -> str:
        """The file of a user's row."""
        number = user["id"]
        rows = await self._miners.workers(number, online=False)
        done = await by_worker(self._database, number)
        sums = await recent(self._database, "user_id", number)
        ever = (await self._database.one(_EVER, number))["best"] or 0.0
        bests: dict[int, float] = {}
        if len(rows) <= MOST_WORKERS:
            found = await self._database.fetch(_EVER_BY_WORKER, number)
            bests = {row["worker_id"]: row["best"] for row in found}
        week = sums.since(monday(now().date()))
        last = max(
            (row["last_share"] for row in rows if row["last_share"] is not None), default=None
        )
        return json.dumps(
            {
                **_rates(user),
                "hashrate7d": suffixed(rate_of_7d(sums.work)),
                "lastshare": _seconds(last, sums.until),
                "workers": sum(row["is_online"] for row in rows),
                "shares": int(week.work),
                "bestshare": week.best or 0.0,
                "bestever": int(max(ever, week.best or 0.0)),
                "authorised": int(user["created_at"].timestamp()),
                "worker": [
                    self._worker(user["btc_address"], row, done.get(row["id"]) or Done(), bests)
                    for row in rows
                ],
            },
            ensure_ascii=False,
        )

    def _worker(
        self, address: str, row: asyncpg.Record, done: Done, bests: dict[int, float]
    ) -> dict[str, Any]:
        name = row["worker_name"]
        best = done.sums.best or 0.0
        return {
            "workername": f"{address}.{name}" if name else address,
            **_rates(row),
            "hashrate7d": suffixed(rate_of_7d(done.work_7d)),
            "lastshare": _seconds(row["last_share"], done.last_share),
            "shares": int(done.sums.work),
            "bestshare": best,
            "bestever": int(max(bests.get(row["id"], 0.0), best)),
        }


def suffixed(rate: float) -> str:
    """A hash rate as ckpool has it: three significant digits and a suffix, ``1.48T``.

    Below a thousand it is a whole number without a suffix.
    """
    if rate < 1000:
        return str(int(rate))
    number, place = rate, -1
    # What would be written as 1000 is one of the next suffix.
    while number >= 999.5 and place < len(SUFFIXES) - 1:
        number /= 1000
        place += 1
    digits = f"{number:.3g}" if number < 999.5 else f"{number:.0f}"
    return f"{digits}{SUFFIXES[place]}"


def _rates(row: asyncpg.Record) -> dict[str, str]:
    return {
        "hashrate1m": suffixed(row["hashrate_1m"]),
        "hashrate5m": suffixed(row["hashrate_5m"]),
        "hashrate1hr": suffixed(row["hashrate_1h"]),
        "hashrate1d": suffixed(row["hashrate_24h"]),
    }


def _seconds(*moments: datetime | None) -> int:
    """The latest of some times, in seconds since the epoch; 0 for none."""
    return int(max((moment.timestamp() for moment in moments if moment), default=0))


def _sps(rate: float) -> float:
    return round(rate, 3)


def _rejected(accepted: int, rejected: int, work: float) -> int:
    """Rejected work: the rollups have numbers alone, so at the difficulty of the accepted."""
    return int(rejected * work / accepted) if accepted else rejected


_EVER: Final = """
select bounded(max(best_difficulty)) as best from weekly_best_diff where user_id = $1
"""
_EVER_BY_WORKER: Final = """
select w.id as worker_id, b.best
from workers w
cross join lateral (
    select bounded(max(d.best_share_diff)) as best from shares_daily d where d.worker_id = w.id
) b
where w.user_id = $1 and b.best is not null
"""
