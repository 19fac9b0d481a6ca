"""History is history: an import brings no news. What fails is asked for ever more rarely."""

from collections import Counter
from datetime import datetime, timedelta
from importlib import resources as files
from typing import Any

import dagster as dg
import pytest
import yaml

from tbg_core.outbox import post
from tbg_dagster.catch_up.sensors import missing_partitions_sensor
from tbg_dagster.resources import BitcoinNode
from tbg_dagster.workers.liveness import mark_silent
from tbg_dagster.workers.stats import worker_stats
from tbg_notify.digest import digest
from tbg_notify.plan import plan
from tbg_notify.routes import Route
from tests.clock import Clock
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday, metadata_of

ALL = Route(to="json://127.0.0.1:1")


def week(connection: Connection, monday: datetime, entrants: int, kind: str = "result") -> None:
    year, number, _ = monday.isocalendar()
    post(
        connection,
        "mining:weekly_reset",
        f"weekly_reset:{monday:%F}:{kind}",
        {
            "kind": kind, "week": f"{year}-W{number:02d}", "week_start": f"{monday:%F}",
            "entrants": entrants, "top": [],
        },
    )  # fmt: skip


def test_an_import_tells_the_last_week_and_none_before_and_no_week_without_entrants(
    connection: Connection, history: History, clock: Clock
) -> None:
    # Of an import, the writer says that the user is as old as the first of its events.
    history.worker("a.1")
    connection.execute("update users set created_at = %s", [last_monday(12)])
    for weeks in range(2, 11):
        week(connection, last_monday(weeks), 3)
        week(connection, last_monday(weeks), 3, "correction")
    week(connection, last_monday(1), 0)
    plan(connection, {"r": ALL}, clock.now())
    rows = connection.execute("select state, reason from alert_deliveries").fetchall()
    assert {row["state"] for row in rows} == {"dropped"}
    assert {row["reason"].split(":")[0] for row in rows} == {"history", "nobody entered"}
    # Of a database that was there, a week that a person released late is news.
    connection.execute("update database_identity set made_at = now() - interval '1 year'")
    week(connection, last_monday(12), 3)
    assert plan(connection, {"r": ALL}, clock.now())["r", "waiting"] == 1


def test_imported_workers_were_never_here_and_do_not_go_offline(
    connection: Connection, history: History, clock: Clock
) -> None:
    for number in range(5):
        _, worker = history.worker(f"u{number}.w")
        connection.execute(
            "update workers set last_share = %s where id = %s",
            [clock.now() - timedelta(hours=2 + number), worker],
        )
    done = mark_silent(connection, clock.now(), timedelta(minutes=10), timedelta(0))
    assert (done.disconnected, done.alerted) == (0, 0)
    # One that has said goodbye while nobody looked has left.
    connection.execute(
        "insert into mining_events (time, event, payload) values (%s, 'miner_disconnected', "
        '\'{"user": "u1", "worker": "w"}\')',
        [clock.now() - timedelta(hours=2)],
    )
    done = mark_silent(connection, clock.now(), timedelta(minutes=10), timedelta(0))
    assert (done.disconnected, done.alerted) == (1, 1)


def test_imported_partitions_that_are_made_up_are_no_fault(
    connection: Connection, history: History, run: Run, clock: Clock
) -> None:
    start = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(days=20)
    history.share("a.1", start + timedelta(minutes=5))
    history.late(start, 1)
    connection.execute("update workers set first_seen = %s", [start])
    connection.execute("update users set created_at = %s", [start])

    def found() -> dg.AssetCheckEvaluation:
        [one] = [
            each
            for each in run("quality", raise_on_error=False).get_asset_check_evaluations()
            if each.check_name == "partitions_are_there"
        ]
        return one

    assert found().passed
    assert "of history on the way" in str(found().description)
    # Partitions that close from now on must be computed.
    made = clock.now() - timedelta(hours=5)
    connection.execute("update database_identity set made_at = %s", [made])
    assert not found().passed


