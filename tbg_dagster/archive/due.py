"""Which days the archive still lacks."""

from datetime import date, datetime, timedelta

from tbg_core.periods import midnight
from tbg_dagster.archive.day import has_rows
from tbg_dagster.archive.retention import raw_days
from tbg_dagster.archive.store import Store
from tbg_dagster.partitions import DAY
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import rollup_of


def missing(connection: Connection, store: Store, now: datetime, grace: timedelta) -> list[date]:
    """Days with rows that closed more than ``grace`` ago and are not archived, in order."""
    archived = set(store.days())
    return [
        day
        for day in raw_days(connection, rollup_of(connection))
        if day not in archived and midnight(day) + DAY + grace <= now and has_rows(connection, day)
    ]


def outdated(connection: Connection, store: Store) -> list[date]:
    """Archived days whose hours have got late shares since, in order.

    The writer notes the hours; only those noted since the day was read are counted.
    """
    found = []
    rows = connection.execute(query(__package__, "late_days.sql")).fetchall()
    archived = set(store.days())
    for row in rows:
        if row["day"] not in archived:
            continue
        manifest = store.readable(row["day"])  # a damaged one is the check's to name
        # A transaction that was under way when the day was read noted an earlier time.
        if manifest is None or row["noted"] < manifest.read_at - timedelta(hours=1):
            continue
        known = {hour.hour: hour.shares for hour in manifest.hours}
        for hour in row["hours"]:
            [count] = connection.execute(
                "select count(*) as shares from shares "
                "where time >= %s and time < %s::timestamptz + interval '1 hour'",
                [hour, hour],
            )
            if count["shares"] > known.get(hour, 0):
                found.append(row["day"])
                break
    return found
