"""The code location explains itself, and comes up with bad input named."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from tbg_dagster.blocks.sensors import block_found_sensor
from tbg_dagster.definitions import defs
from tbg_dagster.pages import REPOSITORY
from tbg_dagster.resources import Database, RedisServer, Thresholds
from tbg_dagster.resources.environment import from_environment
from tbg_dagster.timetable import JOBS
from tests.processes import LIMIT
from tests.tbg_dagster.conftest import Run, last_monday

ROOT = Path(__file__).resolve().parent.parent.parent


def test_everything_loads_and_fits_together() -> None:
    dg.Definitions.validate_loadable(defs)


def test_every_asset_says_what_it_is_whose_it_is_and_where_it_lives() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert len(spec.description or "") > 30, spec.key
        assert spec.group_name != "default", spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key


def test_every_asset_names_a_page_of_the_documentation_that_exists() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert (ROOT / str(spec.metadata["documentation"].value)).is_file(), spec.key


def test_every_asset_links_to_its_code() -> None:
    for definition in defs.resolve_asset_graph().assets_defs:
        for metadata in definition.metadata_by_key.values():
            (place,) = metadata["dagster/code_references"].code_references
            path, _, line = place.url.removeprefix(f"{REPOSITORY}/tree/main/").partition("#L")
            assert (ROOT / path).is_file()
            assert int(line) > 0


def named() -> Iterator[str]:
    """What an operator knows by its name: assets with their partitions, checks, and the rest."""
    graph = defs.resolve_asset_graph()
    for node in graph.asset_nodes:
        cut = node.partitions_def
        yield f"asset {node.key.to_user_string()} {type(cut).__name__ if cut else '-'}" + (
            f" {cut.schedule_type.value}"
            if isinstance(cut, dg.TimeWindowPartitionsDefinition) and cut.schedule_type
            else ""
        )
    for check in graph.asset_check_keys:
        yield f"check {check.asset_key.to_user_string()} {check.name}"
    repository = defs.get_repository_def()
    yield from (f"schedule {one.name}" for one in repository.schedule_defs)
    yield from (f"sensor {one.name}" for one in repository.sensor_defs)
    yield from (f"job {name}" for name in repository.job_names if not name.startswith("__"))


def test_what_has_a_name_keeps_it() -> None:
    """A name that is gone needs a note in the changelog; new ones are added to the file."""
    kept = (Path(__file__).parent / "definitions.txt").read_text().splitlines()
    assert len(kept) > 50
    assert set(kept) <= set(named())


def test_every_sensor_and_schedule_says_what_it_does() -> None:
    repository = defs.get_repository_def()
    found: list[Any] = [*repository.sensor_defs, *repository.schedule_defs]
    for item in found:
        assert len(item.description or "") > 20, item.name


def test_everything_that_the_realtime_side_writes_is_observed_with_the_quick_checks() -> None:
    graph = defs.resolve_asset_graph()
    realtime = {
        key for key in graph.get_all_asset_keys() if graph.get(key).group_name == "realtime"
    }
    assert all(graph.get(key).is_observable for key in realtime)
    layer = defs.resolve_job_def("quality").asset_layer
    assert realtime <= layer.selected_asset_keys


def test_where_no_day_is_archived_none_is_missing() -> None:
    code = (
        "from tbg_dagster.definitions import defs; import dagster as dg; "
        "from tbg_dagster.timetable import ARCHIVE; from tbg_dagster import clock, partitions; "
        "dg.Definitions.validate_loadable(defs); "
        "print(len(ARCHIVE.partitions.get_partition_keys()), "
        "partitions.last_closed(ARCHIVE.partitions, clock.now()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ARCHIVE_URL": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.stdout.strip() == "0 None", done.stderr


def test_the_lineage_of_every_asset_about_mining_begins_at_the_miner() -> None:
    graph = defs.resolve_asset_graph()
    miners = dg.AssetKey("miners")
    for key in graph.get_all_asset_keys() - {miners, dg.AssetKey("dagster_history")}:
        assert miners in graph.get_ancestor_asset_keys(key), key


def test_every_schedule_runs_at_its_time_in_utc_and_is_on() -> None:
    found = {}
    for schedule in defs.get_repository_def().schedule_defs:
        assert schedule.execution_timezone == "UTC", schedule.name
        assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING, schedule.name
        found[schedule.job_name] = schedule.cron_schedule
    assert found["hourly_rollup"] == "2 * * * *"
    assert found["daily_rollup"] == "10 0 * * *"
    assert found["weekly_reset"] == "5 0 * * 1"
    assert found["confirm_blocks"] == "*/10 * * * *"
    assert found["liveness"] == found["quality"] == "*/5 * * * *"
    assert found["housekeeping"] == "40 3 * * *"


@pytest.mark.parametrize(
    ("schedule", "moment", "partition"),
    [
        ("hourly_rollup_at_02", "%Y-%m-%d 00:02", "sunday-23:00"),
        ("daily_rollup_at_0010", "%Y-%m-%d 00:10", "sunday"),
        ("weekly_reset_on_monday_at_0005", "%Y-%m-%d 00:05", "week"),
    ],
)
def test_the_schedules_ask_for_what_has_just_closed(
    schedule: str, moment: str, partition: str
) -> None:
    monday = last_monday(0)
    sunday = f"{monday.replace(hour=0):%Y-%m-%d}"
    before = datetime.fromtimestamp(monday.timestamp() - 1, UTC)
    expected = {
        "sunday-23:00": f"{before:%Y-%m-%d}-23:00",
        "sunday": f"{before:%Y-%m-%d}",
        "week": f"{last_monday(1):%Y-%m-%d}",
    }[partition]
    when = datetime.strptime(f"{monday:{moment}}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    assert sunday == f"{when:%Y-%m-%d}"
    tick = (
        defs.get_repository_def()
        .get_schedule_def(schedule)
        .evaluate_tick(
            dg.build_schedule_context(
                scheduled_execution_time=when, repository_def=defs.get_repository_def()
            )
        )
    )
    assert [request.partition_key for request in tick.run_requests or []] == [expected]


def test_every_sensor_is_on() -> None:
    sensors = defs.get_repository_def().sensor_defs
    assert {sensor.name for sensor in sensors} == {
        "alerts_sensor",
        "archive_sensor",
        "block_found_sensor",
        "first_runs_sensor",
        "late_shares_sensor",
        "missing_partitions_sensor",
    }
    assert all(sensor.default_status == dg.DefaultSensorStatus.RUNNING for sensor in sensors)


def test_a_block_found_starts_one_confirmation_run_at_once(
    history: Any, resources: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    def tick() -> list[str | None]:
        context = dg.build_sensor_context(
            instance=instance, resources={"database": resources["database"]}
        )
        result = block_found_sensor(context)
        if isinstance(result, dg.SkipReason):
            return []
        assert isinstance(result, dg.SensorResult)
        return [request.run_key for request in result.run_requests or []]

    assert tick() == []
    history.block("a.1", 1, "ab" * 32)
    first = tick()
    assert first == tick()  # the same key: Dagster starts one run for it
    history.block("a.1", 2, "cd" * 32)
    assert len(first) == 1
    assert tick() != first


def test_the_instance_limits_what_runs_keeps_history_short_and_retries_only_crashes() -> None:
    text = (ROOT / "tbg_dagster" / "instance" / "dagster.yaml").read_text()
    instance = yaml.safe_load(text)
    assert instance["storage"]["postgres"]["postgres_url"] == {"env": "DAGSTER_PG_URL"}
    assert instance["run_retries"]["retry_on_asset_or_op_failure"] is False
    assert instance["run_monitoring"]["enabled"] is True
    assert instance["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert instance["concurrency"]["runs"]["max_concurrent_runs"] <= 4
    assert instance["retention"]["sensor"]["purge_after_days"]["skipped"] == 1


def sources() -> dict[Path, ast.Module]:
    """Every module of the batch side."""
    files = sorted((ROOT / "tbg_dagster").rglob("*.py"))
    return {file: ast.parse(file.read_text("utf-8")) for file in files}


def test_no_folder_imports_one_that_imports_it() -> None:
    folders = {path.name for path in (ROOT / "tbg_dagster").iterdir() if path.is_dir()}
    needs: dict[str, set[str]] = {}
    for file, module in sources().items():
        if file.parent.name not in folders:
            continue
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tbg_dagster"):
                names = (node.module or "").split(".")[1:2] or [item.name for item in node.names]
                found = needs.setdefault(file.parent.name, set())
                found |= (folders & set(names)) - {file.parent.name}
    assert "catch_up" in needs["shares"]  # the parsing works
    TopologicalSorter(needs).prepare()  # raises CycleError


def test_the_name_of_a_job_stands_in_the_timetable_alone() -> None:
    names = {job.name for job in JOBS}
    found = [
        node.value
        for module in sources().values()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and node.value in names
    ]
    # These two are groups of assets as well, whose page is named.
    assert sorted(found) == sorted([*names, *2 * ["housekeeping", "quality"]])


# --- Bad input -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "key"),
    [
        ("hourly_rollup", f"{last_monday():%Y-%m-%d}-00:00"),
        ("daily_rollup", f"{last_monday():%Y-%m-%d}"),
        ("weekly_reset", f"{last_monday():%Y-%m-%d}"),
        ("liveness", None),
    ],
)
def test_a_database_that_is_away_fails_the_run_and_is_named_without_its_password(
    run: Run, resources: dict[str, Any], job: str, key: str | None
) -> None:
    resources["database"] = Database(url="postgresql://tbg:s3cret@127.0.0.1:1/mining")
    result = run(job, key, raise_on_error=False)
    assert not result.success
    failures = [event for event in result.all_node_events if event.is_step_failure]
    text = str(failures[0].step_failure_data.error)
    assert "the database 127.0.0.1:1/mining (DATABASE_URL) cannot be reached" in text
    assert "s3cret" not in text


def test_redis_that_is_away_fails_the_news_and_leaves_them_waiting(
    run: Run, resources: dict[str, Any], connection: Any
) -> None:
    resources["redis_server"] = RedisServer(url="redis://:s3cret@127.0.0.1:1/0")
    result = run("weekly_reset", f"{last_monday():%Y-%m-%d}", raise_on_error=False)
    text = str(result.failure_data_for_node("weekly_leaderboard"))
    assert "Redis at 127.0.0.1:1 (REDIS_URL) cannot be reached" in text
    assert "s3cret" not in text
    assert len(connection.execute("select * from outbox where sent_at is null").fetchall()) <= 1


def test_a_database_without_our_tables_is_told_to_be_migrated(
    run: Run, resources: dict[str, Any], empty_database_url: str
) -> None:
    resources["database"] = Database(url=empty_database_url)
    result = run("liveness", raise_on_error=False)
    assert "run tbg migrate" in str(result.failure_data_for_node("worker_liveness"))


def test_thresholds_come_from_the_environment_and_nonsense_is_refused(
    monkeypatch: pytest.MonkeyPatch, run: Run, resources: dict[str, Any]
) -> None:
    monkeypatch.setenv("RETENTION_DAYS", "45")
    made = from_environment(Thresholds, "TBG_")
    with dg.build_resources({"thresholds": made}) as built:
        assert built.thresholds.retention_days == 45
        assert built.thresholds.confirmations == 100
    resources["thresholds"] = Thresholds(retention_days=0)
    with pytest.raises(dg.DagsterResourceFunctionError) as caught:
        run("housekeeping")
    assert "RETENTION_DAYS is 0" in str(caught.value.__cause__)


def test_a_first_week_that_is_no_monday_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tbg_dagster.partitions"],
        env={**os.environ, "TBG_FIRST_WEEK": "2026-01-06"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode != 0
    assert "TBG_FIRST_WEEK is '2026-01-06', and must be a Monday" in done.stderr
