"""Late shares: what each rollup has taken in of the hours in ``late_share_hours``.

The writer counts the shares that came after their hour had closed. A rollup reads
that count before it computes and notes it afterwards, so that a share which comes
in between is still owed. What has further effects (the statistics of a day, the news of a
week) notes it as computed, and the last of them settles it: one that fails is asked for again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final, Literal

from psycopg import sql

from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import without_raw

Grain = Literal["hourly", "daily", "weekly"]

# Hours have no further effect: what is computed is settled.
_NOTED: Final = {
    "hourly": "settled_hourly",
    "daily": "computed_daily",
    "weekly": "computed_weekly",
}


@contextmanager
def computing(
    connection: Connection, grain: Grain, start: datetime, end: datetime
) -> Iterator[None]:
    """Notes what ``grain`` has taken in of the hours in the span, when the block succeeds."""
    # Days are computed from the hours, and take in what those have. Hours are computed from the raw
    # shares, and a week rebuilds the hours that lack some.
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
    ).format(column=sql.Identifier(_NOTED[grain]))
    for row in counted:
        connection.execute(statement, [row["taken"], row["hour"]])


def settle(
    connection: Connection, grain: Literal["daily", "weekly"], start: datetime, end: datetime
) -> None:
    """Notes that everything has happened which follows from what ``grain`` has computed."""
    connection.execute(
        sql.SQL(
            "update late_share_hours set {settled} = {computed} "
            "where hour >= %s and hour < %s and {settled} < {computed}"
        ).format(
            settled=sql.Identifier(f"settled_{grain}"), computed=sql.Identifier(f"computed_{grain}")
        ),
        [start, end],
    )
