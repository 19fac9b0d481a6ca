"""Checks of the weekly results."""

from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
from psycopg.rows import DictRow

from tbg_core.names import week_start
from tbg_core.wording import counted
from tbg_dagster import clock
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.resources.database import Connection
from tbg_dagster.standing import found_before, keep
from tbg_dagster.verdict import ERROR, WARN, verdict
from tbg_dagster.weekly.week import (
    TOP,
    differing_users,
    dropped_days,
    ranking,
    result_of,
    same_places,
    wrong_users,
)


@dg.asset_check(asset="weekly_best_diff", blocking=True)
def weeks_equal_hours(database: Database) -> dg.AssetCheckResult:
    """The finalised weeks of the last month count what their hours count, ranks included.

    And those that did not before, until they do.

    And what the raw shares count, as the statistics of the days have counted them. ERROR,
    and blocking: a week that does not add up must not be published.
    """
    this_week = week_start(clock.now())
    with database.connect() as connection:
        weeks = connection.execute(
            query(__package__, "finalised.sql"),
            {"first": this_week - timedelta(days=28), "end": this_week},
        ).fetchall()
        before = found_before(connection, "weeks_equal_hours")
        looked = {*(row["week_start"] for row in weeks), *map(date.fromisoformat, before)}
        wrong: set[tuple[date, int]] = set()
        for week in sorted(looked):
            users = set(differing_users(connection, week))
            # Raw shares that were dropped cannot be counted.
            if not dropped_days(connection, week):
                users.update(wrong_users(connection, week))
            wrong.update((week, user) for user in users)
        keep(connection, "weeks_equal_hours", before, {week.isoformat() for week, _ in wrong})
    return verdict(
        not wrong,
        f"{counted(len(wrong), 'week of a user differs', 'weeks of users differ')} from hours or raw shares"
        + "".join(f"; {week} user {user}" for week, user in sorted(wrong)[:5]),
        do="Materialise the week of weekly_best_diff again",
        rows_wrong=len(wrong),
    )


@dg.asset_check(asset="weekly_best_diff")
def bests_reach_their_hours(database: Database) -> dg.AssetCheckResult:
    """No best of a running week is lower than the hours of the last three hours say.

    Nor than those that it was lower than before.

    ERROR: the writer takes a share for no best because it remembers a higher one. Start it
    again: it reads what the table holds. The result of the week comes from the hours.
    """
    end = clock.now().replace(minute=0, second=0, microsecond=0)
    with database.connect() as connection:
        before = found_before(connection, "bests_reach_their_hours")
        # The hours are kept for ever; of a week that is finalised none is wrong here.
        start = min([end - timedelta(hours=3), *map(datetime.fromisoformat, before)])
        rows = connection.execute(
            query(__package__, "behind.sql"), {"start": start, "end": end}
        ).fetchall()
        keep(connection, "bests_reach_their_hours", before, [start.isoformat()] if rows else [])
    return verdict(
        not rows,
        f"{len(rows)} bests are lower than their hours"
        + "".join(
            f"; {row['week_start']} user {row['user_id']}: {row['best_difficulty']} "
            f"and not {row['best']}"
            for row in rows[:5]
        ),
        do="Start the writer again: it then reads what the table holds",
        rows_wrong=len(rows),
    )


@dg.asset_check(asset="weekly_leaderboard")
def publications_equal_results(
    context: dg.AssetCheckExecutionContext, database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """Every finalised ranking is the one that was published last.

    Of the weeks whose shares are kept, and of those of its run: no other can change. A week
    that was never published is a missing partition. ERROR:
    something else was published; the run of `weekly_leaderboard` says why. WARN in the
    first ten minutes, in which a run may be on its way from the one to the other.
    """
    first = week_start(thresholds.horizon(clock.now()))
    if context.has_partition_key or context.has_partition_key_range:
        first = min(first, *map(date.fromisoformat, context.partition_keys))
    with database.connect() as connection:
        rows = connection.execute(query(__package__, "published.sql"), {"first": first}).fetchall()
        wrong = {
            row["week_start"]: row["recent"]
            for row in rows
            if not same_places(row["result"], _now(connection, row))
        }
    return verdict(
        not wrong,
        f"{counted(len(wrong), 'week is', 'weeks are')} not published as the table has them"
        + "".join(f"; {week}" for week in sorted(wrong)[:5]),
        WARN if all(wrong.values()) else ERROR,
        do="Read the run of weekly_leaderboard; materialise the week again to publish a correction",
        weeks_wrong=len(wrong),
    )


def _now(connection: Connection, row: DictRow) -> dict[str, Any]:
    """What would be published of a week now."""
    week: date = row["week_start"]
    top = ranking(connection, week, TOP) if row["entrants"] else []
    return result_of(week, top, row["entrants"])


@dg.asset_check(asset="weekly_leaderboard")
def messages_are_sent(database: Database) -> dg.AssetCheckResult:
    """No message to the world waits in the outbox.

    WARN after ten minutes; ERROR after an hour: the next run of its asset sends it.
    """
    with database.connect() as connection:
        row = connection.execute(
            "select count(*) as messages, max(now() - created_at) as age "
            "from outbox where sent_at is null and created_at < now() - interval '10 minutes'"
        ).fetchone()
    assert row is not None
    old = row["age"] is not None and row["age"] > timedelta(hours=1)
    return verdict(
        row["messages"] == 0,
        f"{counted(row['messages'], 'message waits', 'messages wait')} for more than ten minutes",
        ERROR if old else WARN,
        do="See that Redis answers; the next run of the asset sends them",
        waiting=row["messages"],
    )
