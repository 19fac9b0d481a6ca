"""Checks of the raw shares."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import dagster as dg
from psycopg.rows import DictRow

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_core.wording import counted
from tbg_dagster import clock
from tbg_dagster.queries import query
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.rollup import rollup_of
from tbg_dagster.standing import Windows, found_before, keep, look, not_looked
from tbg_dagster.verdict import ERROR, WARN, verdict

# A silence this unlikely warns: chance brings it once in three years of checks every five
# minutes. The other one is an error: chance never brings it.
UNLIKELY: Final = 3e-6
IMPOSSIBLE: Final = 1e-12
# Clocks of engines may differ by this much.
CLOCK_SKEW: Final = timedelta(minutes=2)


@dg.asset_check(asset="shares")
def shares_keep_arriving(database: Database) -> dg.AssetCheckResult:
    """As many shares arrive as the connected miners' hashrates promise.

    Together they find hashrate / (difficulty * 2^32) shares a second, a Poisson
    process: silence of t has the chance exp(-rate * t). WARN when that is once in
    years, ERROR when it cannot be: then the flow is cut. Workers marked offline in the
    last hour count as well, or else liveness would hide that everybody went silent.
    """
    now = clock.now()
    with database.connect() as connection:
        [row] = connection.execute(
            query(__package__, "promise.sql"), {"now": now, "hashes": HASHES_PER_DIFFICULTY}
        )
    if not row["rate"] or row["newest"] is None:
        return not_looked("no connected miner promises shares")
    silence = max((now - row["newest"]).total_seconds(), 0.0)
    chance = math.exp(-min(row["rate"] * silence, 700.0))
    return verdict(
        # The writer commits every second: a few seconds are never silence.
        chance >= UNLIKELY or silence < 15,
        f"{counted(row['workers'], 'worker promises', 'workers promise')} {row['rate']:.3g} shares/s; the newest is "
        f"{silence:.0f} s old (chance {chance:.2g})",
        ERROR if chance < IMPOSSIBLE else WARN,
        do="Look at the engine and the receiver: tbg status, tbg doctor",
        simulated=row["simulated"],
        rate=float(row["rate"]),
        silence_seconds=silence,
    )


@dg.asset_check(asset="shares")
def share_times_are_plausible(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """No share comes from the future, and none is older than retention keeps.

    ERROR: a wrong clock corrupts every rollup, and old shares mean that retention fails.
    """
    now = clock.now()
    # Retention drops whole weeks, a day late at most, and leaves restored days alone.
    oldest = thresholds.horizon(now - timedelta(days=1))
    with database.connect() as connection:
        [row] = connection.execute(
            "select (select count(*) from shares where time > %s) as future, "
            "(select count(*) from shares where time < %s and (time at time zone 'UTC')::date "
            "not in (select day from restored_days where keep_until > %s)) as old",
            [now + CLOCK_SKEW, oldest, now - timedelta(days=2)],
        )
    return verdict(
        row["future"] == 0 and row["old"] == 0,
        f"{counted(row['future'], 'share')} from the future, {row['old']} older than retention",
        do="Set the clock of the engine right; for old shares look at held_back of raw_partitions",
        from_the_future=row["future"],
        older_than_retention=row["old"],
    )


@dg.asset_check(asset="shares")
def shares_have_users_and_workers(
    database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """Every recent share belongs to a worker that exists, of the user that it names.

    ERROR: no statistics contain such a share.
    """
    found, standing = _look(
        database, thresholds, "shares_have_users_and_workers", "orphan_shares.sql", ["orphans"]
    )
    return verdict(
        not found,
        f"{counted(_sum(found, 'orphans'), 'share has', 'shares have')} no user or worker",
        do="Report it: a row was deleted by hand, or the writer is wrong",
        orphans=_sum(found, "orphans"),
        **standing,
    )


@dg.asset_check(asset="shares")
def shares_are_not_doubled(database: Database, thresholds: Thresholds) -> dg.AssetCheckResult:
    """No recent share is there twice, by engine and sequence number, or by hash.

    ERROR: a doubled share is doubled work. Rejected shares may repeat a hash: that is
    what the reason `duplicate` means.
    """
    found, standing = _look(
        database, thresholds, "shares_are_not_doubled", "doubles.sql", ["by_seq", "by_hash"]
    )
    return verdict(
        not found,
        f"{_sum(found, 'by_seq')} doubled by (instance, seq), {_sum(found, 'by_hash')} by hash",
        do="See which numbers: tbg ledger --audit; by hash, two engines serve the same work",
        by_seq=_sum(found, "by_seq"),
        by_hash=_sum(found, "by_hash"),
        **standing,
    )


@dg.asset_check(asset="shares")
def accepted_shares_meet_their_difficulty(
    database: Database, thresholds: Thresholds
) -> dg.AssetCheckResult:
    """No accepted share achieved less than the difficulty it was judged at.

    ERROR: the engine accepted work that was not done.
    """
    found, standing = _look(
        database, thresholds, "accepted_shares_meet_their_difficulty", "weak_shares.sql", ["weak"]
    )
    return verdict(
        not found,
        f"{counted(_sum(found, 'weak'), 'accepted share')} below their difficulty",
        do="Stop that engine: it accepts work that was not done",
        weak=_sum(found, "weak"),
        **standing,
    )


def _look(
    database: Database, thresholds: Thresholds, check: str, name: str, wrong: Sequence[str]
) -> tuple[Windows, dict[str, Any]]:
    """Asks about the last hours, and again about those that were wrong.

    Args:
        name: of the query.
        wrong: its columns that are to be 0.
    """
    now = clock.now()
    with database.connect() as connection:

        def ask(start: datetime, end: datetime) -> DictRow | None:
            [row] = connection.execute(query(__package__, name), {"start": start, "end": end})
            return row if any(row[column] for column in wrong) else None

        before = found_before(connection, check)
        start = now - timedelta(hours=thresholds.recent_hours)
        found = look(before, start, now, rollup_of(connection).raw_days(connection), ask)
        return found, keep(connection, check, before, found.wrong, found.gone)


def _sum(found: Windows, column: str) -> int:
    return sum(row[column] for row in found.rows)
