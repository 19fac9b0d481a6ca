"""Housekeeping on TimescaleDB, which has no policy that drops raw shares."""

from datetime import UTC, datetime, timedelta

from tbg_dagster.rollup import rollup_of
from tests.tbg_dagster.conftest import History, Run, metadata_of
from tests.timescaledb.server import Connection

DAY = timedelta(days=1)


def run_policy(connection: Connection, kind: str, table: str) -> None:
    """What the background worker does every day, which this server lacks."""
    row = connection.execute(
        "select job_id from timescaledb_information.jobs "
        "where proc_name = %s and hypertable_name = %s",
        [kind, table],
    ).fetchone()
    assert row is not None, (kind, table)
    connection.execute("call run_job(%s)", [row["job_id"]])


def test_what_is_past_retention_goes_and_its_rollup_stays(
    connection: Connection, history: History, run: Run
) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    kept, old = today - 80 * DAY, today - 100 * DAY
    history.shares(["a.1"], old, old + DAY, 50)
    history.shares(["a.1"], kept, kept + DAY, 70)
    connection.execute(
        "insert into mining_events (time, event, payload) values (%s, 'diff_updated', '{}'), "
        "(%s, 'diff_updated', '{}')",
        [old, kept],
    )
    rollup = rollup_of(connection)
    rollup.refresh_hours(connection, old, kept + DAY)
    rollup.refresh_days(connection, old, kept + DAY)

    metadata = metadata_of(run("housekeeping"), "raw_partitions")

    assert metadata["flavour"] == "timescaledb"
    assert metadata["oldest_day"] == metadata["newest_day"] == f"{kept:%F}"
    assert connection.execute("select time from mining_events").fetchall() == [{"time": kept}]
    # Computing the days once more must not reach back over what is gone.
    rollup.refresh_hours(connection, old, kept + DAY)
    rollup.refresh_days(connection, old, kept + DAY)
    rows = connection.execute("select bucket, shares from shares_daily order by bucket").fetchall()
    assert rows == [{"bucket": old, "shares": 50}, {"bucket": kept, "shares": 70}]
