"""tbg status and the line of tbg up say when Dagster is sick, in Dagster's own tables."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from dagster import DagsterRun, DagsterRunStatus, deserialize_value
from dagster_postgres import PostgresRunStorage

from tbg.stack.dagster import problems, storage_url
from tbg.stack.supervisor import Process
from tbg_core.dagster_health import SILENT_SECONDS
from tbg_core.database import libpq_url

OLD = SILENT_SECONDS + 60
RUNNING = Process("daemon", "RUNNING", 1, uptime=10 * OLD)
JUST_STARTED = Process("daemon", "RUNNING", 1, uptime=5)


@pytest.fixture
def storage(empty_database_url: str) -> PostgresRunStorage:
    """Dagster's tables, made by Dagster."""
    return PostgresRunStorage(storage_url(empty_database_url), should_autocreate_tables=True)


def beat(
    storage: PostgresRunStorage,
    part: str,
    age: float = 0,
    daemon: str = "one",
    error: str | None = None,
) -> None:
    """Adds a heartbeat, as Dagster writes it; its type has no public name."""
    failed: dict[str, Any] = {
        "__class__": "SerializableErrorInfo",
        "message": error,
        "stack": [],
        "cls_name": None,
    }
    written = {
        "__class__": "DaemonHeartbeat",
        "timestamp": datetime.now(UTC).timestamp() - age,
        "daemon_type": part,
        "daemon_id": daemon,
        "errors": [failed] if error else [],
    }
    heartbeat: Any = deserialize_value(json.dumps(written))
    storage.add_daemon_heartbeat(heartbeat)


def add_run(
    storage: PostgresRunStorage,
    url: str,
    status: DagsterRunStatus,
    age: timedelta,
    *,
    job: str = "rollup_hours",
    partition: str = "2026-11-22-07:00",
    backfill: str | None = None,
) -> None:
    """Adds a run that was made, and ended if it has, ``age`` ago."""
    tags = {"dagster/partition": partition}
    if backfill:
        tags["dagster/backfill"] = backfill
    run = storage.add_run(DagsterRun(job_name=job, tags=tags))
    with psycopg.connect(url) as connection:
        connection.execute(
            "update runs set status = %(status)s, create_timestamp = create_timestamp - %(age)s, "
            "end_time = extract(epoch from now() - %(age)s) where run_id = %(run)s",
            {"status": status.value, "age": age, "run": run.run_id},
        )


def test_a_daemon_whose_parts_beat_is_well(
    storage: PostgresRunStorage, empty_database_url: str
) -> None:
    beat(storage, "SENSOR")
    beat(storage, "SCHEDULER", age=SILENT_SECONDS - 60)
    # An older release had this part; its row stays for ever.
    beat(storage, "LAST_YEARS_PART", age=10 * OLD, daemon="another")
    assert problems(empty_database_url, RUNNING) == []


def test_a_silent_part_is_named(storage: PostgresRunStorage, empty_database_url: str) -> None:
    beat(storage, "SENSOR")
    beat(storage, "SCHEDULER", age=OLD)
    (problem,) = problems(empty_database_url, RUNNING)
    assert problem.startswith("SCHEDULER has not beaten for 24")


def test_a_part_that_beats_with_an_error_is_named_with_it(
    storage: PostgresRunStorage, empty_database_url: str
) -> None:
    beat(storage, "SENSOR", error='psycopg.errors.SyntaxError: at or near "$1"\nLINE 1: NOTIFY')
    assert problems(empty_database_url, RUNNING) == [
        'SENSOR fails: psycopg.errors.SyntaxError: at or near "$1"'
    ]


def test_a_daemon_that_hangs_is_sick_and_one_that_starts_is_not(
    storage: PostgresRunStorage, empty_database_url: str
) -> None:
    assert problems(empty_database_url, JUST_STARTED) == []
    assert problems(empty_database_url, RUNNING) == [
        "no part of the daemon has beaten since it was started"
    ]
    beat(storage, "SENSOR", age=OLD)
    assert problems(empty_database_url, JUST_STARTED) == []
    (problem,) = problems(empty_database_url, RUNNING)
    assert problem.startswith("no part of the daemon has beaten for 24")


