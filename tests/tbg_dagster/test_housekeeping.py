"""Housekeeping makes ahead what is needed, drops what is old, and says how much."""

from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from tbg_dagster import clock
from tbg_dagster.housekeeping.dagster_history import prune_checks, prune_runs
from tbg_dagster.resources import Thresholds
from tests.tbg_dagster.conftest import Connection, History, Run, metadata_of


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
