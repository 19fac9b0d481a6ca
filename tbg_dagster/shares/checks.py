"""Checks of the hours and days."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

import dagster as dg

from tbg_core.wording import counted
from tbg_dagster import clock
from tbg_dagster.catch_up.missing import CHAINS, GRACE, begin, live, missing
from tbg_dagster.partitions import (
    DAILY,
    DAY,
    FIRST_MOMENT,
    FIRST_WEEK,
    HOUR,
    HOURLY,
    closed,
    end_of,
    key_of,
)
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import rollup_of, without_raw
from tbg_dagster.standing import MOST_AGAIN, found_before, keep, not_looked
from tbg_dagster.verdict import ERROR, WARN, verdict

# An hour's rollup is due this long after it has closed.
DUE: Final = timedelta(minutes=15)


@dg.asset_check(asset="shares_hourly", blocking=True)
def hours_equal_raw_shares(
    context: dg.AssetCheckExecutionContext, database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """The rollup counts what the raw shares count: the hours of its run, and a sample.

    Without a run, the hours of the last day. Of a long run, and of all other hours whose raw
    shares are kept, a sample, another one every hour; and every hour that was found wrong
    before, until it is right. ERROR, and blocking: what is computed from a wrong hour is wrong
    as well. WARN if the hours of its own run are right. An hour that was never computed is late
    and not wrong (`partitions_are_there` reports it), and late shares that wait for
    their sensor are not counted against it for ten minutes.
    """
    now = clock.now()
    there = context.instance.get_materialized_partitions(dg.AssetKey("shares_hourly"))
    with database.connect() as connection:
        before = {
            datetime.fromisoformat(one)
            for one in found_before(connection, "hours_equal_raw_shares")
        }
        again = sorted(before.difference(without_raw(connection, before) if before else ()))
        hours = _hours(context, connection, now, thresholds)
        if not hours and not again:
            return not_looked("no hour has raw shares")
        later = [hour for hour in again if hour not in hours][MOST_AGAIN:]
        hours = sorted({*hours, *again}.difference(later))
        wrong = connection.execute(
            query(__package__, "wrong_hours.sql"),
            {"hours": hours, "computed": [hour for hour in hours if key_of(HOURLY, hour) in there]},
        ).fetchall()
        named = {row["hour"] for row in wrong} | set(later)
        standing = keep(
            connection,
            "hours_equal_raw_shares",
            [hour.isoformat() for hour in before],
            [hour.isoformat() for hour in named],
            [hour.isoformat() for hour in before.difference(again)],
        )
    asked = set(_asked(context))
    mine = not asked or any(key_of(HOURLY, hour) in asked for hour in named)
    return verdict(
        not named,
        f"{len(named)} of {counted(len(hours) + len(later), 'hour')} differ from their raw shares"
        + "".join(f"; {row['hour']:%F %H}h: {counted(row['rows'], 'row')}" for row in wrong[:5]),
        ERROR if mine else WARN,
        do="Materialise these hours of shares_hourly again, then their day and week",
        hours_compared=len(hours),
        hours_wrong=len(named),
        **standing,
    )


def _hours(
    context: dg.AssetCheckExecutionContext,
    connection: Connection,
    now: datetime,
    thresholds: Thresholds,
) -> list[datetime]:
    kept = set(rollup_of(connection).raw_days(connection))
    if not kept:
        return []
    due = now - DUE
    horizon = thresholds.horizon(now)
    keys = [key for key in closed(HOURLY, horizon, due) if _start(key).date() in kept]
    asked = set(_asked(context) or keys[-24:])
    # What the run has just computed is due, however soon or late it runs. A day that came back
    # from the archive lies before the horizon, and may be there in part.
    mine = [key for key in sorted(asked) if end_of(HOURLY, key) <= now]
    old = [_start(key) for key in mine if _start(key) < horizon]
    gone = without_raw(connection, old) if old else set()
    mine = [key for key in mine if _start(key).date() in kept and _start(key) not in gone]
    others = [key for key in keys if key not in asked]
    # The same sample within an hour, so that a repeated check gives the same answer.
    chosen = random.Random(keys[-1] if keys else "")  # noqa: S311  # a sample, no secret
    most = thresholds.sampled_hours
    sample = chosen.sample(mine, min(max(most, 24), len(mine)))
    sample += chosen.sample(others, min(most, len(others)))
    return [_start(key) for key in sorted(sample)]


def _start(key: str) -> datetime:
    return HOURLY.start_time_for_partition_key(key)


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

    And every day that was found wrong before, until it is right. ERROR, and blocking: worker
    statistics come after. WARN if the days of its own run are right.
    """
    today = clock.today()
    days = [DAILY.start_time_for_partition_key(key) for key in _asked(context)]
    start, end = (days[0], days[-1] + DAY) if days else (today - 14 * DAY, today)
    with database.connect() as connection:
        before = found_before(connection, "days_equal_hours")

        def differing(first: datetime, last: datetime) -> list[datetime]:
            rows = connection.execute(
                query(__package__, "wrong_days.sql"), {"start": first, "end": last}
            ).fetchall()
            return [row["day"] for row in rows]

        wrong = differing(start, min(end, today))
        mine = bool(wrong)
        elsewhere = [day for day in map(datetime.fromisoformat, before) if not start <= day < end]
        for day in elsewhere[:MOST_AGAIN]:
            wrong += differing(day, day + DAY)
        wrong += elsewhere[MOST_AGAIN:]
        keep(connection, "days_equal_hours", before, [day.isoformat() for day in wrong])
    return verdict(
        not wrong,
        f"{counted(len(wrong), 'day differs', 'days differ')} from their hours"
        + "".join(f"; {day:%F}" for day in wrong[:MOST_AGAIN]),
        ERROR if mine or not days else WARN,
        do="Materialise these days of shares_daily again, then their week",
        days_wrong=len(wrong),
    )


