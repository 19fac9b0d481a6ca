"""Makes up days that the archive lacks, and days that have got late shares."""

from datetime import timedelta
from typing import Final

import dagster as dg

from tbg_core.periods import midnight
from tbg_dagster import clock
from tbg_dagster.archive.due import missing, outdated
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.catch_up.sensors import Memory, busy, requests
from tbg_dagster.partitions import FIRST_MOMENT
from tbg_dagster.resources import Archive, Database
from tbg_dagster.sensing import sensor
from tbg_dagster.timetable import ARCHIVE

# The schedule goes first.
GRACE: Final = timedelta(hours=2)


@sensor(
    job=ARCHIVE.definition,
    minimum_interval_seconds=600,
)
def archive_sensor(
    context: dg.SensorEvaluationContext, database: Database, archive: Archive
) -> dg.SensorResult | dg.SkipReason:
    """Archives days that were missed, the daemon having been down, and days with late shares.

    A day before the first partition is archived by housekeeping, when it is to be dropped.
    """
    if not archive.url:
        return dg.SkipReason("no archive is configured (ARCHIVE_URL)")
    if busy(context.instance, ARCHIVE):
        return dg.SkipReason("a run is under way")
    now = clock.now()
    try:
        store = Store.open(archive.url)
        with database.connect() as connection:
            days = {*missing(connection, store, now, GRACE), *outdated(connection, store)}
    except ArchiveError as error:
        raise dg.Failure(str(error)) from error
    keys = [str(day) for day in sorted(days) if midnight(day) >= FIRST_MOMENT]
    if not keys:
        return dg.SkipReason("every closed day is archived")
    memory = Memory.of(context.cursor)
    made = requests(ARCHIVE, keys, "archive", now, memory)
    return dg.SensorResult(made, cursor=memory.model_dump_json())
