"""Old runs of Dagster and their event logs."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, runtime_checkable

import dagster as dg
import sqlalchemy as sa

FINISHED: Final = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
BATCH: Final = 200
# Of Dagster's schema, which has no public name for it.
CHECKS: Final = sa.table(
    "asset_check_executions",
    *map(sa.column, ("id", "asset_key", "check_name", "create_timestamp")),
)


@runtime_checkable
class _SqlStorage(Protocol):
    """A storage of Dagster that keeps its tables in a database."""

    def index_connection(self) -> AbstractContextManager[sa.Connection]:
        """A connection that commits each statement."""
        ...


def prune_runs(
    instance: dg.DagsterInstance,
    frequent_jobs: Collection[str],
    keep: timedelta,
    keep_partitioned: timedelta,
) -> int:
    """Deletes finished runs with their event logs; returns how many.

    Runs of partitions are kept for longer: with them goes Dagster's memory of which
    partitions are there.

    Args:
        frequent_jobs: whose runs go after ``keep``; all others after ``keep_partitioned``.
    """
    now = datetime.now(UTC)
    deleted = 0
    for job, age in [*((job, keep) for job in frequent_jobs), (None, keep_partitioned)]:
        old = dg.RunsFilter(job_name=job, statuses=FINISHED, created_before=now - age)
        while runs := instance.get_runs(old, limit=BATCH):
            for run in runs:
                instance.delete_run(run.run_id)
            deleted += len(runs)
    return deleted


def prune_checks(instance: dg.DagsterInstance, keep: timedelta) -> int:
    """Deletes old results of asset checks, but the newest of each; returns how many.

    Dagster keeps them in a table of their own, which nothing else empties.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, _SqlStorage):
        return 0
    newest = sa.select(sa.func.max(CHECKS.c.id)).group_by(CHECKS.c.asset_key, CHECKS.c.check_name)
    old = (datetime.now(UTC) - keep).replace(tzinfo=None)
    with storage.index_connection() as connection:
        done = connection.execute(
            CHECKS.delete().where(
                CHECKS.c.create_timestamp < old, CHECKS.c.id.not_in(newest.scalar_subquery())
            )
        )
        return int(done.rowcount)
