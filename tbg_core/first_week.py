"""The Monday with which a database begins."""

from datetime import date
from typing import Final

import psycopg

from tbg_core.names import week_start

EARLIEST_WEEK: Final = date(2025, 10, 6)
"""A Monday before which nobody mined here and no clock is right: this project is younger."""


def oldest_week(database_url: str) -> date | None:
    """The Monday of the oldest shares that the database knows; None while it knows none.

    Raises:
        psycopg.Error: the database does not answer.
    """
    with psycopg.connect(database_url, connect_timeout=10, options="-c timezone=UTC") as connection:
        row = connection.execute(
            "select least((select min(first_seen) from workers), "
            "(select min(hour) from late_share_hours), "
            "(select min(week_start)::timestamptz from weekly_best_diff))"
        ).fetchone()
    return week_start(row[0]) if row and row[0] else None
