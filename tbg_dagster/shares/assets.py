"""Rollups of shares: hours from the raw rows, days from the hours."""

import time
from datetime import timedelta

import dagster as dg

from tbg_dagster.columns import columns
from tbg_dagster.hashes import HASHES_PER_DIFFICULTY
from tbg_dagster.late import settling
from tbg_dagster.partitions import DAILY, DAY, HOUR, HOURLY, hour_key, window
from tbg_dagster.queries import query
from tbg_dagster.resources import Database
from tbg_dagster.rollup import rollup_of
from tbg_dagster.shares.pictures import against_law, over_time

GROUP = "shares"
OWNERS = ["team:data"]
HOURS_IN_PICTURE = timedelta(hours=72)
DAYS_IN_PICTURE = timedelta(days=56)

# One computation of rollups at a time: two would only wait for each other's lock.
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
    # A week of hours a run: a failure repeats a week and no more.
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=168),
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

    Computed anew from the raw shares, however often: on TimescaleDB by refreshing
    the continuous aggregate, on plain PostgreSQL by rebuilding the hours. Hours
    whose raw shares were dropped stay as they are.
    """
    started = time.monotonic()
    start, end = window(context)
    with database.connect() as connection:
        rollup = rollup_of(connection)
        with settling(connection, "hourly", start, end):
            computed = rollup.refresh_hours(connection, start, end)
        rows = connection.execute(
            query(__package__, "hours.sql"), {"start": start, "end": end}
        ).fetchall()
        drawn = connection.execute(
            query(__package__, "hours.sql"), {"start": end - HOURS_IN_PICTURE, "end": end}
        ).fetchall()
    by_key = {hour_key(row["bucket"]): row for row in rows}
    for key in context.partition_keys:
        row = by_key.get(key)
        context.add_asset_metadata(
            {
                "dagster/partition_row_count": row["rows"] if row else 0,
                "shares": row["shares"] if row else 0,
                "rejected": row["rejected"] if row else 0,
                "hashrate": row["work"] * HASHES_PER_DIFFICULTY / 3600 if row else 0.0,
            },
            partition_key=key,
        )
    # One picture a run, at its last hour: every one is kept in the event log.
    context.add_asset_metadata(
        {"picture": over_time(drawn, HOUR, f"Shares and hashrate by hour, to {end:%d %b %H:%M}")},
        partition_key=context.partition_keys[-1],
    )
    return dg.MaterializeResult(
        metadata={
            "flavour": rollup.name,
            "computed": f"{computed[0]:%F %H:%M} to {computed[1]:%F %H:%M}"
            if computed
            else "nothing",
            "rows_of_run": sum(row["rows"] for row in rows),
            "seconds": round(time.monotonic() - started, 3),
        }
    )


@dg.asset(
    partitions_def=DAILY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=28),
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
    Points that leave the band speak of a miner that withholds or forges.
    """
    started = time.monotonic()
    start, end = window(context)
    with database.connect() as connection:
        rollup = rollup_of(connection)
        with settling(connection, "daily", start, end):
            rollup.refresh_days(connection, start, end)
        rows = connection.execute(
            query(__package__, "days.sql"), {"start": start, "end": end}
        ).fetchall()
        drawn = connection.execute(
            query(__package__, "days.sql"), {"start": end - DAYS_IN_PICTURE, "end": end}
        ).fetchall()
        difficulties = connection.execute(
            query(__package__, "difficulties.sql"), {"start": end - DAY, "end": end}
        ).fetchall()
    by_key = {f"{row['bucket']:%F}": row for row in rows}
    for key in context.partition_keys:
        row = by_key.get(key)
        context.add_asset_metadata(
            {
                "dagster/partition_row_count": row["rows"] if row else 0,
                "shares": row["shares"] if row else 0,
                "rejected": row["rejected"] if row else 0,
                "users": row["users"] if row else 0,
                "hashrate": row["work"] * HASHES_PER_DIFFICULTY / 86_400 if row else 0.0,
            },
            partition_key=key,
        )
    last = end - DAY
    context.add_asset_metadata(
        {
            "picture": over_time(drawn, DAY, f"Shares and hashrate by day, to {last:%d %b %Y}"),
            "difficulties": against_law(
                difficulties, f"Share difficulties of {last:%d %b %Y} against their law"
            ),
        },
        partition_key=context.partition_keys[-1],
    )
    return dg.MaterializeResult(
        metadata={
            "flavour": rollup.name,
            "rows_of_run": sum(row["rows"] for row in rows),
            "seconds": round(time.monotonic() - started, 3),
        }
    )


ASSETS = [shares_hourly, shares_daily]
