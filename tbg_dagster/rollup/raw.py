"""Which raw shares are still there, and how far they were read.

An hour is a set of shares, and a rollup must know that it reads all of them. Two things
can be wrong: shares that were dropped, and shares that are not committed yet.
"""

import time
from collections.abc import Iterator
from datetime import date, datetime
from typing import Final

from tbg_core.periods import midnight
from tbg_dagster.partitions import DAY, HOUR
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup.span import Span

# For how long a rollup waits for transactions that may hold shares of its hours. One that
# takes longer gets its hours computed once more.
PATIENCE: Final = 5.0
_LOOK: Final = 0.05


def incomplete(connection: Connection, start: datetime, end: datetime) -> list[datetime]:
    """Hours of the span whose rollup counts raw shares that are gone, in order.

    Such a rollup must stay: what is there now is a part of it, or nothing.
    """
    if start >= end:
        return []
    rows = connection.execute(
        query(__package__, "incomplete.sql"), {"start": start, "end": end}
    ).fetchall()
    return [row["hour"] for row in rows]


def is_whole(connection: Connection, day: date) -> bool:
    """Whether every raw share that the hours of a day count is there; True if they count none."""
    start = midnight(day)
    [row] = connection.execute(
        query(__package__, "whole_day.sql"), {"start": start, "end": start + DAY}
    )
    return bool(row["whole"])


def computable(connection: Connection, start: datetime, end: datetime) -> Iterator[Span]:
    """The parts of a span that can be computed without loss, in order.

    Args:
        start: a full hour of a day that has a place for raw shares.
        end: a full hour; nothing is yielded if it is not after ``start``.
    """
    for hour in incomplete(connection, start, end):
        if start < hour:
            yield start, hour
        start = hour + HOUR
    if start < end:
        yield start, end


def read_up_to(connection: Connection, start: datetime, end: datetime) -> None:
    """Sees to it that no share of the span is neither read from now on nor counted as late.

    The lock that a transaction has on the table of shares while it inserts is the handshake,
    and no clock. From here on a writer notes the shares before ``end`` as late
    (``rollup_progress``), in a statement after its insert. A transaction that has inserted
    before may not have seen that: it is waited for, so that its shares can be read. Where one
    takes too long, the hours of the span are noted as late themselves.

    Nobody waits for a rollup here.
    """
    connection.execute(
        "update rollup_progress set read_until = %(end)s where read_until < %(end)s", {"end": end}
    )
    open_ones = _inserting(connection)
    deadline = time.monotonic() + PATIENCE
    while open_ones and time.monotonic() < deadline:
        time.sleep(_LOOK)
        open_ones &= _inserting(connection)
    if open_ones:
        connection.execute(
            "insert into late_share_hours as l (hour, shares) "
            "select hour, 1 from generate_series(%s, %s - interval '1 hour', interval '1 hour') "
            "as hour "
            "on conflict (hour) do update set shares = l.shares + 1, last_recorded_at = now()",
            [start, end],
        )


def _inserting(connection: Connection) -> set[str]:
    rows = connection.execute(query(__package__, "inserting.sql")).fetchall()
    return {row["transaction"] for row in rows}
