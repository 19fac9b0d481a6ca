"""The weekly game: the running week, the closed ones, a user's place."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final

import asyncpg
import msgspec
from fastapi import APIRouter, HTTPException, Path

from tbg_core.names import leaderboard_key
from tbg_core.periods import midnight, monday, monday_of
from tbg_serve import cursor
from tbg_serve.database import Database, now
from tbg_serve.miners import Address, Miners
from tbg_serve.models import ClosedWeek, Page, Place, Week
from tbg_serve.primary import AWAY, Primary
from tbg_serve.v1.miners import Cursor, Limit

CURRENT: Final = "current"
Name = Annotated[
    str, Path(pattern=r"^(\d{4}-W\d{2}|current)$", description="as 2026-W49, or `current`")
]


class Position(msgspec.Struct, array_like=True):
    """Where a page of a standing ends."""

    week: date
    best: float
    time: datetime
    user: int
    rank: int


def router(database: Database, primary: Primary) -> APIRouter:
    """The routes about weeks."""
    routes = APIRouter(prefix="/v1", tags=["game"])
    miners = Miners(database)

    @routes.get("/week")
    async def running_week(cursor: Cursor = None, limit: Limit = 100) -> Week:
        """The running week and its standing, best share first."""
        return await standing(database, None, cursor, limit)

    @routes.get("/weeks")
    async def closed_weeks(cursor: Cursor = None, limit: Limit = 52) -> Page[ClosedWeek]:
        """The weeks whose results were published, newest first."""
        return await published(database, cursor, limit)

    @routes.get("/weeks/{week}")
    async def one_week(week: Name, cursor: Cursor = None, limit: Limit = 100) -> Week:
        """A week and its standing, best share first."""
        return await standing(database, None if week == CURRENT else start_of(week), cursor, limit)

    @routes.get("/weeks/{week}/users/{address}")
    async def place(week: Name, address: Address) -> Place:
        """A user's place in a week."""
        user = await miners.user(address)
        start = start_of(week)
        row = await database.row(_PLACE, start, user["id"])
        if row is None:
            raise HTTPException(404, "this miner has no share in this week")
        rank = row["rank"] or await _rank(database, primary, start, row["best_difficulty"])
        return _place(row, rank)

    return routes


def start_of(week: str) -> date:
    """The Monday of an ISO week's name.

    Raises:
        HTTPException: 404, there is no such week.
    """
    if week == CURRENT:
        return monday(now().date())
    try:
        return monday_of(week)
    except ValueError:
        raise HTTPException(404, "there is no such week") from None


async def _rank(database: Database, primary: Primary, week: date, best: float) -> int:
    """One more than the users who are better: from the leaderboard, or counted."""
    client = None
    try:
        client = await primary.client()
        better = int(await client.zcount(leaderboard_key(week), f"({best!r}", "+inf"))
        if better or await client.exists(leaderboard_key(week)):
            return better + 1
    except AWAY:
        await primary.lose(client)  # the table says the same, and takes longer
    return int((await database.one(_BETTER, week, best))["users"]) + 1


async def standing(database: Database, week: date | None, text: str | None, limit: int) -> Week:
    """A page of a week's standing.

    Args:
        week: its Monday; the running one if None. Who pages through that one while it ends
            stays in it.
        text: the cursor.
        limit: most places of the page.
    """
    after = cursor.read(text, Position)
    if after is not None and week not in (None, after.week):
        raise HTTPException(422, "cursor: it is of another week")
    start = after.week if after else week or monday(now().date())
    values = (after.best, after.time, after.user) if after else (None, None, None)
    rows = await database.fetch(_STANDING, start, *values, limit + 1)
    rank = after.rank if after else 0
    places = [
        _place(row, row["rank"] or rank + number) for number, row in enumerate(rows[:limit], 1)
    ]
    last = rows[limit - 1] if len(rows) > limit else None
    position = last and Position(
        start, last["best_difficulty"], last["best_share_time"], last["user_id"], places[-1].rank
    )
    final = bool(rows) and rows[0]["finalized_at"] is not None
    return Week(
        week=f"{start:%G-W%V}",
        week_start=start,
        ends_at=midnight(start + timedelta(days=7))
        if start < date(9999, 12, 20)
        else midnight(date.max),
        final=final,
        items=places,
        next_cursor=cursor.write(position) if position else None,
    )


def _place(row: asyncpg.Record, rank: int) -> Place:
    return Place(
        rank=rank,
        user=row["btc_address"],
        worker=row["worker_name"],
        best_difficulty=row["best_difficulty"],
        best_share_time=row["best_share_time"],
        best_share_hash=row["best_share_hash"],
        final=row["finalized_at"] is not None,
        total_shares=row["total_shares"],
        total_work=row["total_work"],
    )


async def published(database: Database, text: str | None, limit: int) -> Page[ClosedWeek]:
    """A page of the weeks with a result."""
    before = cursor.read(text, date)
    rows = await database.fetch(_PUBLISHED, before, limit + 1)
    weeks = []
    for row in rows[:limit]:
        result: dict[str, Any] = msgspec.json.decode(row["result"])
        winner = result.get("winner") or {}
        weeks.append(
            ClosedWeek(
                week=result["week"],
                week_start=row["week_start"],
                revision=row["revision"],
                published_at=row["published_at"],
                entrants=result["entrants"],
                winner=winner.get("user"),
                winner_worker=winner.get("worker"),
                winner_difficulty=winner.get("best_difficulty"),
            )
        )
    more = len(rows) > limit
    return Page[ClosedWeek](
        items=weeks, next_cursor=cursor.write(rows[limit - 1]["week_start"]) if more else None
    )


_COLUMNS: Final = """
    w.user_id, u.btc_address, k.worker_name, w.best_difficulty, w.best_share_time,
    encode(w.best_share_hash, 'hex') as best_share_hash, w.rank, w.finalized_at,
    case when w.finalized_at is not null then w.total_shares end as total_shares,
    case when w.finalized_at is not null then w.total_work end as total_work
"""
_FROM: Final = """
from weekly_best_diff w
join users u on u.id = w.user_id
left join workers k on k.id = w.best_worker_id
"""
_STANDING: Final = f"""
select {_COLUMNS} {_FROM}
where w.week_start = $1 and ($2::float8 is null or w.best_difficulty <= $2)
  and ($2::float8 is null or w.best_difficulty < $2 or w.best_share_time > $3
    or (w.best_share_time = $3 and w.user_id > $4::integer))
order by w.best_difficulty desc, w.best_share_time, w.user_id
limit $5
"""
_PLACE: Final = f"select {_COLUMNS} {_FROM} where w.week_start = $1 and w.user_id = $2"
_BETTER: Final = """
select count(*) as users from weekly_best_diff where week_start = $1 and best_difficulty > $2
"""
_PUBLISHED: Final = """
select distinct on (week_start) week_start, revision, result, published_at
from weekly_publications
where $1::date is null or week_start < $1
order by week_start desc, revision desc
limit $2
"""
