"""Checks of the share ledger: no loss is unexplained, and the books balance."""

from datetime import datetime, timedelta

import dagster as dg

from tbg_dagster import clock
from tbg_dagster.counting import counted
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.verdict import lasting, verdict


@dg.asset_check(asset="share_ledger")
def no_unexplained_loss(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """Every event that an engine numbered is stored, refused, or counted as dropped.

    ERROR: any other missing number is a share without an account.
    """
    with database.connect() as connection:

        def look() -> dict[tuple[str, datetime], int]:
            rows = connection.execute(
                query(__package__, "unexplained.sql"), {"days": thresholds.gap_days}
            ).fetchall()
            return {(row["instance"], row["hour"]): int(row["unexplained"]) for row in rows}

        lost = lasting(look)
    events = sum(lost.values())
    return verdict(
        not lost,
        f"{counted(events, 'event')} lost without explanation"
        + "".join(
            f"; {instance} at {hour:%F %H:%M}: {count}"
            for (instance, hour), count in list(lost.items())[:5]
        ),
        unexplained=events,
    )


@dg.asset_check(asset="share_ledger")
def books_balance(database: Database) -> dg.AssetCheckResult:
    """What an engine emitted is what is stored, refused or missing.

    ERROR: the two are counted apart, so a difference is a fault of ours.
    """
    with database.connect() as connection:
        wrong = connection.execute(query(__package__, "unbalanced.sql")).fetchall()
    return verdict(
        not wrong,
        "the books of every engine boot balance"
        if not wrong
        else f"the books of {counted(len(wrong), 'engine boot')} do not balance"
        + "".join(
            f"; {row['instance']}: emitted {row['emitted']}, accounted for {row['accounted']}"
            for row in wrong[:5]
        ),
        instances=len(wrong),
    )


@dg.asset_check(asset="share_ledger")
def numbers_are_stored(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """The tables hold every number of the last hours that the books take for stored, once.

    ERROR: an event was taken for a duplicate and is nowhere, or was stored twice. It counts
    the rows themselves; ``tbg ledger --audit`` does so over all that is kept.
    """
    start = clock.this_hour() - timedelta(hours=thresholds.recent_hours)
    with database.connect() as connection:
        wrong = connection.execute(query(__package__, "unstored.sql"), {"start": start}).fetchall()
    absent = sum(row["absent"] for row in wrong)
    doubled = sum(row["doubled"] for row in wrong)
    return verdict(
        not wrong,
        f"every number since {start:%F %H:%M} is stored once, refused, or known to be missing"
        if not wrong
        else f"{counted(absent, 'event')} in no table, {counted(doubled, 'row')} too many"
        + "".join(
            f"; {row['instance']}: {row['absent']} of {row['emitted']} nowhere, "
            f"{row['doubled']} twice"
            for row in wrong[:5]
        ),
        absent=int(absent),
        doubled=int(doubled),
    )
