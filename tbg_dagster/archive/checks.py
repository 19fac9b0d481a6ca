"""Checks of the archive."""

import random
from datetime import date, timedelta
from typing import Final

import dagster as dg

from tbg_core.wording import counted
from tbg_dagster import clock
from tbg_dagster.archive.day import has_rows, verify
from tbg_dagster.archive.due import missing
from tbg_dagster.archive.retention import raw_days
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.resources import Archive, Database, Thresholds
from tbg_dagster.rollup import rollup_of
from tbg_dagster.standing import found_before, keep, not_looked
from tbg_dagster.verdict import ERROR, WARN, verdict

# Days that were archived longer ago and are compared once more.
SAMPLED: Final = 3
LATE: Final = timedelta(hours=12)


@dg.asset_check(asset="shares_archive", blocking=True)
def archive_equals_database(
    database: Database, archive: Archive, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """Archive and database have the same count, sum and best in every hour.

    Compared are the days archived since yesterday and a few older ones, others every day; and
    those that differed before, until they do not. Their files are read again. ERROR: a day that differs is not dropped. Days past
    retention may have been dropped in part, and are housekeeping's to judge.
    """
    if not archive.url:
        return not_looked("no archive is configured")
    now = clock.now()
    oldest = thresholds.horizon(now).date()
    wrong: dict[date, str] = {}
    try:
        store = Store.open(archive.url)
        archived = set(store.days())
        with database.connect() as connection:
            before = found_before(connection, "archive_equals_database")
            days = [
                day
                for day in raw_days(connection, rollup_of(connection))
                if day in archived and day >= oldest and has_rows(connection, day)
            ]
            chosen = random.Random(str(now.date()))  # noqa: S311  # a sample, no secret
            sample = set(chosen.sample(days, min(SAMPLED, len(days))))
            compared = 0
            for day in days:
                manifest = store.readable(day)
                recent = manifest is None or now - manifest.archived_at < timedelta(days=1)
                if recent or day in sample or day.isoformat() in before:
                    compared += 1
                    try:
                        verify(connection, store, day)
                    except ArchiveError as error:
                        wrong[day] = f"{day}: {error}"
            standing = keep(
                connection,
                "archive_equals_database",
                before,
                [day.isoformat() for day in wrong],
                set(before).difference(day.isoformat() for day in days),
            )
    except ArchiveError as error:
        return verdict(
            False,
            str(error),
            do="Read the difference, then archive the day again: tbg archive write DAY",
        )
    return verdict(
        not wrong,
        f"{len(wrong)} of {counted(compared, 'archived day')} differ from the database"
        + "".join(f"; {text}" for text in list(wrong.values())[:3]),
        do="Read the difference, then archive the day again: tbg archive write DAY",
        days_compared=compared,
        days_wrong=len(wrong),
        **standing,
    )


@dg.asset_check(asset="shares_archive")
def days_are_archived(
    database: Database, archive: Archive, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """Every day that closed twelve hours ago is archived, and none is long past retention.

    WARN: the archive is late; its sensor makes it up. ERROR when a day should have been
    dropped yesterday and was not: the metadata `held_back` of `raw_partitions` says why.
    """
    if not archive.url:
        return not_looked("no archive is configured")
    now = clock.now()
    keep_from = thresholds.horizon(now - timedelta(days=1)).date()
    try:
        store = Store.open(archive.url)
        with database.connect() as connection:
            late = missing(connection, store, now, LATE)
            restored = {
                row["day"]
                for row in connection.execute(
                    "select day from restored_days where keep_until > now() - interval '2 days'"
                )
            }
            held = [
                day
                for day in raw_days(connection, rollup_of(connection))
                if day < keep_from and day not in restored
            ]
    except ArchiveError as error:
        return verdict(
            False,
            str(error),
            do="Look at the last run of shares_archive, and at held_back of raw_partitions",
        )
    return verdict(
        not late and not held,
        f"{len(late)} closed days are not archived"
        + (f", from {late[0]} on" if late else "")
        + (
            f"; {counted(len(held), 'day is', 'days are')} kept past retention, from {held[0]} on"
            if held
            else ""
        ),
        ERROR if held else WARN,
        do="Look at the last run of shares_archive, and at held_back of raw_partitions",
        not_archived=len(late),
        held_back=len(held),
    )
