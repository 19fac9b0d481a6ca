"""What TimescaleDB does on a refresh, and what our refresh makes of it.

Each rule stands here twice: as it is on the server, so that a version that changes it
shows, and as :mod:`tbg_dagster.rollup` keeps to it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from bench.batch import CHANGE
from tbg_dagster.rollup import rollup_of
from tests.tbg_dagster.conftest import History, last_monday
from tests.timescaledb.server import Connection

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SHARES = 5600
HOURS = 56

Refresh = Callable[[datetime | None, datetime], None]


@pytest.fixture
def start(history: History) -> datetime:
    """Beginning of 56 hours with 100 shares each."""
    begin = last_monday()
    history.shares(["a.1", "b.1"], begin, begin + HOURS * HOUR, SHARES)
    return begin


@pytest.fixture
def refresh(connection: Connection) -> Refresh:
    """Refreshes hours as they were asked for, without our care."""

    def call(begin: datetime | None, end: datetime) -> None:
        connection.execute(
            "call refresh_continuous_aggregate('shares_hourly', %s::timestamptz, %s::timestamptz)",
            [begin, end],
        )

    return call


def seen(connection: Connection, view: str = "shares_hourly") -> int:
    """Shares that a view counts."""
    row = connection.execute(
        "select coalesce(sum(shares), 0)::integer as shares from "  # noqa: S608  # our own names
        + view
    ).fetchone()
    assert row is not None
    return int(row["shares"])


def test_hours_that_nobody_refreshed_are_computed_from_the_raw_shares(
    connection: Connection, start: datetime
) -> None:
    assert seen(connection) == SHARES
    assert seen(connection, "shares_daily") == SHARES


def test_a_refresh_hides_what_lies_unrefreshed_before_it(
    connection: Connection, start: datetime, refresh: Refresh
) -> None:
    refresh(start + 54 * HOUR, start + 56 * HOUR)
    assert seen(connection) == 200


def test_our_refresh_begins_where_the_last_one_ended(
    connection: Connection, start: datetime
) -> None:
    rollup = rollup_of(connection)
    last = start + 54 * HOUR
    assert rollup.refresh_hours(connection, last, last + HOUR) == (start, last + HOUR)
    assert seen(connection) == SHARES
    # From there on, one hour is one hour.
    last += HOUR
    assert rollup.refresh_hours(connection, last, last + HOUR) == (last, last + HOUR)
    assert rollup.refresh_days(connection, start + DAY, start + 2 * DAY) == (start, start + 2 * DAY)
    assert seen(connection) == seen(connection, "shares_daily") == SHARES


def test_late_shares_are_invisible_until_their_hours_and_days_are_refreshed(
    connection: Connection, start: datetime, history: History
) -> None:
    rollup = rollup_of(connection)
    rollup.refresh_hours(connection, start, start + 56 * HOUR)
    rollup.refresh_days(connection, start, start + 2 * DAY)
    late = start + 20 * HOUR
    history.shares(["c.1"], late, late + HOUR, 500)
    assert seen(connection) == seen(connection, "shares_daily") == SHARES
    assert rollup.refresh_hours(connection, late, late + HOUR) == (late, late + HOUR)
    assert seen(connection) == SHARES + 500
    assert seen(connection, "shares_daily") == SHARES
    rollup.refresh_days(connection, start, start + DAY)
    assert seen(connection, "shares_daily") == SHARES + 500


def test_a_refresh_over_dropped_chunks_deletes_their_hours(
    connection: Connection, start: datetime, refresh: Refresh
) -> None:
    refresh(start, start + 56 * HOUR)
    connection.execute("select drop_chunks('shares', %s::timestamptz)", [start + DAY])
    assert seen(connection) == SHARES
    refresh(None, start + 56 * HOUR)
    assert seen(connection) == SHARES - 2400


def test_our_refresh_begins_at_the_oldest_raw_share(
    connection: Connection, start: datetime
) -> None:
    rollup = rollup_of(connection)
    rollup.refresh_hours(connection, start, start + 56 * HOUR)
    rollup.refresh_days(connection, start, start + 2 * DAY)
    connection.execute("select drop_chunks('shares', %s::timestamptz)", [start + DAY])
    end = start + 56 * HOUR
    assert rollup.refresh_hours(connection, start, end) == (start + DAY, end)
    # Of dropped hours alone, nothing is refreshed.
    assert rollup.refresh_hours(connection, start, start + HOUR) is None
    assert rollup.refresh_days(connection, start, start + 2 * DAY) is not None
    assert seen(connection) == seen(connection, "shares_daily") == SHARES


def test_nothing_is_refreshed_before_the_first_share(connection: Connection) -> None:
    rollup = rollup_of(connection)
    begin = last_monday()
    assert rollup.refresh_hours(connection, begin, begin + HOUR) is None
    assert rollup.refresh_days(connection, begin, begin + DAY) is None


def test_what_the_bench_changes_is_computed_again_hour_by_hour(
    connection: Connection, history: History
) -> None:
    start = last_monday()
    end = start + DAY
    history.shares(["a.1", "b.1"], start, end, 480)
    connection.execute("update shares set seq = 1")
    rollup = rollup_of(connection)
    rollup.refresh_hours(connection, start, end)
    hours = "select bucket, sum(work) as work from shares_hourly group by 1 order by 1"
    before = connection.execute(hours).fetchall()
    connection.execute(CHANGE, {"start": start, "end": end})
    assert connection.execute(hours).fetchall() == before  # nothing shows until it is refreshed
    rollup.refresh_hours(connection, start, end)
    after = connection.execute(hours).fetchall()
    assert [row["work"] for row in after] == [row["work"] + 1 for row in before]
    assert len(after) == 24
