"""Housekeeping: each asset says how much it made or removed."""

from datetime import timedelta

import dagster as dg

from tbg_dagster import clock
from tbg_dagster.archive.retention import drop_archived, raw_days
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.housekeeping.dagster_history import prune_checks, prune_runs
from tbg_dagster.resources import Archive, Database, Thresholds
from tbg_dagster.rollup import rollup_of
from tbg_dagster.timetable import FREQUENT

GROUP = "housekeeping"
OWNERS = ["team:data"]


@dg.asset(
    deps=["shares", "shares_daily"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres"},
    pool="rollup",
)
def raw_partitions(
    context: dg.AssetExecutionContext,
    database: Database,
    thresholds: Thresholds,
    archive: Archive,
) -> dg.MaterializeResult[None]:
    """Days of raw shares and events: made ahead of time, dropped after retention.

    Shares are kept by whole weeks, until the last of a week is older than `RETENTION_DAYS`. A
    day is dropped only after its hours and days were computed once more from the raw shares;
    never while a week that it belongs to is not finalised, late shares of it are not counted,
    or a restored day is to be kept. On plain PostgreSQL, partitions are made ahead; TimescaleDB
    makes its chunks.

    With an archive (`ARCHIVE_URL`), a day is dropped only when the archive holds it: its files
    were read again, and they add up to its rows. `held_back` says which days past retention
    are kept, and why.
    """
    today = clock.today().date()
    made = 0
    with database.connect() as connection:
        rollup = rollup_of(connection)
        if rollup.name == "postgresql":
            [row] = connection.execute(
                "select ensure_partitions(%s, %s) as made",
                [today, today + timedelta(days=thresholds.partitions_ahead_days)],
            )
            made = row["made"]
        horizon = thresholds.horizon(clock.now()).date()
        past = [day for day in raw_days(connection, rollup) if day < horizon]
        try:
            store = Store.open(archive.url) if archive.url else None
            dropped, held = drop_archived(connection, rollup, store, past)
        except ArchiveError as error:
            raise dg.Failure(str(error)) from error
        days = rollup.raw_days(connection)
    for day in dropped:
        context.log.info("dropped %s", day)
    for day, why in held.items():
        context.log.warning("%s kept past retention: %s", day, why)
    return dg.MaterializeResult(
        metadata={
            "flavour": rollup.name,
            "partitions_made": made,
            # Of shares, and of mining_events.
            "partitions_dropped": 2 * len(dropped),
            "held_back": "; ".join(f"{day}: {why}" for day, why in held.items()) or "nothing",
            "oldest_day": f"{days[0]}" if days else "none",
            "newest_day": f"{days[-1]}" if days else "none",
        }
    )


@dg.asset(deps=["dead_letters"], group_name=GROUP, owners=OWNERS, kinds={"postgres"})
def aged_rows(database: Database, thresholds: Thresholds) -> dg.MaterializeResult[None]:
    """Expired rows: dead letters, sent messages, settled late hours."""
    with database.connect() as connection:
        letters = connection.execute(
            "delete from dead_letters where received_at < now() - make_interval(days => %s)",
            [thresholds.dead_letter_keep_days],
        ).rowcount
        messages = connection.execute(
            "delete from outbox where sent_at < now() - make_interval(days => %s)",
            [thresholds.outbox_keep_days],
        ).rowcount
        hours = connection.execute(
            "delete from late_share_hours where hour < %s "
            "and least(settled_hourly, settled_daily, settled_weekly) >= shares",
            [thresholds.horizon(clock.now())],
        ).rowcount
    return dg.MaterializeResult(
        metadata={
            "dead_letters_removed": letters,
            "messages_removed": messages,
            "late_hours_removed": hours,
        }
    )


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"dagster"})
def dagster_history(
    context: dg.AssetExecutionContext, thresholds: Thresholds
) -> dg.MaterializeResult[None]:
    """Old Dagster runs with their event logs, and old check results, removed.

    Otherwise every run makes the event log grow forever. The newest result of each
    check stays, and runs of partitions are kept for longer.
    """
    keep = timedelta(days=thresholds.run_keep_days)
    runs = prune_runs(
        context.instance,
        [job.name for job in FREQUENT],
        keep,
        timedelta(days=thresholds.partition_run_keep_days),
    )
    checks = prune_checks(context.instance, keep)
    return dg.MaterializeResult(
        metadata={
            "runs_removed": runs,
            "check_results_removed": checks,
        }
    )
