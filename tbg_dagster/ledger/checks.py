"""Checks of the share ledger: no loss is unexplained, and the books balance."""

from datetime import datetime, timedelta
from typing import Any, Final

import dagster as dg

from tbg_core.wording import counted
from tbg_dagster import clock
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.standing import found_before, keep
from tbg_dagster.verdict import WARN, lasting, verdict

EVER_DAYS: Final = 36_500
MOST_NAMED: Final = 100
# Rows of a longer while are counted only in the first minutes of an hour.
LONG: Final = timedelta(days=1)
LOOK_MINUTES: Final = 5


@dg.asset_check(asset="share_ledger")
def no_unexplained_loss(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """Every event that an engine numbered is stored, refused, or counted as dropped.

    ERROR: any other missing number is a share without an account. It is reported for some
    days; their end is no recovery.
    """
    with database.connect() as connection:

        def unexplained(days: int) -> dict[tuple[str, datetime], dict[str, Any]]:
            rows = connection.execute(
                query(__package__, "unexplained.sql"), {"days": days}
            ).fetchall()
            return {(row["instance"], row["hour"]): row for row in rows}

        lost = lasting(lambda: unexplained(thresholds.gap_days))
        instances = {instance for instance, _ in lost}
        before = found_before(connection, "no_unexplained_loss")
        old = set(before).difference(instances)
        ever = {instance for instance, _ in unexplained(EVER_DAYS)} if old else set()
        named = sorted(instances)[:MOST_NAMED]
        standing = keep(connection, "no_unexplained_loss", before, named, old & ever)
    events = sum(int(row["unexplained"]) for row in lost.values())
    return verdict(
        not lost,
        f"{counted(events, 'event')} lost without explanation"
        + "".join(
            f"; {instance} at {hour:%F %H:%M}: {row['unexplained']}"
            for (instance, hour), row in list(lost.items())[:5]
        ),
        do="See where it was lost: tbg ledger, then tbg ledger --audit",
        simulated=all(row["source"] == "simulated" for row in lost.values()),
        unexplained=events,
        **standing,
    )


# Of the engine and not of the ledger: nothing is known to be lost.
@dg.asset_check(asset="mining_engine")
def ends_are_known(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """Something vouches for the last number of every engine boot that is over.

    WARN: a boot ended, and what it lost at its end is unknown. Our engines vouch for themselves
    (`engine_status`); one that never does is named here after each of its restarts. A boot is
    named for some days; their end is no recovery.
    """
    now = clock.now()
    with database.connect() as connection:

        def unknown(days: int) -> dict[str, dict[str, Any]]:
            rows = connection.execute(
                query(__package__, "endings.sql"), {"start": now - timedelta(days=days), "end": now}
            ).fetchall()
            return {row["instance"]: row for row in rows}

        found = unknown(thresholds.gap_days)
        before = found_before(connection, "ends_are_known")
        old = set(before).difference(found)
        gone = old.intersection(unknown(EVER_DAYS)) if old else ()
        standing = keep(connection, "ends_are_known", before, list(found)[:MOST_NAMED], gone)
    return verdict(
        not found,
        f"the end of {counted(len(found), 'engine boot')} is unknown"
        + "".join(
            f"; {instance}: number {row['last_seq']} is the last that is known, "
            f"heard of at {row['heard_at']:%F %H:%M}"
            for instance, row in list(found.items())[:5]
        ),
        WARN,
        do="Nothing, if the engine cannot vouch for its end; else look at its log at that time (docs/guarantees.md)",
        simulated=all(row["source"] == "simulated" for row in found.values()),
        boots=len(found),
        **standing,
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
        do="Report it with the output of tbg ledger --audit: no loss does this",
        instances=len(wrong),
    )


@dg.asset_check(asset="share_ledger")
def numbers_are_stored(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """The tables hold every number of the last hours that the books take for stored, once.

    ERROR: an event was taken for a duplicate and is nowhere, or was stored twice. It counts
    the rows themselves; ``tbg ledger --audit`` does so over all that is kept.
    """
    recent = clock.this_hour() - timedelta(hours=thresholds.recent_hours)
    with database.connect() as connection:
        before = found_before(connection, "numbers_are_stored")
        start = min([recent, *map(datetime.fromisoformat, before)])
        # It counts every row since then: what was wrong long ago is looked at once an hour.
        if recent - start > LONG and clock.now().minute >= LOOK_MINUTES:
            return verdict(
                False,
                f"numbers since {start:%F %H:%M} are not stored once",
                do="See which numbers: tbg ledger --audit; --repair brings back what the streams still hold",
            )
        wrong = connection.execute(query(__package__, "unstored.sql"), {"start": start}).fetchall()
        keep(connection, "numbers_are_stored", before, [start.isoformat()] if wrong else [])
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
        do="See which numbers: tbg ledger --audit; --repair brings back what the streams still hold",
        absent=int(absent),
        doubled=int(doubled),
    )
