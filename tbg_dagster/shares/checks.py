"""Checks of the hours and days."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final

import dagster as dg

from tbg_dagster import clock
from tbg_dagster.catch_up.missing import CHAINS, begin, missing
from tbg_dagster.counting import counted
from tbg_dagster.partitions import (
    DAILY,
    DAY,
    FIRST_MOMENT,
    FIRST_WEEK,
    HOUR,
    HOURLY,
    closed,
    key_of,
)
from tbg_dagster.queries import query
from tbg_dagster.resources import Archive, Database, Thresholds
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import oldest_raw, rollup_of
from tbg_dagster.verdict import WARN, verdict

# An hour's rollup is due this long after it has closed.
DUE: Final = timedelta(minutes=15)


@dg.asset_check(asset="shares_hourly", blocking=True)
def hours_equal_raw_shares(
    context: dg.AssetCheckExecutionContext, database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """The rollup counts what the raw shares count: the hours of its run, and a sample.

    Without a run, the hours of the last day. Of a long run, and of all other hours in the
    refresh window, a sample, another one every hour. ERROR, and blocking: what is computed
    from a wrong hour is wrong as well. An hour that was never computed is late
    and not wrong (`partitions_are_there` reports it), and late shares that wait for
    their sensor are not counted against it for ten minutes.
    """
    now = clock.now()
    there = context.instance.get_materialized_partitions(dg.AssetKey("shares_hourly"))
    with database.connect() as connection:
        hours = _hours(context, connection, now, thresholds)
        wrong = connection.execute(
            query(__package__, "wrong_hours.sql"),
            {"hours": hours, "computed": [hour for hour in hours if key_of(HOURLY, hour) in there]},
        ).fetchall()
    return verdict(
        not wrong,
        f"{len(wrong)} of {counted(len(hours), 'hour')} differ from their raw shares"
        + "".join(f"; {row['hour']:%F %H}h: {counted(row['rows'], 'row')}" for row in wrong[:5]),
        hours_compared=len(hours),
        hours_wrong=len(wrong),
    )


def _hours(
    context: dg.AssetCheckExecutionContext,
    connection: Connection,
    now: datetime,
    thresholds: Thresholds,
) -> list[datetime]:
    oldest = oldest_raw(connection)
    if oldest is None:
        return []
    due = now - DUE
    keys = closed(HOURLY, max(oldest, due - thresholds.refresh_window), due)
    asked = set(_asked(context) or keys[-24:])
    # What the run has just computed is due, however soon or late it runs.
    mine = [key for key in closed(HOURLY, oldest, now) if key in asked]
    others = [key for key in keys if key not in asked]
    # The same sample within an hour, so that a repeated check gives the same answer.
    chosen = random.Random(keys[-1] if keys else "")  # noqa: S311  # a sample, no secret
    most = thresholds.sampled_hours
    sample = chosen.sample(mine, min(max(most, 24), len(mine)))
    sample += chosen.sample(others, min(most, len(others)))
    return [HOURLY.start_time_for_partition_key(key) for key in sorted(sample)]


def _asked(context: dg.AssetCheckExecutionContext) -> Sequence[str]:
    """Keys of the partitions of the check's run; none outside a run of partitions."""
    if context.has_partition_key or context.has_partition_key_range:
        return list(context.partition_keys)
    return ()


@dg.asset_check(asset="shares_daily", blocking=True)
def days_equal_hours(
    context: dg.AssetCheckExecutionContext, database: Database
) -> dg.AssetCheckResult:
    """Every closed day of its run counts what its hours count; without a run, of 14 days.

    ERROR, and blocking: worker statistics come after.
    """
    today = clock.today()
    days = [DAILY.start_time_for_partition_key(key) for key in _asked(context)]
    start, end = (days[0], days[-1] + DAY) if days else (today - 14 * DAY, today)
    with database.connect() as connection:
        wrong = connection.execute(
            query(__package__, "wrong_days.sql"), {"start": start, "end": min(end, today)}
        ).fetchall()
    return verdict(
        not wrong,
        f"{counted(len(wrong), 'day differs', 'days differ')} from their hours"
        + "".join(f"; {row['day']:%F}" for row in wrong),
        days_wrong=len(wrong),
    )


@dg.asset_check(asset="shares_hourly")
def partitions_are_there(
    context: dg.AssetCheckExecutionContext, database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """Every hour, day and week that has closed was computed.

    WARN: the numbers are not wrong, they are late; the sensor makes them up. Shares before
    the first partition are in no rollup until TBG_FIRST_WEEK is set to an earlier Monday.
    """
    now = clock.now()
    with database.connect() as connection:
        since = begin(connection, thresholds.refresh_window, now)
    if since is None:
        return verdict(True, "no miner was seen yet")
    # The sensor needs a moment to make up what is overdue.
    late = {
        job.name: len(missing(context.instance, job, since, now - DUE))
        for job in chain.from_iterable(CHAINS)
    }
    said = ", ".join(f"{job}: {counted(count, 'partition')} missing" for job, count in late.items())
    if since < FIRST_MOMENT:
        said += (
            f"; the shares from {since:%F} on lie before the first partition, {FIRST_WEEK}: "
            "set TBG_FIRST_WEEK to an earlier Monday"
        )
    return verdict(since >= FIRST_MOMENT and not any(late.values()), said, WARN, **late)


@dg.asset_check(asset="shares_hourly")
def reject_ratio_is_usual(database: Database) -> dg.AssetCheckResult:
    """The share of rejects in the last closed hour is like that of the seven days before.

    WARN, when it is above one percent and further from its history than four times
    what both chance and that history's own spread explain: a stuck engine, a bad
    template, or a miner's firmware.
    """
    now = clock.this_hour()
    with database.connect() as connection:
        row = connection.execute(
            query(__package__, "reject_ratio.sql"), {"hour": now - HOUR, "end": now}
        ).fetchone()
    if row is None or row["history_hours"] < 6:
        return verdict(True, "not six hours of history yet")
    limit = row["usual"] + 4 * max(row["spread"], row["chance"])
    return verdict(
        row["ratio"] <= max(limit, 0.01),
        f"{row['ratio']:.2%} rejected in the last hour, usually {row['usual']:.2%} "
        f"(limit {max(limit, 0.01):.2%})",
        WARN,
        ratio=row["ratio"],
        usual=row["usual"],
    )


@dg.asset_check(asset="shares_hourly")
def windows_are_in_order(
    database: Database, thresholds: Thresholds, archive: Archive
) -> dg.AssetCheckResult:
    """Late window < refresh window < retention, in the settings and in the database.

    ERROR: computing an hour again whose raw shares are gone would delete its rollup. With an
    archive, TimescaleDB has no policy of its own: it would drop what is not archived.
    """
    retention = thresholds.retention
    with database.connect() as connection:
        if rollup_of(connection).name == "timescaledb":
            row = connection.execute(query(__package__, "retention_timescaledb.sql")).fetchone()
            if archive.url and row is not None:
                return verdict(
                    False,
                    "TimescaleDB drops shares that may not be archived: run tbg migrate with "
                    "ARCHIVE_URL set",
                )
            if not archive.url and row is None:
                return verdict(False, "shares have no retention policy")
            if row is not None:
                retention = min(retention, row["drop_after"])
    return verdict(
        thresholds.late_window < thresholds.refresh_window < retention,
        f"late {thresholds.late_window.days} d, refresh {thresholds.refresh_window.days} d, "
        f"retention {retention.days} d",
    )
