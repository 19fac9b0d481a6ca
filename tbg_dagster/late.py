"""Late shares: what each rollup has taken in of the hours in ``late_share_hours``.

The writer counts the shares that came after their hour had closed. A rollup reads
that count before it computes and notes it afterwards, so that a share which comes
in between is still owed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Literal

from psycopg import sql

from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import without_raw

Grain = Literal["hourly", "daily", "weekly"]


@contextmanager
def settling(
    connection: Connection, grain: Grain, start: datetime, end: datetime
) -> Iterator[None]:
    """Notes what ``grain`` has taken in of the hours in the span, when the block succeeds."""
    # Days are computed from the hours, and take in what those have; hours and
    # weeks are computed from the raw shares.
    source = sql.Identifier("settled_hourly" if grain == "daily" else "shares")
    counted = connection.execute(
        sql.SQL(
            "select hour, {} as taken from late_share_hours where hour >= %s and hour < %s"
        ).format(source),
        [start, end],
    ).fetchall()
    if grain == "hourly" and counted:
        gone = without_raw(connection, [row["hour"] for row in counted])
        counted = [row for row in counted if row["hour"] not in gone]
    yield
    statement = sql.SQL(
        "update late_share_hours set {column} = greatest({column}, %s) where hour = %s"
    ).format(column=sql.Identifier(f"settled_{grain}"))
    for row in counted:
        connection.execute(statement, [row["taken"], row["hour"]])
