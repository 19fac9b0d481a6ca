"""Retention: a day goes when it is rolled up, counted and, with an archive, archived."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

import psycopg
from psycopg import sql

from tbg_core.periods import midnight
from tbg_dagster.archive.day import archive, has_rows, restore, verify
from tbg_dagster.archive.detach import drop_detached
from tbg_dagster.archive.held import HeldError
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.partitions import DAY
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import Rollup

# A wait that is cut off leaves a partition that is being detached, and one at a time can be.
IN_USE: Final = (psycopg.errors.LockNotAvailable, psycopg.errors.ObjectNotInPrerequisiteState)
# Statements that need the same lock wait for no longer behind ours.
LOCK_TIMEOUT: Final = "5s"


def raw_days(connection: Connection, rollup: Rollup) -> list[date]:
    """The days that have a place for shares or events, in order."""
    rows = connection.execute(query(__package__, f"days_{rollup.name}.sql")).fetchall()
    return [row["day"] for row in rows]


def kept_days(connection: Connection, now: datetime) -> dict[date, str]:
    """The days that must stay, and why: restored ones, and those whose week is not finalised."""
    kept = {
        day: f"week {row['week_start']} is not finalised"
        for row in connection.execute(
            "select distinct week_start from weekly_best_diff where finalized_at is null "
            "and week_start < date_trunc('week', %s::timestamptz at time zone 'UTC')",
            [now],
        ).fetchall()
        for day in (row["week_start"] + number * DAY for number in range(7))
    }
    for row in connection.execute(
        "select day, keep_until from restored_days where keep_until > %s", [now]
    ).fetchall():
        kept[row["day"]] = f"restored, and kept until {row['keep_until']:%F %H:%M}"
    return kept


def drop_archived(
    connection: Connection, rollup: Rollup, store: Store | None, days: Iterable[date]
) -> tuple[list[date], dict[date, str]]:
    """Drops those of the days that can be computed from no more; returns them, and why others are kept.

    Args:
        connection: autocommit.
        rollup: of the database's flavour.
        store: a day that it lacks, or that has got late rows, is archived first; without one,
            days are dropped for good.
        days: closed ones.
    """
    dropped: list[date] = []
    held: dict[date, str] = {}
    [row] = connection.execute("select now() as moment")
    kept = kept_days(connection, row["moment"])
    [before] = connection.execute("select current_setting('lock_timeout') as lock_timeout")
    connection.execute("select set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
    try:
        for day in days:
            if day in kept:
                held[day] = kept[day]
                continue
            try:
                _drop(connection, rollup, store, day)
            except (ArchiveError, HeldError) as error:
                held[day] = str(error)
            except IN_USE:
                held[day] = f"a transaction has had its tables in use for more than {LOCK_TIMEOUT}"
            else:
                dropped.append(day)
    finally:
        if not connection.broken:
            connection.execute(
                "select set_config('lock_timeout', %s, false)", [before["lock_timeout"]]
            )
    return dropped, held


def _drop(connection: Connection, rollup: Rollup, store: Store | None, day: date) -> None:
    if has_rows(connection, day):
        if store is not None:
            done = archive(connection, store, day)
            if done.outcome == "new revision":
                # Late rows of a day that was dropped before: with the others, its hours can be
                # computed again.
                restore(connection, store, day, timedelta(0))
        start = midnight(day)
        rollup.refresh_hours(connection, start, start + DAY)
        rollup.refresh_days(connection, start, start + DAY)
    if rollup.name == "postgresql":
        with connection.transaction():
            _prove(connection, rollup, store, day)
        drop_detached(connection, store, day)
    else:
        with connection.transaction():
            for table in _prove(connection, rollup, store, day):
                connection.execute(
                    "select drop_chunks(%s::regclass, older_than => %s::timestamptz, "
                    "newer_than => %s::timestamptz)",
                    [table, midnight(day) + DAY, midnight(day)],
                )
    connection.execute("delete from restored_days where day = %s", [day])


def _prove(connection: Connection, rollup: Rollup, store: Store | None, day: date) -> list[str]:
    """Proves that nothing of a day is lost, and keeps its writers waiting for the transaction.

    Returns:
        The tables that have rows of the day.

    Raises:
        ArchiveError: when the archive does not hold what the database has.
        HeldError: when a share of the day is not counted everywhere.
    """
    span = {"start": midnight(day), "end": midnight(day) + DAY}
    connection.execute("select pg_advisory_xact_lock(hashtext('tbg partitions'))")
    tables = connection.execute(query(__package__, f"tables_{rollup.name}.sql"), span).fetchall()
    for table in tables:
        # Readers go on, writers wait: what is compared is what is dropped.
        connection.execute(
            sql.SQL("lock table {} in share mode").format(
                sql.Identifier(table["schema"], table["name"])
            )
        )
    [late] = connection.execute(
        "select count(*) as hours from late_share_hours where hour >= %(start)s "
        "and hour < %(end)s and shares > least(settled_hourly, settled_daily, settled_weekly)",
        span,
    )
    if late["hours"]:
        raise HeldError(f"late shares of {late['hours']} of its hours are not counted everywhere")
    if store is not None and has_rows(connection, day):
        verify(connection, store, day)
    return sorted({table["parent"] for table in tables})
