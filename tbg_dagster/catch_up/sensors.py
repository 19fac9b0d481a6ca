"""Two sensors: one for what was never computed, one for shares that came late."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from tbg_dagster.catch_up.missing import CHAINS, ROLLUPS, Series, begin, missing, neighbours
from tbg_dagster.ledger.automation import CLOSE_LEDGER
from tbg_dagster.partitions import FIRST_MOMENT
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.shares.automation import DAILY_ROLLUP, HOURLY_ROLLUP
from tbg_dagster.weekly.automation import WEEKLY_RESET

ROLLUP_JOBS: Final = [HOURLY_ROLLUP, DAILY_ROLLUP, WEEKLY_RESET]
IN_PROGRESS: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
MOST_PER_RUN: Final = 168
MOST_RUNS: Final = 8
# A request that failed is repeated after this many seconds.
RETRY_SECONDS: Final = 900
# Without a tick for longer, the daemon was away. Shorter than the time from a schedule's
# tick to GRACE, so that what a shorter absence cost a schedule is not due yet.
AWAY: Final = timedelta(minutes=15)


def requests(
    series: Series, starts: Sequence[datetime], why: str, now: datetime
) -> list[dg.RunRequest]:
    """Runs of the series' job for these partitions, neighbours together."""
    made = []
    for group in list(neighbours(series, starts, MOST_PER_RUN))[:MOST_RUNS]:
        first, last = series.key_of(group[0]), series.key_of(group[-1])
        # One request in a quarter of an hour, and another try in the next.
        run_key = f"{why} {series.job} {first} {last} {int(now.timestamp()) // RETRY_SECONDS}"
        if len(group) == 1:
            made.append(
                dg.RunRequest(
                    run_key, job_name=series.job, partition_key=first, tags={"tbg/why": why}
                )
            )
        else:
            tags = {
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
                "tbg/why": why,
            }
            made.append(dg.RunRequest(run_key, job_name=series.job, tags=tags))
    return made


def busy(instance: dg.DagsterInstance, series: Series) -> bool:
    """Whether runs of the series are under way already."""
    return (
        instance.get_runs_count(dg.RunsFilter(job_name=series.job, statuses=IN_PROGRESS)) > 0
        or instance.get_backfills_count(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
        > 0
    )


def back(context: dg.SensorEvaluationContext, now: datetime) -> bool:
    """Whether this is the first tick after the daemon was away, or the first at all."""
    last = context.cursor
    context.update_cursor(now.isoformat())
    return last is None or now - datetime.fromisoformat(last) > AWAY


@dg.sensor(
    jobs=[*ROLLUP_JOBS, CLOSE_LEDGER],
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def missing_partitions_sensor(
    context: dg.SensorEvaluationContext, database: Database, thresholds: Thresholds
) -> dg.SensorResult | dg.SkipReason:
    """Makes up partitions that were missed: the daemon was down, or a run failed.

    Looks back over the refresh window, as far as there are raw shares: hours first,
    then the days that need them, then the weeks; and the ledger's hours, which need none
    of these. What is under way is not asked for again.
    """
    now = datetime.now(UTC)
    if back(context, now):
        # It repeats each schedule's last tick itself, at this very moment.
        return dg.SkipReason("the daemon has just come back: its schedules go first")
    with database.connect() as connection:
        since = begin(connection, thresholds.refresh_window, now)
    if since is None:
        return dg.SkipReason("no miner was seen yet")
    made: list[dg.RunRequest] = []
    waiting: list[str] = []
    for chain in CHAINS:
        for series in chain:
            if starts := missing(context.instance, series, since, now):
                if busy(context.instance, series):
                    waiting.append(series.job)
                else:
                    made += requests(series, starts, "missing", now)
                break  # what comes after needs these
    if made:
        return dg.SensorResult(made)
    if waiting:
        return dg.SkipReason(f"under way: {', '.join(waiting)}")
    return dg.SkipReason("every closed hour, day and week is there")


@dg.sensor(
    jobs=ROLLUP_JOBS,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def late_shares_sensor(
    context: dg.SensorEvaluationContext, database: Database, thresholds: Thresholds
) -> dg.SensorResult | dg.SkipReason:
    """Shares that came after their hour had closed: computes exactly what they touch again.

    First the hours, then the closed days and weeks that hold them. A finalised week
    that changes is published as a correction.
    """
    now = datetime.now(UTC)
    with database.connect() as connection:
        rows = connection.execute(
            query(__package__, "late_hours.sql"), [max(now - thresholds.late_window, FIRST_MOMENT)]
        ).fetchall()
    made: list[dg.RunRequest] = []
    for series, flag in zip(ROLLUPS, ("hourly", "daily", "weekly"), strict=True):
        starts = sorted({series.start_of(row["hour"]) for row in rows if row[flag]})
        closed = [start for start in starts if start + series.step <= now]
        # A week can be computed anew only when every hour in it has been.
        waiting = {series.start_of(row["hour"]) for row in rows if row["hourly"]}
        if flag != "hourly":
            closed = [start for start in closed if start not in waiting]
        if closed and not busy(context.instance, series):
            made += requests(series, closed, "late shares", now)
    if not made:
        return dg.SkipReason("no late share waits, or its run is under way")
    return dg.SensorResult(made)


SENSORS = [missing_partitions_sensor, late_shares_sensor]
