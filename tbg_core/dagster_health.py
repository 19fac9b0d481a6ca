"""Whether Dagster does its work, read from Dagster's own database.

Nothing here writes, and nothing imports Dagster: the command that asks stays quick.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow

from tbg_core.database import open_connection
from tbg_core.wording import counted

# A part of the daemon beats every 30 seconds, and first when it has started.
SILENT_SECONDS: Final = 180
FAILED_HOURS: Final = 1
# How long a run may be in a status before it began to work. Runs of a backfill queue
# behind each other, so they may stay QUEUED.
WAIT_SECONDS: Final = {"NOT_STARTED": 120, "QUEUED": 900, "STARTING": 300}

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Findings:
    """What is wrong, by what it is about: the daemon's parts, failed runs, runs that wait."""

    daemon: Sequence[str] = ()
    failed: Sequence[str] = ()
    waiting: Sequence[str] = ()


def look(database_url: str, uptime: float) -> Findings:
    """What Dagster's own database says.

    Args:
        database_url: of Dagster's own database.
        uptime: seconds that the daemon has had to begin its work.
    """
    try:
        with open_connection(database_url) as database:
            return Findings(
                _silent_parts(database, uptime), _failed_runs(database), _waiting_runs(database)
            )
    except psycopg.errors.UndefinedTable:
        if uptime < SILENT_SECONDS:
            return Findings()  # it makes its tables when it starts
        return Findings(["the daemon has made no tables in Dagster's database"])
    except psycopg.Error as error:
        return Findings(
            [f"Dagster's database does not answer: {str(error).strip().splitlines()[0]}"]
        )


def _silent_parts(database: Connection, uptime: float) -> list[str]:
    """Parts of the running daemon without a heartbeat, and those that beat with an error."""
    rows = database.execute(
        """
        select daemon_type, daemon_id, body,
               extract(epoch from now() at time zone 'utc' - timestamp)::float8 as age
        from daemon_heartbeats
        order by age
        """
    ).fetchall()
    if not rows or rows[0][3] > SILENT_SECONDS:
        if uptime < SILENT_SECONDS:
            return []
        last = f"for {rows[0][3]:.0f} s" if rows else "since it was started"
        return [f"no part of the daemon has beaten {last}"]
    # All parts of one daemon carry its id: a row with another one is of a part that an
    # older release of Dagster had.
    running = rows[0][1]
    found = []
    for part, daemon, body, age in rows:
        if daemon != running:
            continue
        if age > SILENT_SECONDS:
            found.append(f"{part} has not beaten for {age:.0f} s")
        else:
            error = _error(body)
            if error:
                found.append(f"{part} fails: {error}")
    return found


def _error(body: str) -> str | None:
    """The first line of the error that a heartbeat carries."""
    try:
        errors: Any = json.loads(body)["errors"]
        message = str(errors[0]["message"]) if errors else ""
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return message.strip().split("\n", 1)[0] or None


def _failed_runs(database: Connection) -> list[str]:
    """Jobs that failed lately, and have not succeeded since for the same partition."""
    rows = database.execute(
        """
        select failed.pipeline_name, count(*),
               (array_agg(failed.run_id order by failed.end_time desc))[1]
        from runs as failed
        where failed.status = 'FAILURE'
          and failed.end_time > extract(epoch from now()) - %(seconds)s
          and not exists (
              select from runs as later
              where later.pipeline_name = failed.pipeline_name
                and later.partition is not distinct from failed.partition
                and later.status = 'SUCCESS'
                and later.end_time > failed.end_time
          )
        group by failed.pipeline_name
        order by failed.pipeline_name
        """,
        {"seconds": FAILED_HOURS * 3600},
    ).fetchall()
    return [
        f"{_job(name)} failed"
        + (f" {counted(count, 'time')}" if count > 1 else "")
        + f" (run {run[:8]})"
        for name, count, run in rows
    ]


def _waiting_runs(database: Connection) -> list[str]:
    """Runs that have not begun to work in the time that this may take."""
    rows = database.execute(
        """
        select status, count(*), max(age)
        from (
            select status, extract(
                epoch from now() at time zone 'utc' - create_timestamp
            )::float8 as age
            from runs
            where status = any(%s) and (backfill_id is null or status <> 'QUEUED')
        ) as waiting
        where age > (%s::jsonb ->> status)::float8
        group by status
        order by status
        """,
        [list(WAIT_SECONDS), json.dumps(WAIT_SECONDS)],
    ).fetchall()
    return [
        f"{counted(count, 'run is', 'runs are')} {status}, the oldest for {age:.0f} s"
        for status, count, age in rows
    ]


def _job(name: str) -> str:
    # Dagster's name for assets that were materialised from the UI, without a job.
    return "a run of assets" if name == "__ASSET_JOB" else name
