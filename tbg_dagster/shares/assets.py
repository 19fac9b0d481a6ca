"""Rollups of shares: hours from the raw rows, days from the hours."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

import dagster as dg
from psycopg import sql
from psycopg.rows import DictRow

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_dagster.columns import columns
from tbg_dagster.late import computing
from tbg_dagster.partitions import DAILY, DAY, HOUR, HOURLY, RETRY, backfill, window
from tbg_dagster.picture import hashrate
from tbg_dagster.queries import query
from tbg_dagster.resources import Database
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import recompute, rollup_of
from tbg_dagster.shares.pictures import against_law

GROUP = "shares"
OWNERS = ["team:data"]

# The numbers of a partition that the UI plots, besides its hashrate.
_PLOTTED: Final = ("shares", "accepted", "rejected", "users", "workers")

# One computation of rollups at a time, and none while raw shares are dropped.
POOL = "rollup"

_COLUMNS = {
    "user_id": ("integer", "users.id"),
    "worker_id": ("integer", "workers.id"),
    "shares": ("bigint", "submitted"),
    "accepted": ("bigint", "of them valid"),
    "rejected": ("bigint", "of them invalid"),
    "work": ("double precision", "sum of accepted assigned difficulty; times 2^32 = hashes"),
    "best_share_diff": ("double precision", "highest achieved difficulty of a valid share"),
    "first_share": ("timestamptz", "time of the first"),
    "last_share": ("timestamptz", "time of the last"),
}


@dg.asset(
    partitions_def=HOURLY,
    backfill_policy=backfill(HOURLY),
    retry_policy=RETRY,
    deps=["shares"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres", "sql"},
    pool=POOL,
    metadata=columns(bucket=("timestamptz", "start of the hour, UTC"), **_COLUMNS),
)
def shares_hourly(
    context: dg.AssetExecutionContext, database: Database
) -> dg.MaterializeResult[None]:
    """Shares per worker and hour (UTC).

    Can be recomputed from the raw shares any number of times: on TimescaleDB by refreshing
    the continuous aggregate, on plain PostgreSQL by rebuilding the hours. Hours
    whose raw shares were dropped stay as they are. A day that had been computed from these
    hours is computed again with them.
    """
    start, end = window(context)
    with database.connect() as connection:
        rollup = rollup_of(connection)
        with computing(connection, "hourly", start, end):
            computed = recompute(connection, start, end)
        rows = _totals(connection, "shares_hourly", start, end)
    _record(context, rows, HOUR)
    span = f"{computed[0]:%F %H:%M} to {computed[1]:%F %H:%M}" if computed else "nothing"
    return dg.MaterializeResult(metadata={"flavour": rollup.name, "computed": span})


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=backfill(DAILY),
    retry_policy=RETRY,
    deps=[shares_hourly],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres", "sql"},
    pool=POOL,
    metadata=columns(bucket=("timestamptz", "start of the day, UTC"), **_COLUMNS),
)
def shares_daily(
    context: dg.AssetExecutionContext, database: Database
) -> dg.MaterializeResult[None]:
    """Shares per worker and day (UTC), from the hours.

    The picture holds the shares of the day against the law of share difficulties:
    a share of difficulty d reaches x with probability d/x, so work/x shares reach x.
    Points outside the band suggest a miner that withholds or forges shares.
    """
    start, end = window(context)
    with database.connect() as connection:
        rollup = rollup_of(connection)
        with computing(connection, "daily", start, end):
            rollup.refresh_days(connection, start, end)
        rows = _totals(connection, "shares_daily", start, end)
        difficulties = connection.execute(
            query(__package__, "difficulties.sql"), {"start": end - DAY, "end": end}
        ).fetchall()
    title = f"Share difficulties of {end - DAY:%d %b %Y} against their law"
    context.add_asset_metadata(
        {"difficulties": against_law(difficulties, title)},
        partition_key=context.partition_keys[-1],
    )
    _record(context, rows, DAY)
    return dg.MaterializeResult(metadata={"flavour": rollup.name})


def _totals(
    connection: Connection,
    rollup: Literal["shares_hourly", "shares_daily"],
    start: datetime,
    end: datetime,
) -> list[DictRow]:
    statement = sql.SQL(query(__package__, "totals.sql")).format(rollup=sql.Identifier(rollup))
    return connection.execute(statement, {"start": start, "end": end}).fetchall()


def _record(context: dg.AssetExecutionContext, rows: Iterable[DictRow], step: timedelta) -> None:
    """The numbers of every partition that was asked for, which the UI plots."""
    by_start = {row["bucket"]: row for row in rows}
    for key in context.partition_keys:
        row = by_start.get(context.assets_def.partitions_def.start_time_for_partition_key(key), {})
        rate = row.get("work", 0.0) * HASHES_PER_DIFFICULTY / step.total_seconds()
        context.add_asset_metadata(
            {
                "dagster/partition_row_count": row.get("rows", 0),
                **{name: row.get(name, 0) for name in _PLOTTED},
                "hashrate": rate,
                "hashrate_text": hashrate(rate),
            },
            partition_key=key,
        )
