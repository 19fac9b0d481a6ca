"""Two sensors: one for what was never computed, one for shares that came late."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Final

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from tbg_dagster import clock
from tbg_dagster.catch_up.late_hours import LateHours
from tbg_dagster.catch_up.missing import CHAINS, begin, missing
from tbg_dagster.partitions import FIRST_MOMENT, end_of, key_of, ranges
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.timetable import ROLLUPS, Job

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


def requests(job: Job, keys: Sequence[str], why: str, now: datetime) -> list[dg.RunRequest]:
    """Runs of the job for these partitions, neighbours together."""
    assert job.partitions is not None
    made = []
    for first, last in islice(ranges(job.partitions, keys, MOST_PER_RUN), MOST_RUNS):
        # One request in a quarter of an hour, and another try in the next.
        run_key = f"{why} {job.name} {first} {last} {int(now.timestamp()) // RETRY_SECONDS}"
        tags = {"tbg/why": why}
        if first != last:
            tags["dagster/asset_partition_range_start"] = first
            tags["dagster/asset_partition_range_end"] = last
        made.append(
            dg.RunRequest(
                run_key,
                job_name=job.name,
                partition_key=first if first == last else None,
                tags=tags,
            )
        )
    return made


def busy(instance: dg.DagsterInstance, job: Job) -> bool:
    """Whether runs of the job are under way already."""
    return (
        instance.get_runs_count(dg.RunsFilter(job_name=job.name, statuses=IN_PROGRESS)) > 0
        or instance.get_backfills_count(BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED]))
        > 0
    )


def back(context: dg.SensorEvaluationContext, now: datetime) -> bool:
    """Whether this is the first tick after the daemon was away, or the first at all."""
    last = context.cursor
    context.update_cursor(now.isoformat())
    return last is None or now - datetime.fromisoformat(last) > AWAY


@dg.sensor(
    jobs=[job.definition for job in chain.from_iterable(CHAINS)],
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def missing_partitions_sensor(
    context: dg.SensorEvaluationContext, database: Database, thresholds: Thresholds
) -> dg.SensorResult | dg.SkipReason:
    """Makes up partitions that were missed: the daemon was down, or a run failed.

    Looks back as far as raw shares are kept: hours first, then the days that need them,
    then the weeks; and the ledger's hours, which need none of these. What is under way is not
    asked for again.
    """
    now = clock.now()
    if back(context, now):
        # It repeats each schedule's last tick itself, at this very moment.
        return dg.SkipReason("the daemon has just come back: its schedules go first")
    with database.connect() as connection:
        since = begin(connection, thresholds.horizon(now))
    if since is None:
        return dg.SkipReason("no miner was seen yet")
    made: list[dg.RunRequest] = []
    waiting: list[str] = []
    for jobs in CHAINS:
        for job in jobs:
            if keys := missing(context.instance, job, since, now):
                if busy(context.instance, job):
                    waiting.append(job.name)
                else:
                    made += requests(job, keys, "missing", now)
                break  # what comes after needs these
    if made:
        return dg.SensorResult(made)
    if waiting:
        return dg.SkipReason(f"under way: {', '.join(waiting)}")
    return dg.SkipReason("every closed hour, day and week is there")


@dg.sensor(
    jobs=[job.definition for job in ROLLUPS],
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def late_shares_sensor(
    context: dg.SensorEvaluationContext, database: Database, thresholds: Thresholds
) -> dg.SensorResult | dg.SkipReason:
    """Shares that came after their hour had closed: computes exactly what they touch again.

    First the hours, then the closed days and weeks that hold them. A finalised week
    that changes is published as a correction. Shares of any age, as long as the raw shares of
    their hour and week are there; the check `late_shares_are_counted` names the others.
    """
    now = clock.now()
    with database.connect() as connection:
        late = LateHours.read(connection, thresholds.horizon(now))
    made: list[dg.RunRequest] = []
    for job, starts in zip(ROLLUPS, (late.hourly, late.daily, late.weekly), strict=True):
        assert job.partitions is not None
        keys = {key_of(job.partitions, start) for start in starts if start >= FIRST_MOMENT}
        if job is not ROLLUPS[0]:
            # A day or week can be recomputed only after every hour in it.
            keys -= {key_of(job.partitions, hour) for hour in late.hourly if hour >= FIRST_MOMENT}
        closed = sorted(key for key in keys if end_of(job.partitions, key) <= now)
        if closed and not busy(context.instance, job):
            made += requests(job, closed, "late shares", now)
    if not made:
        return dg.SkipReason("no late share waits, or its run is under way")
    return dg.SensorResult(made)
