"""ISO weeks in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final

from devnet.simulator.scenario import SECOND

WEEK: Final = 7 * 86_400
"""Seconds."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def iso_week(stamp: int) -> str:
    """The ISO week of a timestamp in microseconds, as ``2026-W47``."""
    year, week, _ = (_EPOCH + timedelta(microseconds=stamp)).isocalendar()
    return f"{year:04d}-W{week:02d}"


def week_start(stamp: int) -> int:
    """Monday 00:00 UTC of the week of a timestamp, both in microseconds."""
    monday = 4 * 86_400 * SECOND  # 5 January 1970
    return stamp - (stamp - monday) % (WEEK * SECOND)
