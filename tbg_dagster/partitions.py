"""The partitions of time, all UTC: hours, days, and weeks from Monday 00:00.

``TBG_FIRST_WEEK`` names the Monday on which they begin. Without it they begin with the oldest
shares (first_week.py). Nothing before it can be computed. `tbg up` keeps it in a file instead,
and moves it back when older shares come in. Moving it earlier is always safe.
Moving it later hides partitions from Dagster, though not from the database.
"""

import os
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg

from tbg_core.periods import midnight
from tbg_dagster.first_week import kept_week

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(days=7)

Partitions = dg.TimeWindowPartitionsDefinition


def _first_week() -> str:
    value = os.environ.get("TBG_FIRST_WEEK") or kept_week() or "2026-01-05"
    try:
        monday = date.fromisoformat(value).isoweekday() == 1
    except ValueError:
        monday = False
    if not monday:
        raise ValueError(f"TBG_FIRST_WEEK is {value!r}, and must be a Monday, as 2026-01-05")
    return value


FIRST_WEEK: Final = _first_week()
FIRST_MOMENT: Final = midnight(date.fromisoformat(FIRST_WEEK))

HOURLY: Final = dg.HourlyPartitionsDefinition(start_date=f"{FIRST_WEEK}-00:00")
DAILY: Final = dg.DailyPartitionsDefinition(start_date=FIRST_WEEK)
WEEKLY: Final = dg.WeeklyPartitionsDefinition(start_date=FIRST_WEEK, day_offset=1)
# The days that are archived. Set to nothing, ARCHIVE_URL says that none is: then none is missing.
ARCHIVED: Final = (
    dg.DailyPartitionsDefinition(start_date=FIRST_WEEK, end_date=FIRST_WEEK)
    if os.environ.get("ARCHIVE_URL") == ""
    else DAILY
)

_LENGTH: Final = {HOURLY: HOUR, DAILY: DAY, ARCHIVED: DAY, WEEKLY: WEEK}

# A run of a backfill: long enough that its start costs little, short enough that a failure
# repeats little.
_PER_RUN: Final = {HOURLY: 168, DAILY: 28, WEEKLY: 4}

# The database was away for a moment, or a lock was lost. What no repetition mends says so.
RETRY: Final = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)


def backfill(partitions: Partitions) -> dg.BackfillPolicy:
    """How many neighbours one run of a backfill computes."""
    return dg.BackfillPolicy.multi_run(max_partitions_per_run=_PER_RUN[partitions])


def key_of(partitions: Partitions, moment: datetime) -> str:
    """Key of the partition that holds ``moment``."""
    return partitions.get_partition_key_for_timestamp(moment.timestamp())


def end_of(partitions: Partitions, key: str) -> datetime:
    """When a partition closes."""
    return partitions.time_window_for_partition_key(key).end


def closed(partitions: Partitions, since: datetime, until: datetime) -> list[str]:
    """Keys of the partitions that end after ``since`` and not after ``until``, in order."""
    # By arithmetic: Dagster would list every partition since the first one for that.
    length = _LENGTH[partitions]
    until = min(until, partitions.end or until)
    start = FIRST_MOMENT + max(0, (since - FIRST_MOMENT) // length) * length
    count = max(0, (until - start) // length)
    return [(start + number * length).strftime(partitions.fmt) for number in range(count)]


def last_closed(partitions: Partitions, moment: datetime) -> str | None:
    """Key of the partition that closed last before ``moment``; None before the first one has."""
    return next(iter(closed(partitions, moment - _LENGTH[partitions], moment)), None)


def ranges(partitions: Partitions, keys: Collection[str], most: int) -> Iterator[tuple[str, str]]:
    """First and last key of each run of neighbours, none longer than ``most``."""
    for found in partitions.subset_with_partition_keys(keys).get_partition_key_ranges(partitions):
        run = partitions.get_partition_keys_in_range(found)
        for start in range(0, len(run), most):
            part = run[start : start + most]
            yield part[0], part[-1]


def window(context: dg.AssetExecutionContext) -> tuple[datetime, datetime]:
    """Start and end (not included) of what a run was asked for, one partition or many.

    Raises:
        dagster.Failure: when it lies before the first partition.
    """
    asked = context.partition_time_window
    start, end = asked.start.astimezone(UTC), asked.end.astimezone(UTC)
    if start < FIRST_MOMENT:
        # Before anything is written: Dagster itself refuses only the finished result.
        raise dg.Failure(
            f"{start:%F %H:%M} lies before the first partition: they begin on {FIRST_WEEK} "
            "(TBG_FIRST_WEEK). Nothing was changed. Set it to an earlier Monday and start "
            "Dagster again.",
            allow_retries=False,
        )
    return start, end
