"""The partitions of time, all UTC: hours, days, and weeks from Monday 00:00.

``TBG_FIRST_WEEK`` names the Monday on which they begin. Choose it once: moving it
later hides partitions from Dagster, though not from the database.
"""

import os
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(days=7)

HOUR_FORMAT: Final = "%Y-%m-%d-%H:%M"


def _first_week() -> str:
    value = os.environ.get("TBG_FIRST_WEEK", "2026-01-05")
    try:
        monday = date.fromisoformat(value).isoweekday() == 1
    except ValueError:
        monday = False
    if not monday:
        raise ValueError(f"TBG_FIRST_WEEK is {value!r}, and must be a Monday, as 2026-01-05")
    return value


FIRST_WEEK: Final = _first_week()
FIRST_MOMENT: Final = datetime.combine(date.fromisoformat(FIRST_WEEK), datetime.min.time(), UTC)

HOURLY: Final = dg.HourlyPartitionsDefinition(start_date=f"{FIRST_WEEK}-00:00")
DAILY: Final = dg.DailyPartitionsDefinition(start_date=FIRST_WEEK)
WEEKLY: Final = dg.WeeklyPartitionsDefinition(start_date=FIRST_WEEK, day_offset=1)


def hour_key(moment: datetime) -> str:
    """The partition of ``moment``'s hour."""
    return moment.astimezone(UTC).replace(minute=0).strftime(HOUR_FORMAT)


def window(context: dg.AssetExecutionContext) -> tuple[datetime, datetime]:
    """Start and end (not included) of what a run was asked for, one partition or many."""
    asked = context.partition_time_window
    return asked.start.astimezone(UTC), asked.end.astimezone(UTC)