def test_a_daemon_that_does_not_run_is_sick(empty_database_url: str) -> None:
    given_up = Process("daemon", "FATAL", 0, 0)
    assert problems(empty_database_url, given_up) == ["the daemon does not run (fatal)"]


def test_a_database_that_dagster_has_not_set_up_yet_is_no_problem_at_first(
    empty_database_url: str,
) -> None:
    assert problems(empty_database_url, JUST_STARTED) == []
    assert problems(empty_database_url, RUNNING) == [
        "the daemon has made no tables in Dagster's database"
    ]


def test_a_database_that_is_away_is_a_problem() -> None:
    (problem,) = problems("postgresql://dagster:geheim@127.0.0.1:1/dagster", RUNNING)
    assert problem.startswith("Dagster's database does not answer: ")
    assert "geheim" not in problem


def test_runs_that_failed_within_the_hour_are_named(
    storage: PostgresRunStorage, empty_database_url: str
) -> None:
    beat(storage, "SENSOR")
    failed = DagsterRunStatus.FAILURE
    add_run(storage, empty_database_url, failed, timedelta(minutes=10))
    add_run(storage, empty_database_url, failed, timedelta(minutes=20), partition="another")
    add_run(storage, empty_database_url, failed, timedelta(hours=3), job="long_ago")
    (problem,) = problems(empty_database_url, RUNNING)
    assert problem.startswith("rollup_hours failed 2 times (run ")


def test_a_failed_run_that_was_repeated_with_success_is_no_problem(
    storage: PostgresRunStorage, empty_database_url: str
) -> None:
    beat(storage, "SENSOR")
    add_run(storage, empty_database_url, DagsterRunStatus.FAILURE, timedelta(minutes=20))
    add_run(storage, empty_database_url, DagsterRunStatus.SUCCESS, timedelta(minutes=10))
    assert problems(empty_database_url, RUNNING) == []
    # Neither the success of another partition nor one before it heals a failure.
    add_run(
        storage,
        empty_database_url,
        DagsterRunStatus.SUCCESS,
        timedelta(minutes=1),
        partition="another",
    )
    add_run(storage, empty_database_url, DagsterRunStatus.FAILURE, timedelta(minutes=5))
    assert len(problems(empty_database_url, RUNNING)) == 1


@pytest.mark.parametrize(
    ("status", "minutes", "backfill", "sick"),
    [
        (DagsterRunStatus.NOT_STARTED, 1, None, False),
        (DagsterRunStatus.NOT_STARTED, 4, None, True),
        (DagsterRunStatus.NOT_STARTED, 4, "backfill", True),
        (DagsterRunStatus.QUEUED, 10, None, False),
        (DagsterRunStatus.QUEUED, 20, None, True),
        (DagsterRunStatus.QUEUED, 20, "backfill", False),
        (DagsterRunStatus.STARTING, 10, None, True),
        (DagsterRunStatus.STARTED, 100, None, False),
    ],
)
def test_runs_that_wait_too_long_are_told(
    storage: PostgresRunStorage,
    empty_database_url: str,
    status: DagsterRunStatus,
    minutes: int,
    backfill: str | None,
    sick: bool,
) -> None:
    beat(storage, "SENSOR")
    add_run(storage, empty_database_url, status, timedelta(minutes=minutes), backfill=backfill)
    found = problems(empty_database_url, RUNNING)
    assert [problem.split(", the oldest for")[0] for problem in found] == (
        [f"1 run is {status.value}"] if sick else []
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://d:p@db.example:5432/dagster?sslmode=require",
        "postgres://d:p@db.example:5432/dagster?sslmode=require",
        "postgresql+psycopg://d:p@db.example:5432/dagster?sslmode=require",
        "postgresql+psycopg2://d:p@db.example:5432/dagster?sslmode=require",
    ],
)
def test_dagsters_database_may_be_named_in_the_usual_form(url: str) -> None:
    pinned = storage_url(url)
    assert pinned == "postgresql+psycopg2://d:p@db.example:5432/dagster?sslmode=require"
    assert libpq_url(pinned) == "postgresql://d:p@db.example:5432/dagster?sslmode=require"
