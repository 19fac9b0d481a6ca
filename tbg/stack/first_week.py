"""Where Dagster's partitions begin: no earlier than there are shares, so that none is missing."""

from datetime import UTC, date, datetime
from pathlib import Path

import psycopg

from tbg_core.files import write_private
from tbg_core.first_week import EARLIEST_WEEK, oldest_week
from tbg_core.names import week_start


def first_week(folder: Path, oldest: date | None = None) -> date:
    """The Monday on which the partitions begin: of the first start, or of older shares.

    It is kept in a file, which the code location reads (tbg_dagster/partitions.py): moving it
    later would hide partitions from Dagster.

    Args:
        oldest: the week of the oldest shares that the database knows.
    """
    file = folder / "first_week"
    this_week = week_start(datetime.now(UTC))
    try:
        kept = date.fromisoformat(file.read_text().strip())
    except (FileNotFoundError, ValueError):  # of the first start, or cut short by a crash
        kept = date.max
    # A week that only a wrong clock can have written is written again, once the clock is right.
    started = kept if EARLIEST_WEEK <= kept <= this_week else max(this_week, EARLIEST_WEEK)
    found = min(started, oldest or started)
    if found != kept and (oldest or this_week >= EARLIEST_WEEK):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, f"{found}\n")
    return found


class FirstWeek:
    """Moves the first partition back when an import or a simulation brings older shares.

    Args:
        folder: DAGSTER_HOME.
    """

    def __init__(self, folder: Path, database_url: str, storage_url: str) -> None:
        self._folder = folder
        self._database_url = database_url
        self._storage_url = storage_url
        self._reached: date | None = None  # the oldest week for which the code server started

    def keep(self) -> date:
        """Writes down where the partitions begin, for a code server that starts now."""
        try:
            oldest = oldest_week(self._database_url)
        except psycopg.Error:
            oldest = None  # moved() finds it once the database answers
        self._reached = oldest
        return first_week(self._folder, oldest)

    def moved(self) -> date | None:
        """The week of older shares, for which the code server has to start again; None without.

        While runs are under way, which would end with the code server, it is none.

        Raises:
            psycopg.Error: a database does not answer.
        """
        oldest = oldest_week(self._database_url)
        if oldest is None or oldest == self._reached or oldest >= first_week(self._folder):
            return None
        with psycopg.connect(self._storage_url, connect_timeout=10) as storage:
            busy = storage.execute(
                "select 1 from runs where status in ('STARTING', 'STARTED', 'CANCELING') limit 1"
            ).fetchone()
        return None if busy else oldest
