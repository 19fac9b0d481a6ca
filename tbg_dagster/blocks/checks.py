"""Checks of blocks on their way to final."""

from datetime import timedelta
from typing import Final

import dagster as dg

from tbg_dagster import clock
from tbg_dagster.resources import Database
from tbg_dagster.verdict import verdict

SETTLED: Final = timedelta(days=1)


@dg.asset_check(asset="block_confirmations")
def old_blocks_are_settled(database: Database) -> dg.AssetCheckResult:
    """Every block older than a day is confirmed, orphaned or rejected.

    ERROR: a hundred blocks take 17 hours, so the node or the schedule stands still.
    """
    with database.connect() as connection:
        rows = connection.execute(
            "select block_height, status from blocks "
            "where status in ('found', 'accepted') and found_at < %s order by block_height",
            [clock.now() - SETTLED],
        ).fetchall()
    return verdict(
        not rows,
        f"{len(rows)} blocks are older than a day and not final"
        + "".join(f"; {row['block_height']} {row['status']}" for row in rows[:5]),
        unsettled=len(rows),
    )
