"""The time, from one place, so that a test can hold it still."""

from datetime import UTC, datetime


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def this_hour() -> datetime:
    """The start of the running hour."""
    return now().replace(minute=0, second=0, microsecond=0)


def today() -> datetime:
    """The start of the running day, UTC."""
    return this_hour().replace(hour=0)
