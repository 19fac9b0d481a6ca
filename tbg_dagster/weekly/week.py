"""One closed week: its result, and the news of it."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

import dagster as dg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tbg_core.messages import WeeklyReset
from tbg_core.names import WEEKLY_RESET_STREAM, leaderboard_key
from tbg_core.outbox import micros, post
from tbg_core.periods import midnight
from tbg_dagster.partitions import DAY, HOUR, WEEK
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import Span, is_whole, recompute

TOP: Final = 10
# Of a result: what is said beside the places.
BESIDE: Final = frozenset({"proven", "released", "complete", "waiting", "roots"})
# Members of one ZADD: Redis does nothing else meanwhile, and its queries are bounded.
AT_ONCE: Final = 1000
BESIDE_SECONDS: Final = 600


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


def days_of(week: date) -> list[date]:
    """The seven days of the week."""
    return [week + number * DAY for number in range(7)]


def finalise(connection: Connection, week: date) -> Finalised:
    """Writes the result of the week that starts on ``week``, from its hours.

    Hours that are not proven to count what the raw shares count are rebuilt first, outside
    a transaction. Safe to repeat: what stands is left alone, ``finalized_at`` included.

    Raises:
        dagster.Failure: when raw shares of the week have been dropped already, so that the
            best shares cannot be looked up, or an hour names a best that no share has.
    """
    start, end = bounds(week)
    span = {"start": start, "end": end, "week": week}
    if gone := dropped_days(connection, week):
        raise dg.Failure(
            f"week {week}: the raw shares of {', '.join(map(str, gone))} have been dropped. "
            "The result stands; nothing was changed.",
            allow_retries=False,
        )
    for first, last in stale_spans(connection, week):
        recompute(connection, first, last)
    with connection.transaction():
        lock(connection, week)
        row = connection.execute(query(__package__, "finalise.sql"), span).fetchone()
        skewed = connection.execute(query(__package__, "left_out.sql"), span).fetchone()
        assert row is not None
        assert skewed is not None
        if row["not_found"]:
            raise dg.Failure(
                f"week {week}: no raw share has the best difficulty that shares_hourly names, "
                f"for {row['not_found']} users. The result stands; materialise the week's hours "
                "of shares_hourly again.",
                allow_retries=False,
            )
    changed = row["written"] + row["removed"]
    return Finalised(row["users"], row["shares"], changed, skewed["shares"])


def lock(connection: Connection, week: date) -> None:
    """Until the transaction ends, nobody else finalises or publishes the week."""
    connection.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"tbg week {week}"])


def dropped_days(connection: Connection, week: date) -> list[date]:
    """The days of the week whose hours count raw shares that are gone."""
    return [day for day in days_of(week) if not is_whole(connection, day)]


def stale_spans(connection: Connection, week: date) -> list[Span]:
    """Hours of the week that do not count what the raw shares count, neighbours together.

    The daily statistics have counted the raw shares of their day once. Only those of a day
    that has none, or other numbers, or late shares since, are counted here.
    """
    spans: list[Span] = []
    for day in days_of(week):
        row = connection.execute(query(__package__, "proven_day.sql"), _span(day)).fetchone()
        assert row is not None
        if row["proven"]:
            continue
        for stale in connection.execute(
            query(__package__, "stale_hours.sql"), _span(day)
        ).fetchall():
            hour = stale["hour"]
            first = spans.pop()[0] if spans and spans[-1][1] == hour else hour
            spans.append((first, hour + HOUR))
    return spans


def differing_users(connection: Connection, week: date) -> list[int]:
    """Users whose finalised week is not what their hours say, or their rank wrong; users.id."""
    start, end = bounds(week)
    rows = connection.execute(
        query(__package__, "differing_users.sql"), {"week": week, "start": start, "end": end}
    ).fetchall()
    return [row["user_id"] for row in rows]


def wrong_users(connection: Connection, week: date) -> list[int]:
    """Users whose finalised week is not what their raw shares say; users.id, in order.

    Costs users and days: the statistics of each day have counted its raw shares. The raw
    shares are counted here for days without statistics, and for users who differ from them.
    """
    start, end = bounds(week)
    uncounted = [
        row["day"]
        for row in connection.execute(
            query(__package__, "uncounted_days.sql"), {"week": week}
        ).fetchall()
    ]
    suspects = connection.execute(
        query(__package__, "suspects.sql"),
        {
            "week": week,
            "uncounted": uncounted,
            "start": midnight(uncounted[0]) if uncounted else start,
            "end": midnight(uncounted[-1]) + DAY if uncounted else start,
        },
    ).fetchall()
    if not suspects:
        return []
    wrong = connection.execute(
        query(__package__, "judged.sql"),
        {
            "week": week,
            "start": start,
            "end": end,
            "users": [row["user_id"] for row in suspects],
        },
    ).fetchall()
    return [row["user_id"] for row in wrong]


def _span(day: date) -> dict[str, datetime]:
    return {"start": midnight(day), "end": midnight(day) + DAY}


def ranking(connection: Connection, week: date, most: int | None = None) -> list[DictRow]:
    """The finalised result, best first; its first ``most``, or all.

    Raises:
        dagster.Failure: when the week has provisional rows only.
    """
    rows = connection.execute(
        query(__package__, "ranking.sql"), {"week": week, "most": most}
    ).fetchall()
    if not rows:
        provisional = connection.execute(
            "select count(*) as rows from weekly_best_diff where week_start = %s", [week]
        ).fetchone()
        assert provisional is not None
        if provisional["rows"]:
            raise dg.Failure(
                f"week {week} is not finalised: materialise weekly_best_diff first",
                allow_retries=False,
            )
    return rows


def result_of(week: date, rows: list[DictRow], entrants: int | None = None) -> dict[str, Any]:
    """What is published of a week. The same ranking always gives the same result.

    Args:
        rows: the ranking, or its first ten where ``entrants`` says how many there are.
    """
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
        "week": f"{week:%G-W%V}",
        "week_start": week.isoformat(),
        "entrants": len(rows) if entrants is None else entrants,
        "winner": top[0] if top else None,
        "top": top,
    }


def announce(connection: Connection, week: date, result: dict[str, Any]) -> str:
    """Writes the news of a week into the outbox: ``result``, ``correction`` or ``unchanged``.

    Safe to repeat: what was published before is not published again.
    """
    with connection.transaction():
        lock(connection, week)
        told = connection.execute(
            "select revision, result from weekly_publications where week_start = %s "
            "order by revision desc limit 1",
            [week],
        ).fetchone()
        if told is not None and same_places(told["result"], result):
            return "unchanged"
        revision = told["revision"] + 1 if told else 1
        kind: Literal["result", "correction"] = "correction" if told else "result"
        connection.execute(
            "insert into weekly_publications (week_start, revision, result) values (%s, %s, %s)",
            [week, revision, Jsonb(result)],
        )
        post(
            connection,
            WEEKLY_RESET_STREAM,
            f"weekly_reset:{week}:{revision}",
            WeeklyReset(kind=kind, revision=revision, **result),
        )
    return kind


def same_places(told: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether a result gives everybody the place that was published.

    A proof that came later, a release, or shares that were waited for change nobody's place.
    """
    # Through JSON, as the one in the database went.
    return bool(_placed(told) == _placed(json.loads(json.dumps(result))))


def _placed(found: Any) -> Any:
    """A result without what is said of it beside the places, at any depth."""
    if isinstance(found, dict):
        return {name: _placed(value) for name, value in found.items() if name not in BESIDE}
    return [_placed(value) for value in found] if isinstance(found, list) else found


def freeze(client: Any, week: date, rows: list[DictRow], keep_until: datetime) -> None:
    """Makes the week's sorted set in Redis equal to the result, and lets it expire.

    It is filled beside the old one, piece by piece, and takes its place at once: nobody sees
    it empty or half full. A past ``keep_until`` removes it.
    """
    key = leaderboard_key(week)
    if not rows:
        client.delete(key)
        return
    # In the key's own slot of a cluster: a key without a tag is hashed whole.
    beside = f"{key}:new" if "{" in key else f"{{{key}}}:new"
    client.delete(beside)
    for start in range(0, len(rows), AT_ONCE):
        client.zadd(
            beside,
            {row["user"]: row["best_difficulty"] for row in rows[start : start + AT_ONCE]},
        )
        client.expire(beside, BESIDE_SECONDS)  # in case that this process dies here
    with client.pipeline(transaction=True) as pipe:
        pipe.rename(beside, key)
        pipe.expireat(key, keep_until)
        pipe.execute()
