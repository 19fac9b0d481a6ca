"""Housekeeping: each asset says how much it made or removed."""

from datetime import timedelta

import dagster as dg

from tbg_dagster import clock
from tbg_dagster.archive.retention import drop_archived, raw_days
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.housekeeping.dagster_history import prune_checks, prune_runs
from tbg_dagster.partitions import DAY, midnight
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

    On plain PostgreSQL, a day is dropped only after its hours and days were computed once
    more from the raw shares, and never while a week that it belongs to is not finalised.
    TimescaleDB makes its chunks, and its policy drops them.

    With an archive (`ARCHIVE_URL`), a day is dropped here, on TimescaleDB as well, and only
    when the archive holds it: its files were read again, and they add up to its rows.
    `held_back` says which days past retention are kept, and why.
    """
    today = clock.today().date()
    keep_from = today - timedelta(days=thresholds.retention_days)
    made, dropped, held = 0, list[str](), dict[str, str]()
    with database.connect() as connection:
        rollup = rollup_of(connection)
        if rollup.name == "postgresql":
            [row] = connection.execute(
                "select ensure_partitions(%s, %s) as made",
                [today, today + timedelta(days=thresholds.partitions_ahead_days)],
            )
            made = row["made"]
        if archive.url or rollup.name == "postgresql":
            [row] = connection.execute(
                "select min(week_start) as week from weekly_best_diff "
                "where finalized_at is null and week_start < date_trunc('week', %s::date)",
                [today],
            )
            if row["week"] and row["week"] < keep_from:
                held[f"{row['week']} to {keep_from - DAY}"] = "that week is not finalised"
                keep_from = row["week"]
        if archive.url:
            past = [day for day in raw_days(connection, rollup) if day < keep_from]
            try:
                gone, kept = drop_archived(connection, rollup, Store.open(archive.url), past)
            except ArchiveError as error:
                raise dg.Failure(str(error)) from error
            dropped = [str(day) for day in gone]
            held |= {str(day): why for day, why in kept.items()}
        elif rollup.name == "postgresql":
            for day in rollup.raw_days(connection):
                if day < keep_from:
                    start = midnight(day)
                    rollup.refresh_hours(connection, start, start + DAY)
                    rollup.refresh_days(connection, start, start + DAY)
            dropped = [
                name["drop_partitions"]
                for name in connection.execute("select drop_partitions(%s)", [keep_from])
            ]
        days = rollup.raw_days(connection)
    for name in dropped:
        context.log.info("dropped %s", name)
    for name, why in held.items():
        context.log.warning("%s kept past retention: %s", name, why)
    return dg.MaterializeResult(
        metadata={
            "flavour": rollup.name,
            "partitions_made": made,
            "partitions_dropped": len(dropped),
            "held_back": "; ".join(f"{name}: {why}" for name, why in held.items()) or "nothing",
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
            "delete from late_share_hours where hour < now() - make_interval(days => %s)",
            [thresholds.retention_days],
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
