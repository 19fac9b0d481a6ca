"""Closed partitions that were never computed."""

from datetime import datetime, timedelta
from typing import Final

import dagster as dg

from tbg_core.names import week_start
from tbg_core.periods import midnight
from tbg_dagster.partitions import closed
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import rollup_of
from tbg_dagster.timetable import CLOSE_LEDGER, PUBLISH_ROOTS, ROLLUPS, Job

# When a partition should be there after it has closed: its schedule, and a while.
GRACE: Final = timedelta(minutes=30)
# None of a chain waits for another chain.
CHAINS: Final = (ROLLUPS, (CLOSE_LEDGER, PUBLISH_ROOTS))


def begin(connection: Connection, horizon: datetime) -> datetime | None:
    """From when on partitions should be there: None while no miner was ever seen.

    As far back as ``horizon``, as there are raw shares, and as there were miners; and from the
    Monday of that week, where Dagster's partitions begin: an hour before the first miner counts
    nothing, and is no hour that is missing.
    """
    days = [midnight(day) for day in rollup_of(connection).raw_days(connection)]
    kept = [day for day in days if day >= horizon]
    row = connection.execute(
        "select least((select min(first_seen) from workers), "
        "(select min(hour) from late_share_hours)) as seen"
    ).fetchone()
    if not kept or row is None or row["seen"] is None:
        return None
    seen: datetime = row["seen"]
    return midnight(week_start(max(seen, kept[0])))


def live(connection: Connection, since: datetime) -> datetime:
    """From when on a missing partition is news: before that is history, which an import brings.

    Since the database was made, or the first hour before that with shares that did not come late.
    """
    [row] = connection.execute(
        "select coalesce((select min(h) from generate_series("
        "    %(since)s::timestamptz, made_at, interval '1 hour') as h "
        "  where not exists (select from late_share_hours l where l.hour = h) "
        "    and exists (select from shares s where s.time >= h and s.time < h + interval '1 hour')"
        "), made_at) as live from database_identity",
        {"since": since.replace(minute=0, second=0, microsecond=0)},
    )
    moment: datetime = row["live"]
    return max(moment, since)


def due(connection: Connection, now: datetime) -> datetime:
    """When a partition has closed at the latest that should be there.

    Its schedule has had its time; or it closed before the database was made, and no schedule ever
    comes for it.
    """
    [row] = connection.execute("select made_at from database_identity")
    made: datetime = row["made_at"]
    return max(now - GRACE, min(now, made))


def missing(
    instance: dg.DagsterInstance, job: Job, since: datetime, closed_by: datetime
) -> list[str]:
    """Keys of the job's partitions since then that had closed by a time and lack an asset."""
    assert job.partitions is not None
    there = [instance.get_materialized_partitions(dg.AssetKey(asset)) for asset in job.assets]
    return [
        key
        for key in closed(job.partitions, since, closed_by)
        if not all(key in keys for keys in there)
    ]
