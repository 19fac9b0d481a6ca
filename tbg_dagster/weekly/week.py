"""One closed week: its result, and the news of it."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import dagster as dg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from ingest.names import WEEKLY_RESET_STREAM, leaderboard_key
from tbg_dagster.outbox import micros, post
from tbg_dagster.partitions import WEEK, midnight
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection

TOP: Final = 10


@dataclass(frozen=True)
class Finalised:
    """What finalising a week came to.

    Attributes:
        users: with a valid share in the week.
        shares: valid shares of all users.
        changed: rows that were written or removed; 0 when the result stood already.
        left_out: valid shares of hours in which an engine's clock was wrong.
    """

    users: int
    shares: int
    changed: int
    left_out: int


def bounds(week: date) -> tuple[datetime, datetime]:
    """Monday 00:00 UTC of the week, and of the next."""
    return midnight(week), midnight(week) + WEEK


def finalise(connection: Connection, week: date) -> Finalised:
    """Writes the result of the week that starts on ``week``, from its raw valid shares.

    Safe to repeat: what stands is left alone, ``finalized_at`` included.

    Raises:
        dagster.Failure: when raw shares of the week have been dropped already, so
            that computing it again would destroy the result.
    """
    start, end = bounds(week)
    span = {"start": start, "end": end, "week": week}
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"tbg week {week}"])
        evidence = connection.execute(query(__package__, "evidence.sql"), span).fetchone()
        assert evidence is not None
        if evidence["raw"] < evidence["known"]:
            raise dg.Failure(
                f"week {week} has {evidence['raw']} raw shares, and its days count "
                f"{evidence['known']}: retention has dropped some, or the days are stale. "
                "The result stands; nothing was changed."
            )
        row = connection.execute(query(__package__, "finalise.sql"), span).fetchone()
        skewed = connection.execute(query(__package__, "left_out.sql"), span).fetchone()
        assert row is not None
        assert skewed is not None
    changed = row["written"] + row["removed"]
    return Finalised(row["users"], row["shares"], changed, skewed["shares"])


def ranking(connection: Connection, week: date) -> list[DictRow]:
    """The finalised result, best first.

    Raises:
        dagster.Failure: when the week has provisional rows only.
    """
    rows = connection.execute(query(__package__, "ranking.sql"), [week]).fetchall()
    if not rows:
        provisional = connection.execute(
            "select count(*) as rows from weekly_best_diff where week_start = %s", [week]
        ).fetchone()
        assert provisional is not None
        if provisional["rows"]:
            raise dg.Failure(f"week {week} is not finalised: materialise weekly_best_diff first")
    return rows


def result_of(week: date, rows: list[DictRow]) -> dict[str, Any]:
    """What the world is told of a week. The same ranking always gives the same result."""
    year, number, _ = week.isocalendar()
    top = [
        {
            "rank": row["rank"],
            "user": row["user"],
            "worker": row["worker"],
            "best_difficulty": row["best_difficulty"],
            "best_share_time": micros(row["best_share_time"]),
            "best_share_hash": row["best_share_hash"],
        }
        for row in rows[:TOP]
    ]
    return {
        "week": f"{year}-W{number:02d}",
        "week_start": week.isoformat(),
        "entrants": len(rows),
        "winner": top[0] if top else None,
        "top": top,
    }


def announce(connection: Connection, week: date, result: dict[str, Any]) -> str:
    """Writes the news of a week into the outbox: ``result``, ``correction`` or ``unchanged``.

    Safe to repeat: what was told before is not told again.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"tbg week {week}"])
        told = connection.execute(
            "select revision, result from weekly_publications where week_start = %s "
            "order by revision desc limit 1",
            [week],
        ).fetchone()
        # Through JSON, as the one in the database went.
        if told is not None and told["result"] == json.loads(json.dumps(result)):
            return "unchanged"
        revision = told["revision"] + 1 if told else 1
        kind = "correction" if told else "result"
        connection.execute(
            "insert into weekly_publications (week_start, revision, result) values (%s, %s, %s)",
            [week, revision, Jsonb(result)],
        )
        post(
            connection,
            WEEKLY_RESET_STREAM,
            f"weekly_reset:{week}:{revision}",
            {"kind": kind, "revision": revision, **result},
        )
    return kind


def freeze(client: Any, week: date, rows: list[DictRow], keep_until: datetime) -> None:
    """Makes the week's sorted set in Redis equal to the result, and lets it expire.

    One transaction: nobody sees it empty. A past ``keep_until`` removes it.
    """
    key = leaderboard_key(week)
    with client.pipeline(transaction=True) as pipe:
        pipe.delete(key)
        if rows:
            pipe.zadd(key, {row["user"]: row["best_difficulty"] for row in rows})
            pipe.expireat(key, keep_until)
        pipe.execute()
