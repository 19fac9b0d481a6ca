"""What is a month old is compressed, and can still be read, corrected and dropped."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tbg_dagster.queries import query
from tbg_dagster.rollup import rollup_of
from tbg_dagster.weekly.week import finalise
from tests.tbg_dagster.conftest import History, last_monday
from tests.timescaledb.server import Connection
from tests.timescaledb.test_retention import run_policy

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
COMPRESSED = ("mining_events", "shares", "shares_daily", "shares_hourly")


def compressed(connection: Connection) -> dict[str, int]:
    """Compressed chunks of each hypertable and rollup that has any."""
    rows = connection.execute(
        "select coalesce(view_name, c.hypertable_name) as name, count(*) as chunks "
        "from timescaledb_information.chunks c "
        "left join timescaledb_information.continuous_aggregates a "
        "on a.materialization_hypertable_name = c.hypertable_name "
        "where is_compressed group by 1"
    ).fetchall()
    return {row["name"]: row["chunks"] for row in rows}


def rows_of(connection: Connection) -> list[list[dict[str, Any]]]:
    """All hours and all days."""
    return [
        connection.execute("select * from shares_hourly order by bucket, worker_id").fetchall(),
        connection.execute("select * from shares_daily order by bucket, worker_id").fetchall(),
    ]


def old_week(connection: Connection, history: History) -> datetime:
    """Eight days of shares and an event, long ago, rolled up and compressed by the policies."""
    start = last_monday(9)
    history.shares(["a.1", "a.2", "b.1"], start, start + 8 * DAY, 4000)
    connection.execute(
        "insert into mining_events (time, event, payload) values "
        "(%s, 'miner_connected', '{\"user\": \"a\"}')",
        [start + HOUR],
    )
    rollup = rollup_of(connection)
    rollup.refresh_hours(connection, start, start + 8 * DAY)
    rollup.refresh_days(connection, start, start + 8 * DAY)
    before = rows_of(connection)
    for name in COMPRESSED:
        run_policy(connection, "policy_compression", name)
    assert set(compressed(connection)) == set(COMPRESSED)
    assert rows_of(connection) == before
    return start


def test_a_month_stays_as_it_is_written(connection: Connection, history: History) -> None:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 25 * DAY
    history.shares(["a.1"], start, start + HOUR, 10)
    rollup_of(connection).refresh_hours(connection, start, start + HOUR)
    for name in COMPRESSED:
        run_policy(connection, "policy_compression", name)
    assert compressed(connection) == {}


def test_late_shares_of_a_compressed_hour_are_taken_in(
    connection: Connection, history: History
) -> None:
    start = old_week(connection, history)
    rollup = rollup_of(connection)
    late = start + 30 * HOUR
    history.shares(["a.1", "c.1"], late, late + HOUR, 100)
    history.share("b.1", late, share_diff=1e12)

    rollup.refresh_hours(connection, late, late + HOUR)
    rollup.refresh_days(connection, start + DAY, start + 2 * DAY)

    hours, days = rows_of(connection)
    for rows in (hours, days):
        assert sum(row["shares"] for row in rows) == 4101
        assert max(row["best_share_diff"] for row in rows) == 1e12
    keys = [(row["bucket"], row["worker_id"]) for row in hours]
    assert len(keys) == len(set(keys))
    raw = connection.execute(
        "select date_trunc('hour', time, 'UTC') as bucket, worker_id, count(*) as shares "
        "from shares group by 1, 2 order by 1, 2"
    ).fetchall()
    assert [(row["bucket"], row["worker_id"], row["shares"]) for row in raw] == [
        (row["bucket"], row["worker_id"], row["shares"]) for row in hours
    ]
    # And the next run of the policy puts them back.
    for name in COMPRESSED:
        run_policy(connection, "policy_compression", name)
    assert rows_of(connection) == [hours, days]


def test_hours_outlive_their_raw_shares_when_both_are_compressed(
    connection: Connection, history: History
) -> None:
    start = old_week(connection, history)
    before = rows_of(connection)
    connection.execute("select drop_chunks('shares', %s::timestamptz)", [start + 3 * DAY])
    rollup = rollup_of(connection)
    span = rollup.refresh_hours(connection, start, start + 8 * DAY)
    rollup.refresh_days(connection, start, start + 8 * DAY)
    assert span == (start + 3 * DAY, start + 8 * DAY)
    assert rows_of(connection) == before


def test_a_compressed_week_can_be_closed_and_its_block_marked(
    connection: Connection, history: History
) -> None:
    start = old_week(connection, history)
    best = connection.execute(
        "select user_id, share_diff, share_hash from shares "
        "where is_valid and time < %s order by share_diff desc limit 1",
        [start + 7 * DAY],
    ).fetchone()
    assert best is not None
    done = finalise(connection, start.date())
    assert (done.users, done.changed) == (2, 2)
    winner = connection.execute(
        "select user_id, best_difficulty as share_diff, best_share_hash as share_hash "
        "from weekly_best_diff where rank = 1"
    ).fetchone()
    assert winner == best
    marked = connection.execute(
        "update shares set is_block = true where share_hash = %s", [best["share_hash"]]
    )
    assert marked.rowcount == 1


def read_of(connection: Connection, statement: Any, values: dict[str, Any]) -> list[str]:
    """The scans of compressed chunks that a statement executes."""
    plan = connection.execute("explain (analyze, costs off, timing off) " + statement, values)
    lines = [row["QUERY PLAN"] for row in plan.fetchall()]
    return [
        line
        for line in lines
        if re.search("ColumnarScan|DecompressChunk", line) and "never executed" not in line
    ]


def test_looking_for_unmatched_blocks_opens_no_chunk_but_those_of_the_blocks(
    connection: Connection, history: History
) -> None:
    start = old_week(connection, history)
    now = datetime.now(UTC)
    statement = query("tbg_dagster.realtime", "unmatched_blocks.sql")
    span = {"start": now - 89 * DAY, "end": now}
    assert read_of(connection, statement, span) == []
    share_hash = b"\x07" * 32
    history.share("a.1", start + 30 * HOUR, share_hash=share_hash, is_block=True)
    history.block("a.1", 5, share_hash.hex(), start + 30 * HOUR)
    run_policy(connection, "policy_compression", "shares")
    assert len(read_of(connection, statement, span)) <= 1
    assert connection.execute(statement, span).fetchall() == [{"blocks": 0, "shares": 0}]
    history.block("a.1", 6, "ab" * 32, start + 40 * HOUR)
    assert connection.execute(statement, span).fetchall() == [{"blocks": 1, "shares": 0}]


def test_the_watermark_of_the_days_reads_no_hour(connection: Connection, history: History) -> None:
    old_week(connection, history)
    statement = query("tbg_dagster.rollup", "watermark_days.sql")
    plan = connection.execute("explain (analyze, costs off) " + statement)
    text = "\n".join(row["QUERY PLAN"] for row in plan.fetchall())
    assert "_hyper_" not in text
    assert "_materialized_hypertable_" not in text


def test_a_session_in_the_columnstore_is_found_by_when_its_user_was_last_seen(
    connection: Connection, history: History
) -> None:
    start = old_week(connection, history)
    found = []
    for seen in (None, start + 2 * HOUR, start + HOUR - timedelta(seconds=10), datetime.now(UTC)):
        connection.execute("update users set last_seen = %s where btc_address = 'a'", [seen])
        row = connection.execute(
            "select session_since from user_bests where btc_address = 'a'"
        ).fetchone()
        assert row is not None
        found.append(row["session_since"])
    assert found == [start + HOUR] * 4


def test_dagster_alone_refreshes_the_rollups(connection: Connection) -> None:
    jobs = connection.execute(
        "select hypertable_name as name, scheduled from timescaledb_information.jobs "
        "where proc_name = 'policy_refresh_continuous_aggregate' order by 1"
    ).fetchall()
    assert jobs == [
        {"name": "shares_daily", "scheduled": False},
        {"name": "shares_hourly", "scheduled": False},
    ]
