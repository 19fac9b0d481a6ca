"""A stack that is well looks well in its first hour: nothing is missing, and what is simulated says so."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest

from tbg_dagster import clock
from tbg_dagster.blocks import checks as blocks
from tbg_dagster.blocks.assets import _table
from tbg_dagster.catch_up.first_runs import JOBS, first_runs_sensor
from tbg_dagster.catch_up.missing import begin
from tbg_dagster.first_week import settle
from tbg_dagster.queries import query
from tbg_dagster.verdict import ERROR, WARN
from tests.processes import LIMIT
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday

Tick = Callable[[], set[str]]


@pytest.fixture
def tick(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Tick:
    """One tick of the first runs; the jobs that it asks for."""
    cursor: list[str | None] = [None]

    def evaluate() -> set[str]:
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor[0], resources={"database": resources["database"]}
        )
        result = first_runs_sensor(context)
        cursor[0] = context.cursor
        requests = result.run_requests if isinstance(result, dg.SensorResult) else []
        return {str(request.job_name) for request in requests or []}

    return evaluate


def materialize(instance: dg.DagsterInstance, *assets: str) -> None:
    for asset in assets:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset))


def test_what_a_schedule_would_compute_in_a_day_runs_once_after_the_start(
    connection: Connection, history: History, instance: dg.DagsterInstance, tick: Tick
) -> None:
    every = {job.name for job in JOBS}
    # Nobody has mined: there are no odds.
    assert tick() == every - {"odds"}
    history.share("a.1", clock.now())
    connection.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values ('ab', 1, 1, now())"
    )
    assert tick() == every
    materialize(instance, "block_confirmations", "network_difficulty", "block_odds")
    assert tick() == every - {"confirm_blocks", "odds"}
    materialize(instance, *(asset for job in JOBS for asset in job.assets))
    assert tick() == set()
    # From then on it asks nobody.
    instance.wipe_assets([dg.AssetKey("block_odds")])
    assert tick() == set()


def test_partitions_are_due_from_the_monday_of_the_first_miner(
    connection: Connection, history: History
) -> None:
    assert begin(connection, last_monday(5)) is None
    seen = last_monday(2) + timedelta(days=3, hours=7)
    history.share("a.1", seen)
    connection.execute("update workers set first_seen = %s", [seen])
    assert begin(connection, last_monday(5)) == last_monday(2)
    # Not from before what is kept.
    later = begin(connection, last_monday(1))
    assert later is None or later >= last_monday(1)


def test_without_tbg_up_partitions_begin_with_the_oldest_shares_too(
    connection: Connection, history: History, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/nonexistent")
    monkeypatch.setenv("DATABASE_URL", database_url)

    def settled(**named: str) -> str | None:
        monkeypatch.delenv("TBG_FIRST_WEEK", raising=False)
        for name, value in named.items():
            monkeypatch.setenv(name, value)
        settle()
        return os.environ.get("TBG_FIRST_WEEK")

    assert settled() == f"{last_monday(0):%F}"  # nobody has mined
    seen = last_monday(2) + timedelta(days=3, hours=7)
    history.share("a.1", seen)
    connection.execute("update workers set first_seen = %s", [seen])
    done = subprocess.run(
        [sys.executable, "-c", "import tbg_dagster.definitions, tbg_dagster.partitions as p; "
         "print(p.FIRST_WEEK)"],
        env={name: value for name, value in os.environ.items() if name != "TBG_FIRST_WEEK"},
        capture_output=True, check=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.stdout.strip() == f"{last_monday(2):%F}"
    assert settled(TBG_FIRST_WEEK="2026-01-05") == "2026-01-05"
    # Hours that were computed would be hidden: a code server waits for its database.
    with pytest.raises(psycopg.OperationalError):
        settled(DATABASE_URL="postgresql://127.0.0.1:1/x")
    monkeypatch.delenv("DATABASE_URL")
    assert settled() is None


def test_the_realtime_side_is_observed_with_the_quick_checks(
    history: History, run: Run, instance: dg.DagsterInstance
) -> None:
    history.share("a.1", clock.now())
    result = run("quality", raise_on_error=False)
    observed = {
        event.asset_observation_data.asset_observation.asset_key.to_user_string(): (
            event.asset_observation_data.asset_observation.metadata
        )
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION
    }
    assert {
        "miners", "mining_engine", "event_streams", "shares", "blocks", "workers",
        "network_blocks", "engine_instances", "dead_letters", "live_leaderboard",
    } == set(observed)  # fmt: skip
    assert observed["workers"]["dagster/row_count"].value == 1
    assert "newest" in observed["shares"]
    assert "newest" not in observed["blocks"]


def test_a_look_at_liveness_makes_no_other_asset_stale(run: Run) -> None:
    versions = {
        (materialization.tags or {})["dagster/data_version"]
        for _ in range(2)
        for materialization in run("liveness").asset_materializations_for_node("worker_liveness")
    }
    assert len(versions) == 1


def age(connection: Connection, source: str) -> None:
    connection.execute(
        "update blocks set source = %s, found_at = found_at - interval '2 days'", [source]
    )


def test_simulated_blocks_that_no_node_can_settle_say_so_and_are_no_error(
    connection: Connection, history: History, resources: dict[str, Any]
) -> None:
    database = resources["database"]
    history.block("a.1", 941_000, "ab" * 32)
    age(connection, "simulated")
    result = blocks.old_blocks_are_settled(database=database)
    assert isinstance(result, dg.AssetCheckResult)
    assert (result.passed, result.severity) == (False, WARN)
    assert str(result.description).startswith("simulated: ")
    node = blocks.node_has_every_block(database=database, bitcoin_node=resources["bitcoin_node"])
    assert isinstance(node, dg.AssetCheckResult)
    assert str(node.description).startswith("simulated: ")

    # A real block beside it is an error, and is named first.
    history.block("a.1", 942_000, "cd" * 32)
    connection.execute("update blocks set found_at = now() - interval '2 days'")
    result = blocks.old_blocks_are_settled(database=database)
    assert isinstance(result, dg.AssetCheckResult)
    assert (result.passed, result.severity) == (False, ERROR)
    assert not str(result.description).startswith("simulated")
    assert str(result.description).index("942000") < str(result.description).index("941000")


def test_a_table_of_blocks_says_what_became_of_them(
    connection: Connection, history: History
) -> None:
    history.block("a.1", 7, "ab" * 32, status="orphaned")
    history.block("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig", 8, "cd" * 32)
    rows = connection.execute(query("tbg_dagster.blocks", "newest.sql")).fetchall()
    shown = [record.data for record in _table(rows).records]
    assert {(row["height"], row["status"]) for row in shown} == {(7, "orphaned"), (8, "found")}
    assert "bcrt1qw5…ygt080" in {row["user"] for row in shown}
