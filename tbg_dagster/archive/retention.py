"""Retention with an archive: a day goes when it is archived, verified and rolled up."""

from collections.abc import Iterable
from datetime import date, timedelta

from psycopg import sql

from tbg_dagster.archive.day import archive, has_rows, restore, verify
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.partitions import DAY, midnight
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import Rollup


def raw_days(connection: Connection, rollup: Rollup) -> list[date]:
    """The days that have a place for shares or events, in order."""
    rows = connection.execute(query(__package__, f"days_{rollup.name}.sql")).fetchall()
    return [row["day"] for row in rows]


def drop_archived(
    connection: Connection, rollup: Rollup, store: Store, days: Iterable[date]
) -> tuple[list[date], dict[date, str]]:
    """Drops those of the days that the archive holds; returns them, and why others are kept.

    A day that is not archived yet, or has got late rows, is archived first.
    """
    kept = {
        row["day"]: f"restored, and kept until {row['keep_until']:%F %H:%M}"
        for row in connection.execute(
            "select day, keep_until from restored_days where keep_until > now()"
        )
    }
    dropped: list[date] = []
    held: dict[date, str] = {}
    for day in days:
        if day in kept:
            held[day] = kept[day]
            continue
        try:
            _drop(connection, rollup, store, day)
        except ArchiveError as error:
            held[day] = str(error)
        else:
            dropped.append(day)
    return dropped, held


def _drop(connection: Connection, rollup: Rollup, store: Store, day: date) -> None:
    span = {"start": midnight(day), "end": midnight(day) + DAY}
    done = archive(connection, store, day)
    if done.outcome == "new revision":
        # Late rows of a day that was dropped before: the rollup of a part of its rows would
        # replace that of all.
        restore(connection, store, day, timedelta(0))
    if done.outcome not in ("empty", "dropped before"):
        rollup.refresh_hours(connection, span["start"], span["end"])
        rollup.refresh_days(connection, span["start"], span["end"])
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtext('tbg partitions'))")
        tables = connection.execute(
            query(__package__, f"tables_{rollup.name}.sql"), span
        ).fetchall()
        for table in tables:
            # Readers go on, writers wait: what is compared is what is dropped.
            connection.execute(
                sql.SQL("lock table {} in share mode").format(
                    sql.Identifier(table["schema"], table["name"])
                )
            )
        if has_rows(connection, day):
            verify(connection, store, day)
        for table in tables:
            if rollup.name == "postgresql":
                connection.execute(
                    sql.SQL("drop table {}").format(sql.Identifier(table["schema"], table["name"]))
                )
            else:
                connection.execute(
                    "select drop_chunks(%s::regclass, older_than => %s::timestamptz, "
                    "newer_than => %s::timestamptz)",
                    [table["hypertable"], span["end"], span["start"]],
                )
        connection.execute("delete from restored_days where day = %s", [day])
