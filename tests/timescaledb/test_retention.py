"""Housekeeping where TimescaleDB's own policies drop the raw shares."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from psycopg.rows import dict_row, tuple_row

from tbg.migrate import set_retention
from tbg_dagster.resources import Archive, Database, Thresholds
from tbg_dagster.rollup import rollup_of
from tbg_dagster.shares.checks import windows_are_in_order
from tests.tbg_dagster.conftest import History, Run, metadata_of
from tests.timescaledb.server import Connection

DAY = timedelta(days=1)
POLICIES = (
    "select hypertable_name from timescaledb_information.jobs where proc_name = 'policy_retention'"
)


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
    kept, old = today - 80 * DAY, today - 95 * DAY
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

    run_policy(connection, "policy_retention", "shares")
    run_policy(connection, "policy_retention", "mining_events")
    metadata = metadata_of(run("housekeeping"), "raw_partitions")

    assert metadata["flavour"] == "timescaledb"
    assert metadata["oldest_day"] == metadata["newest_day"] == f"{kept:%F}"
    assert connection.execute("select time from mining_events").fetchall() == [{"time": kept}]
    # Computing the days once more must not reach back over what is gone.
    rollup.refresh_hours(connection, old, kept + DAY)
    rollup.refresh_days(connection, old, kept + DAY)
    rows = connection.execute("select bucket, shares from shares_daily order by bucket").fetchall()
    assert rows == [{"bucket": old, "shares": 50}, {"bucket": kept, "shares": 70}]


def test_the_policy_gives_way_to_the_archive_and_comes_back_without_it(
    connection: Connection, database_url: str
) -> None:
    def in_order(archive: Archive) -> bool:
        found = windows_are_in_order(Database(url=database_url), Thresholds(), archive)
        assert isinstance(found, dg.AssetCheckResult)
        return found.passed

    none, some = Archive(), Archive(url="/srv/archive")
    assert in_order(none)
    assert not in_order(some)  # the policy would drop what is not archived
    said: list[str] = []
    for _ in range(2):
        set_retention(connection, None, said.append)
        assert connection.execute(POLICIES).fetchall() == []
    assert len(said) == 2
    assert in_order(some)
    assert not in_order(none)
    connection.row_factory = tuple_row  # type: ignore[assignment]  # as tbg migrate has it
    set_retention(connection, 90, said.append)
    connection.row_factory = dict_row
    assert len(connection.execute(POLICIES).fetchall()) == 2
    assert in_order(none)
