"""Checks of receipts: every closed hour has a root, and rows still give the roots."""

import random
from datetime import datetime
from typing import Final

import dagster as dg

from tbg_core.receipts import log, stored
from tbg_core.wording import counted
from tbg_dagster import clock
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.partitions import DAY, HOUR, WEEK
from tbg_dagster.queries import query
from tbg_dagster.receipts.publish import AlteredError, rebuild, root_of
from tbg_dagster.receipts.rows import GoneError, Rows
from tbg_dagster.resources import Archive, Database
from tbg_dagster.resources.database import Connection
from tbg_dagster.standing import MOST_AGAIN, found_before, keep
from tbg_dagster.verdict import WARN, verdict

REBUILT: Final = "roots_rebuild"
# Hours that are built again in one run, beside the newest: a run an hour.
SAMPLED: Final = 1


@dg.asset_check(asset="hour_roots")
def hours_have_roots(database: Database, archive: Archive) -> dg.AssetCheckResult:
    """Every closed hour whose rows are kept has a root, an hour after the ledger closed it.

    WARN: nobody can check his shares of that hour; the metadata `held` of `hour_roots` says why.
    """
    with database.connect() as connection:
        try:
            rows = Rows(connection, Store.open(archive.url) if archive.url else None)
        except ArchiveError as error:
            return verdict(False, str(error), WARN, do="Read held of the last run of hour_roots")
        late = connection.execute(
            query(__package__, "without.sql"), {"with_rows": sorted(rows.days)}
        ).fetchall()
    return verdict(
        not late,
        f"{counted(len(late), 'hour of an engine boot has', 'hours of engine boots have')} no root"
        + "".join(f"; {row['instance']} at {row['hour']:%F %H:%M}" for row in late[:5]),
        WARN,
        do="Read held of the last run of hour_roots",
        hours=len(late),
    )


# Blocking, so that it runs with its asset alone, and not every five minutes.
@dg.asset_check(asset="hour_roots", blocking=True)
def roots_rebuild(database: Database, archive: Archive) -> dg.AssetCheckResult:
    """The log of roots is whole, and the rows still give the roots that were published.

    Built again are the newest hour, another one at random each hour, and those that were
    wrong before. ERROR: a row of a closed hour was changed, added or removed. If a person had a
    reason, `tbg receipts amend` publishes it.
    """
    now = clock.now()
    with database.connect() as connection:
        try:
            stored.whole(connection)
        except log.BrokenError as error:
            return verdict(
                False,
                f"the log of roots is not what it was: {error}",
                do="Find who changed the rows; with a reason, publish it: tbg receipts amend",
            )
        hours = [
            row["hour"]
            for row in connection.execute("select distinct hour from receipt_roots order by hour")
        ]
        before = found_before(connection, REBUILT)
        chosen = set(hours[-1:])
        seed = random.Random(now.strftime("%F %H"))  # noqa: S311  # a sample, no secret
        chosen |= set(seed.sample(hours, min(SAMPLED, len(hours))))
        again = [datetime.fromisoformat(place) for place in before]
        chosen |= set(again[:MOST_AGAIN])
        try:
            store = Store.open(archive.url) if archive.url else None
            wrong, gone = altered(connection, Rows(connection, store), sorted(chosen))
        except ArchiveError as error:
            return verdict(
                False,
                str(error),
                do="Find who changed the rows; with a reason, publish it: tbg receipts amend",
            )
        still = dict.fromkeys(again[MOST_AGAIN:], "")
        standing = keep(
            connection,
            REBUILT,
            before,
            [hour.isoformat() for hour in {**still, **wrong}],
            [place for place in before if datetime.fromisoformat(place) in gone],
        )
    return verdict(
        not wrong and not still,
        f"{counted(len(wrong), 'hour')} of {len(chosen)} that were built again differ from "
        "their roots" + "".join(f"; {hour:%F %H:%M}: {why}" for hour, why in [*wrong.items()][:5]),
        do="Find who changed the rows; with a reason, publish it: tbg receipts amend",
        hours_built=len(chosen),
        hours_wrong=len(wrong),
        **standing,
    )


def altered(
    connection: Connection, rows: Rows, hours: list[datetime]
) -> tuple[dict[datetime, str], set[datetime]]:
    """Builds hours again: those that differ from their newest roots and why, and those that cannot be.

    Raises:
        ArchiveError: when the archive cannot be read.
    """
    wrong: dict[datetime, str] = {}
    gone: set[datetime] = set()
    for hour in hours:
        entry = stored.newest(connection, hour, hour + HOUR).get(hour)
        boots = stored.trees(connection, hour, hour + HOUR)
        if entry is None or root_of(boots) != entry.root:
            wrong[hour] = "its trees do not give the root that was published"
            continue
        for tree in boots:
            try:
                with connection.transaction():
                    rebuild(connection, rows, tree)
            except AlteredError as error:
                wrong[hour] = f"{tree.instance}: {error}"
            except GoneError:
                gone.add(hour)
    return wrong, gone - wrong.keys()


# Blocking, for the same reason. As a warning it holds no result up: a share that a person marked
# as invalid changes its hour as a forger would.
@dg.asset_check(asset="weekly_best_diff", blocking=True)
def week_stands_on_its_roots(database: Database, archive: Archive) -> dg.AssetCheckResult:
    """Every hour of the week that closed last is built again before the result is published.

    WARN: the rows of an hour do not give its root any more. `roots_rebuild` is red until they do,
    or until a person says why (`tbg receipts amend`). About 6 µs a leaf.
    """
    today = clock.today()
    end = today - today.weekday() * DAY
    with database.connect() as connection:
        hours = sorted(stored.newest(connection, end - WEEK, end))
        try:
            store = Store.open(archive.url) if archive.url else None
            wrong, gone = altered(connection, Rows(connection, store), hours)
        except ArchiveError as error:
            return verdict(
                False,
                str(error),
                WARN,
                do="Find who changed the rows; with a reason, publish it: tbg receipts amend",
            )
        keep(connection, REBUILT, [], [hour.isoformat() for hour in wrong])
    return verdict(
        not wrong,
        f"{counted(len(wrong), 'hour')} of {len(hours)} that were built again differ from "
        "their roots" + "".join(f"; {hour:%F %H:%M}: {why}" for hour, why in [*wrong.items()][:5]),
        WARN,
        do="Find who changed the rows; with a reason, publish it: tbg receipts amend",
        hours_built=len(hours) - len(gone),
        hours_wrong=len(wrong),
    )