@dg.asset_check(asset="shares_hourly")
def partitions_are_there(
    context: dg.AssetCheckExecutionContext, database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """Every hour, day and week that has closed was computed.

    WARN: the numbers are not wrong, they are late; the sensor makes them up. Those that closed
    before this database was made are history, and no fault. Shares before
    the first partition are in no rollup until the code server starts again, or TBG_FIRST_WEEK
    is an earlier Monday.
    """
    now = clock.now()
    with database.connect() as connection:
        since = begin(connection, thresholds.horizon(now))
        if since is None:
            return not_looked("no miner was seen yet")
        # The sensor needs a moment to make up what is overdue.
        keys = [
            (job, missing(context.instance, job, since, now - DUE - GRACE))
            for job in chain.from_iterable(CHAINS)
        ]
        # Asked only if something is missing: it may look at every hour of an import.
        news = live(connection, since) if any(found for _, found in keys) else since
    late: dict[str, Any] = {}
    history = 0
    for job, found in keys:
        assert job.partitions is not None
        late[job.name] = sum(end_of(job.partitions, key) > news for key in found)
        history += len(found) - late[job.name]
    said = ", ".join(f"{job}: {counted(count, 'partition')} missing" for job, count in late.items())
    if history:
        said += f"; {counted(history, 'partition')} of history on the way"
    if since < FIRST_MOMENT:
        said += (
            f"; the shares from {since:%F} on lie before the first partition, {FIRST_WEEK}: "
            f"set TBG_FIRST_WEEK to {since:%F}, an earlier Monday, or to nothing, and start the "
            "code server again"
        )
    return verdict(
        since >= FIRST_MOMENT and not any(late.values()),
        said,
        WARN,
        do="Nothing at first: the sensor makes them up; if they stay, look at the failed runs",
        **late,
    )


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
    if row is None:
        return not_looked(f"no share in the hour from {now - HOUR:%F %H:%M} on")
    if row["history_hours"] < 6:
        return not_looked(
            f"{counted(row['history_hours'], 'hour')} with shares in the seven days before, and "
            "six are needed"
        )
    limit = row["usual"] + 4 * max(row["spread"], row["chance"])
    return verdict(
        row["ratio"] <= max(limit, 0.01),
        f"{row['ratio']:.2%} rejected in the last hour, usually {row['usual']:.2%} "
        f"(limit {max(limit, 0.01):.2%})",
        WARN,
        do="See which reason and whose: the board of a miner, or rejected by reason in shares_hourly",
        ratio=row["ratio"],
        usual=row["usual"],
    )


@dg.asset_check(asset="shares_hourly")
def late_shares_are_counted(database: Database) -> dg.AssetCheckResult:
    """Every share that came late is in its hour, and in its day and week once these closed.

    Of any age. WARN after an hour: the sensor makes it up. ERROR after a day: the run fails, the
    raw shares of the hour or of its week are gone (bring them back from the archive), or it
    lies before the first partition (set TBG_FIRST_WEEK to an earlier Monday).
    """
    with database.connect() as connection:
        [row] = connection.execute(query(__package__, "uncounted.sql"), {"now": clock.now()})
    return verdict(
        not row["hours"],
        f"late shares of {counted(row['hours'], 'hour')} are not counted everywhere"
        + (f", from {row['first']:%F %H}h to {row['last']:%F %H}h" if row["hours"] else ""),
        ERROR if row["old"] else WARN,
        do="Nothing at first: the sensor makes it up; after a day look at the failed runs, and at docs/archive.md for hours without raw shares",
        hours=row["hours"],
    )


@dg.asset_check(asset="shares_hourly")
def only_housekeeping_drops_raw_shares(database: Database) -> dg.AssetCheckResult:
    """TimescaleDB has no policy of its own that drops shares or events.

    ERROR: it would drop what is not archived, not counted, or was just brought back. Run
    tbg migrate, or remove the policy.
    """
    with database.connect() as connection:
        found = (
            connection.execute(query(__package__, "policies_timescaledb.sql")).fetchall()
            if rollup_of(connection).name == "timescaledb"
            else []
        )
    return verdict(
        not found,
        f"{counted(len(found), 'retention policy', 'retention policies')}"
        + "".join(f"; {row['hypertable_name']} after {row['drop_after']}" for row in found),
        do="Remove the policy: tbg migrate",
    )
