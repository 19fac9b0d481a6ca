"""Two sensors: one for what was never computed, one for shares that came late."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, Self

import dagster as dg
from pydantic import BaseModel, Field

from tbg_dagster import clock
from tbg_dagster.catch_up.late_hours import LateHours
from tbg_dagster.catch_up.missing import CHAINS, begin, due, missing
from tbg_dagster.partitions import FIRST_MOMENT, end_of, key_of, ranges
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.sensing import sensor
from tbg_dagster.timetable import ROLLUPS, WEEKLY_RESET, Job

IN_PROGRESS: Final = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# Dagster's own job, in which assets are computed that were chosen without a job: by hand, or by
# a backfill of the asset page.
ASSETS_OF_NO_JOB: Final = "__ASSET_JOB"
MOST_PER_RUN: Final = 168
MOST_RUNS: Final = 8
# What the asked runs have not computed is asked for again: after a quarter of an hour, half an
# hour, then every hour (a week may wait for the writer), and after a day of that once a day.
RETRY_SECONDS: Final = 900
PATIENT: Final = 25
HOURLY_RETRY: Final = timedelta(hours=1)
LONGEST_RETRY: Final = timedelta(days=1)
# Beside them, what is scheduled goes first (instance/dagster.yaml limits the tag).
TAGS: Final = {"dagster/priority": "-1"}
# Without a tick for longer, the daemon was away. It must be shorter than the time from a schedule's
# tick to GRACE: then nothing that a shorter absence delayed is due yet.
AWAY: Final = timedelta(minutes=15)


def _quarter(moment: datetime) -> int:
    return int(moment.timestamp()) // RETRY_SECONDS


class Asked(BaseModel):
    """How often partitions were asked for that are still not there."""

    times: int = 0
    last: datetime

    def due(self, now: datetime) -> bool:
        """Whether it is time to ask again."""
        wait = min(timedelta(seconds=RETRY_SECONDS) * (1 << min(self.times - 1, 16)), HOURLY_RETRY)
        if self.times > PATIENT:
            wait = LONGEST_RETRY
        # A tick is a little early or late. In the same quarter of an hour it is the same request,
        # of which Dagster makes one run.
        return _quarter(now) == _quarter(self.last) or now - self.last >= wait - timedelta(
            seconds=60
        )


class Memory(BaseModel):
    """What a sensor remembers in its cursor.

    Attributes:
        at: its last tick.
        asked: by job and first partition.
    """

    at: datetime | None = None
    asked: dict[str, Asked] = Field(default_factory=dict)

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        """Reads a cursor; an earlier version kept the time alone."""
        if not cursor:
            return cls()
        if cursor.startswith("{"):
            return cls.model_validate_json(cursor)
        return cls(at=datetime.fromisoformat(cursor))

    def forget(self, job: Job, missing: Collection[str]) -> None:
        """Forgets what of a job is there by now."""
        self.asked = {
            name: one
            for name, one in self.asked.items()
            if name in missing or not name.startswith(f"{job.name} ")
        }


def requests(
    job: Job, keys: Sequence[str], why: str, now: datetime, memory: Memory, state: str = ""
) -> list[dg.RunRequest]:
    """Runs of the job for these partitions, neighbours together; not yet what is not due again.

    Args:
        state: of what is asked for; another one is asked for at once.
    """
    assert job.partitions is not None
    made: list[dg.RunRequest] = []
    parts = list(ranges(job.partitions, keys, MOST_PER_RUN))
    memory.forget(job, {f"{job.name} {first} {state}" for first, _ in parts})
    for first, last in parts:
        if len(made) == MOST_RUNS:
            break  # those that are not due stand in nobody's way
        name = f"{job.name} {first} {state}"
        known = memory.asked.get(name)
        if known is not None and not known.due(now):
            continue
        times = known.times if known else 0
        if known is None or _quarter(now) != _quarter(known.last):
            memory.asked[name] = Asked(times=times + 1, last=now)
        run_key = f"{why} {job.name} {first} {last} {_quarter(now)}"
        tags = {"tbg/why": why, **TAGS}
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
    """Whether runs of the job, or of assets that were chosen without one, are under way already.

    So are those of a backfill: until its first run waits, and between two of its runs, it is
    asked for twice, which costs a run and changes nothing.
    """
    return any(
        instance.get_runs_count(dg.RunsFilter(job_name=name, statuses=IN_PROGRESS)) > 0
        for name in (job.name, ASSETS_OF_NO_JOB)
    )


def _waiting(job: Job, keys: Sequence[str], now: datetime, thresholds: Thresholds) -> str:
    """Another text each quarter of an hour while a week waits for its writers.

    Its runs do not fail, so that they need not be put off.
    """
    if job is not WEEKLY_RESET or job.partitions is None:
        return ""
    wait = timedelta(hours=thresholds.week_wait_hours) + 2 * timedelta(seconds=RETRY_SECONDS)
    return str(_quarter(now)) if now < end_of(job.partitions, keys[-1]) + wait else ""


@sensor(
    jobs=[job.definition for job in chain.from_iterable(CHAINS)],
    minimum_interval_seconds=60,
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
    memory = Memory.of(context.cursor)
    last, memory.at = memory.at, now
    context.update_cursor(memory.model_dump_json())
    if last is None or now - last > AWAY:
        # It repeats each schedule's last tick itself, at this very moment.
        return dg.SkipReason("the daemon has just come back: its schedules go first")
    with database.connect() as connection:
        since, closed_by = begin(connection, thresholds.horizon(now)), due(connection, now)
    if since is None:
        return dg.SkipReason("no miner was seen yet")
    made: list[dg.RunRequest] = []
    waiting: list[str] = []
    later: list[str] = []
    for jobs in CHAINS:
        for job in jobs:
            if keys := missing(context.instance, job, since, closed_by):
                if busy(context.instance, job):
                    waiting.append(job.name)
                elif asked := requests(
                    job, keys, "missing", now, memory, _waiting(job, keys, now, thresholds)
                ):
                    made += asked
                else:
                    later.append(job.name)
                break  # what comes after needs these
            memory.forget(job, [])
    context.update_cursor(memory.model_dump_json())
    if made:
        return dg.SensorResult(made)
    if waiting:
        return dg.SkipReason(f"under way: {', '.join(waiting)}")
    if later:
        return dg.SkipReason(f"failed, and asked for again later: {', '.join(later)}")
    return dg.SkipReason("every closed hour, day and week is there")


@sensor(
    jobs=[job.definition for job in ROLLUPS],
    minimum_interval_seconds=30,
)
def late_shares_sensor(
    context: dg.SensorEvaluationContext, database: Database, thresholds: Thresholds
) -> dg.SensorResult | dg.SkipReason:
    """Shares that came after their hour had closed: computes exactly what they touch again.

    First the hours, then the closed days and weeks that hold them. A finalised week
    that changes is published as a correction. Shares of any age, as long as the raw shares of
    their hour and week are there; the check `late_shares_are_counted` names the others. A week
    whose news has not reached Redis is asked for again as well.
    """
    now = clock.now()
    with database.connect() as connection:
        late = LateHours.read(connection, thresholds.horizon(now))
        untold = connection.execute(query(__package__, "untold_weeks.sql")).fetchall()
    memory = Memory.of(context.cursor)
    made: list[dg.RunRequest] = []
    grains = ((late.hourly, "hourly"), (late.daily, "daily"), (late.weekly, "weekly"))
    for job, (starts, grain) in zip(ROLLUPS, grains, strict=True):
        assert job.partitions is not None
        keys = {key_of(job.partitions, start) for start in starts if start >= FIRST_MOMENT}
        if job is not ROLLUPS[0]:
            # A day or week can be recomputed only after every hour in it.
            keys -= {key_of(job.partitions, hour) for hour in late.hourly if hour >= FIRST_MOMENT}
        if job is WEEKLY_RESET:
            keys |= {row["week"] for row in untold}
        closed = sorted(key for key in keys if end_of(job.partitions, key) <= now)
        if not closed:
            memory.forget(job, [])
        elif not busy(context.instance, job):
            # More that came since is asked for at once.
            made += requests(job, closed, "late shares", now, memory, str(late.shares[grain]))
    context.update_cursor(memory.model_dump_json())
    if not made:
        return dg.SkipReason(
            "no late share and no news waits, or its run is under way or not due again"
        )
    return dg.SensorResult(made)
