"""Times and weeks; all UTC. Events carry microseconds since the Unix epoch."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
# Microseconds. An event older than this does not change whether a worker counts as online now.
ONLINE_WITHIN: Final = 600 * SECOND

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY: Final = 4 * DAY  # the first one: the epoch was a Thursday


def from_micros(micros: int) -> datetime:
    """Microseconds since the epoch as an aware time.

    Raises:
        OverflowError: the year is not one of 1 to 9999.
    """
    return _EPOCH + timedelta(microseconds=micros)


def to_micros(moment: datetime) -> int:
    """An aware time as microseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def iso_week(micros: int) -> str:
    """The ISO week of a time, as ``2026-W47``."""
    year, week, _ = from_micros(micros).isocalendar()
    return f"{year:04}-W{week:02}"


def week_begins(micros: int) -> int:
    """Monday 00:00 of a time's ISO week, in microseconds."""
    return micros - (micros - _MONDAY) % WEEK


def midnight(day: date) -> datetime:
    """The start of a day."""
    return datetime.combine(day, time(), UTC)


def monday(day: date) -> date:
    """The first day of a day's ISO week."""
    return day - timedelta(days=day.weekday())


def monday_of(week: str) -> date:
    """The Monday of an ISO week as ``2026-W47``.

    Raises:
        ValueError: it is not one.
    """
    found = re.fullmatch(r"([0-9]{4})-W([0-9]{2})", week)
    if not found:
        raise ValueError(f"{week!r} does not look like 2026-W47")
    return date.fromisocalendar(int(found[1]), int(found[2]), 1)
