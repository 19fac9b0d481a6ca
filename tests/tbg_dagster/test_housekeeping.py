"""Housekeeping makes ahead what is needed, drops what is old, and says how much."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from tbg_dagster import clock
from tbg_dagster.archive import detach, retention
from tbg_dagster.archive.day import archive, restore
from tbg_dagster.archive.store import Store
from tbg_dagster.housekeeping.dagster_history import prune_checks, prune_runs
from tbg_dagster.resources import Thresholds
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday, metadata_of


def days(connection: Connection) -> list[date]:
    rows = connection.execute(
        "select to_date(right(c.relname, 8), 'YYYYMMDD') as day from pg_inherits "
        "join pg_class c on c.oid = inhrelid where inhparent = 'shares'::regclass order by 1"
    ).fetchall()
    return [row["day"] for row in rows]


@pytest.mark.plain_postgresql
def test_partitions_are_made_ahead_and_dropped_after_retention_and_their_rollup_stays(
    connection: Connection, history: History, run: Run, resources: dict[str, Any]
) -> None:
    resources["thresholds"] = Thresholds(retention_days=20, partitions_ahead_days=12)
    old = clock.now() - timedelta(days=30)
    history.share("a.1", old)
    history.share("a.1", clock.now() - timedelta(days=19))
    result = run("housekeeping")
    today = clock.now().date()
    found = days(connection)
    assert found[0] == today - timedelta(days=19)
    assert found[-1] == today + timedelta(days=12)
    metadata = metadata_of(result, "raw_partitions")
    assert metadata["partitions_dropped"] == 2  # shares and mining_events
    assert metadata["partitions_made"] > 0
    # Nobody had rolled that day up: it was done before the raw shares went.
    row = connection.execute(
        "select sum(shares)::integer as shares from shares_daily where bucket < %s",
        [old + timedelta(days=1)],
    ).fetchone()
    assert row == {"shares": 1}


@pytest.mark.plain_postgresql
def test_days_of_a_week_that_is_not_finalised_are_kept(
    connection: Connection, history: History, run: Run, resources: dict[str, Any]
) -> None:
    resources["thresholds"] = Thresholds(retention_days=20)
    old = clock.now() - timedelta(days=30)
    history.share("a.1", old)
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
        "values (%s, date_trunc('week', %s::date), 1, %s)",
        [history.worker("a.1")[0], old.date(), old],
    )
    run("housekeeping")
    assert old.date() in days(connection)


def raw_days_of(connection: Connection) -> set[date]:
    rows = connection.execute(
        "select distinct (time at time zone 'UTC')::date as day from shares"
    ).fetchall()
    return {row["day"] for row in rows}


def test_a_week_that_is_not_finalised_holds_its_own_days_alone(
    connection: Connection, history: History, run: Run, resources: dict[str, Any]
) -> None:
    resources["thresholds"] = Thresholds(retention_days=20)
    older, newer = last_monday(8), last_monday(6)
    for day in (older, newer, newer + timedelta(days=6), newer + timedelta(days=7)):
        history.share("a.1", day)
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
        "values (%s, %s, 1, %s)",
        [history.worker("a.1")[0], newer.date(), newer],
    )
    metadata = metadata_of(run("housekeeping"), "raw_partitions")
    assert raw_days_of(connection) == {newer.date(), (newer + timedelta(days=6)).date()}
    assert f"{newer:%F}: week {newer:%F} is not finalised" in metadata["held_back"]
    connection.execute("update weekly_best_diff set finalized_at = now(), rank = 1")
    assert metadata_of(run("housekeeping"), "raw_partitions")["held_back"] == "nothing"
    assert raw_days_of(connection) == set()


def test_a_day_whose_late_shares_are_not_counted_stays(
    connection: Connection, history: History, run: Run, resources: dict[str, Any]
) -> None:
    resources["thresholds"] = Thresholds(retention_days=20)
    old = last_monday(6)
    history.share("a.1", old)
    history.late(old, 1)
    connection.execute(
        "update late_share_hours set settled_hourly = 1, settled_daily = 1, hour = %s", [old]
    )
    metadata = metadata_of(run("housekeeping"), "raw_partitions")
    assert "late shares of 1 of its hours are not counted everywhere" in metadata["held_back"]
    assert raw_days_of(connection) == {old.date()}
    # A late hour that is not counted is never forgotten, however old.
    assert connection.execute("select hour from late_share_hours").fetchall() == [{"hour": old}]
    connection.execute("update late_share_hours set settled_weekly = 1")
    run("housekeeping")
    assert raw_days_of(connection) == set()
    assert connection.execute("select hour from late_share_hours").fetchall() == []


def test_a_restored_day_stays_until_its_time_without_an_archive_too(
    connection: Connection,
    history: History,
    run: Run,
    resources: dict[str, Any],
    tmp_path: Path,
) -> None:
    old = last_monday(20)
    history.shares(["a.1"], old, old + timedelta(days=1), 24)
    store = Store.open(str(tmp_path / "archive"))
    archive(connection, store, old.date())
    assert resources["archive"].url == ""
    run("housekeeping")
    assert raw_days_of(connection) == set()
    restore(connection, store, old.date(), timedelta(days=3))
    for _ in range(2):
        metadata = metadata_of(run("housekeeping"), "raw_partitions")
        assert f"{old:%F}: restored, and kept until" in metadata["held_back"]
        assert raw_days_of(connection) == {old.date()}
    connection.execute("update restored_days set keep_until = now()")
    run("housekeeping")
    assert raw_days_of(connection) == set()


INSERT = (
    "insert into shares (time, difficulty, share_diff, user_id, worker_id, is_valid) "
    "values (now(), 1, 1, 1, 1, true)"
)


@pytest.mark.plain_postgresql
def test_partitions_are_made_and_dropped_beside_an_open_reader_and_the_writer_goes_on(
    connection: Connection,
    history: History,
    run: Run,
    resources: dict[str, Any],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tbg_dagster.archive.retention.LOCK_TIMEOUT", "300ms")
    resources["thresholds"] = Thresholds(partitions_ahead_days=20)
    old = [last_monday(20) + number * timedelta(days=1) for number in range(3)]
    for day in old:
        history.share("a.1", day)
    history.days(clock.now(), clock.now())
    stop = threading.Event()
    longest = [0.0, 0]

    def write() -> None:
        with psycopg.connect(database_url, autocommit=True) as writer:
            while not stop.is_set():
                began = time.monotonic()
                writer.execute(INSERT)
                longest[:] = max(longest[0], time.monotonic() - began), longest[1] + 1
                time.sleep(0.01)

    with psycopg.connect(database_url) as reader, ThreadPoolExecutor(1) as pool:
        # As pg_dump does, or a report: every partition, until the transaction ends.
        reader.execute("select count(*) from shares").fetchall()
        reader.execute("select count(*) from mining_events").fetchall()
        writing = pool.submit(write)
        try:
            metadata = metadata_of(run("housekeeping"), "raw_partitions")
            assert metadata["partitions_made"] >= 20
            assert metadata["partitions_dropped"] == 0
            assert "in use" in metadata["held_back"]
            written = longest[1]
            reader.rollback()
            metadata = metadata_of(run("housekeeping"), "raw_partitions")
            assert metadata["partitions_dropped"] == 6
            assert metadata["held_back"] == "nothing"
        finally:
            stop.set()
        writing.result()
    assert written > 20
    # Each wait is for a lock that is held for a moment, not for the reader.
    assert longest[0] < 5
    assert raw_days_of(connection) == {clock.now().date()}
    rows = connection.execute("select sum(shares)::integer as shares from shares_hourly").fetchone()
    assert rows == {"shares": 3}


@pytest.mark.plain_postgresql
def test_a_share_that_comes_between_proof_and_detaching_brings_the_day_back(
    connection: Connection, history: History, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = last_monday(20)
    history.share("a.1", old)
    real = detach.drop_detached

    def late(*args: Any) -> None:
        history.share("a.1", old)
        real(*args)

    monkeypatch.setattr(retention, "drop_detached", late)
    metadata = metadata_of(run("housekeeping"), "raw_partitions")
    assert "2 rows of shares are in the database, and 1 in what is kept" in metadata["held_back"]
    assert raw_days_of(connection) == {old.date()}
    monkeypatch.undo()
    run("housekeeping")
    assert raw_days_of(connection) == set()
    row = connection.execute("select sum(shares)::integer as shares from shares_daily").fetchone()
    assert row == {"shares": 2}


def test_old_rows_are_removed_and_counted(
    connection: Connection, history: History, run: Run
) -> None:
    for age in (1, 40):
        connection.execute(
            "insert into dead_letters (received_at, stage, reason, detail, raw) "
            "values (now() - make_interval(days => %s), 's', 'r', '', '')",
            [age],
        )
    connection.execute(
        "insert into outbox (stream, key, event, payload, sent_at) "
        "values ('s', 'old', 'e', '{}', now() - interval '200 days'), "
        "('s', 'never sent', 'e', '{}', null)"
    )
    metadata = metadata_of(run("housekeeping"), "aged_rows")
    assert (metadata["dead_letters_removed"], metadata["messages_removed"]) == (1, 1)
    rows = connection.execute("select key from outbox").fetchall()
    assert rows == [{"key": "never sent"}]


def test_old_runs_go_with_their_events_and_runs_of_partitions_stay_longer(
    instance: dg.DagsterInstance, run: Run
) -> None:
    frequent = run("odds").run_id
    partitioned = run("hourly_rollup", f"{clock.now() - timedelta(hours=5):%Y-%m-%d-%H}:00")
    week, year = timedelta(days=7), timedelta(days=365)
    assert prune_runs(instance, ["odds"], week, year) == 0
    assert prune_runs(instance, ["odds"], timedelta(0), year) == 1
    assert instance.get_run_by_id(frequent) is None
    assert instance.all_logs(frequent) == []
    assert instance.get_run_by_id(partitioned.run_id) is not None


def test_the_newest_result_of_every_check_stays(instance: dg.DagsterInstance, run: Run) -> None:
    run("quality", raise_on_error=False)
    first = run("quality", raise_on_error=False)
    count = len(first.get_asset_check_evaluations())
    assert prune_checks(instance, timedelta(days=1)) == 0
    assert prune_checks(instance, timedelta(0)) == count
    assert prune_checks(instance, timedelta(0)) == 0
