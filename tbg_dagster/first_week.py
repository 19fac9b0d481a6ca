"""Where the partitions begin if TBG_FIRST_WEEK is not set."""

import os
from datetime import UTC, datetime
from pathlib import Path

from tbg_core.first_week import EARLIEST_WEEK, oldest_week
from tbg_core.names import week_start


def kept_week() -> str:
    """What the stack of ``tbg up`` keeps beside Dagster's settings; '' without one."""
    try:
        return (Path(os.environ.get("DAGSTER_HOME", "")) / "first_week").read_text().strip()
    except OSError:
        return ""


def settle() -> None:
    """Sets TBG_FIRST_WEEK to the Monday of the oldest shares, or of this week without any.

    For this process and for the runs that it starts. It stays as it is where it is set, and
    where ``tbg up`` keeps it. Without DATABASE_URL nothing is known.

    Raises:
        psycopg.Error: the database does not answer. Partitions that begin too late would hide
            what was computed, so a code server without its database does not start.
    """
    url = os.environ.get("DATABASE_URL")
    if os.environ.get("TBG_FIRST_WEEK") or kept_week() or not url:
        return
    week = oldest_week(url) or max(week_start(datetime.now(UTC)), EARLIEST_WEEK)
    os.environ["TBG_FIRST_WEEK"] = week.isoformat()