def test_a_week_that_fails_is_asked_for_ever_more_rarely(
    connection: Connection,
    history: History,
    instance: dg.DagsterInstance,
    resources: dict[str, Any],
    clock: Clock,
) -> None:
    start = clock.now() - timedelta(days=3)
    history.share("a.1", start)
    connection.execute("update workers set first_seen = %s", [start])
    cursor, asked = clock.now().isoformat(), []
    for minutes in range(0, 3 * 24 * 60, 5):
        clock.move(timedelta(minutes=5))
        context = dg.build_sensor_context(
            instance=instance,
            cursor=cursor,
            resources={name: resources[name] for name in ("database", "thresholds")},
        )
        result = missing_partitions_sensor(context)
        cursor = context.cursor or cursor
        if isinstance(result, dg.SensorResult):
            asked += [
                (minutes, one.run_key)
                for one in result.run_requests or []
                if one.job_name == "hourly_rollup"
            ]
    # Dagster makes one run of a key; nothing that was asked for ever ran.
    keys = Counter(key.split()[2] for key in {str(key) for _, key in asked})
    assert max(keys.values()) <= 30  # for a run's first hour, and not 288
    assert max(minutes for minutes, _ in asked) > 36 * 60


def test_made_up_runs_leave_places_for_what_is_scheduled() -> None:
    text = (files.files("tbg_dagster") / "instance/dagster.yaml").read_text("utf-8")
    runs = yaml.safe_load(text)["concurrency"]["runs"]
    limits = {one["key"]: one["limit"] for one in runs["tag_concurrency_limits"]}
    assert set(limits) == {"dagster/backfill", "tbg/why"}
    assert sum(limits.values()) < runs["max_concurrent_runs"]


def test_without_a_node_nothing_fails_and_a_block_that_waits_is_a_warning(
    history: History, run: Run, resources: dict[str, Any]
) -> None:
    resources["bitcoin_node"] = BitcoinNode(url="")
    history.block("a.1", 1, "ab" * 32)
    assert run("confirm_blocks").success
    assert metadata_of(run("confirm_blocks"), "block_confirmations")["looked_at"] == 0


def test_the_digest_names_neither_a_sold_miner_nor_a_slow_one(
    connection: Connection, history: History, run: Run, clock: Clock
) -> None:
    day = last_monday()
    clock.moment = day + timedelta(days=2)
    history.share("a.nerd", day + timedelta(hours=9), 1.4, difficulty=1.0)
    history.shares(["a.bitaxe"], day, day + timedelta(days=1), 2000)
    for hours in (200 * 24, 40):
        _, worker = history.worker(f"a.gone{hours}")
        since = day + timedelta(days=1) - timedelta(hours=hours)
        connection.execute(
            "insert into worker_liveness (worker_id, silent_since, marked_at, allowed_gap_seconds) "
            "values (%s, %s, %s, 60)",
            [worker, since, since],
        )
    run("hourly_rollup", f"{day:%Y-%m-%d}-00:00", f"{day:%Y-%m-%d}-23:00")
    run("daily_rollup", f"{day:%Y-%m-%d}")
    text = digest(connection, ALL, day.date())
    assert text is not None
    assert [line.split(":")[0] for line in text.lines] == ["1 worker needs a look", "a.gone40"]


@pytest.mark.parametrize("shares", [2, 3, 10, 1000])
def test_the_hash_rate_while_up_counts_as_many_shares_as_gaps(shares: int) -> None:
    row = {
        "user_id": 1, "worker_id": 1, "accepted": shares, "rejected": 0, "work": 10.0 * shares,
        "work_squared": 100.0 * shares, "best_share_diff": 11.0, "longest_gap": 30.0,
        "uptime": 30.0 * (shares - 1), "explained": shares - 1, "rejects_by_reason": {},
    }  # fmt: skip
    (found,) = worker_stats([row]).to_dict("records")
    assert found["hashrate_up"] == pytest.approx(10.0 * 2**32 / 30)
