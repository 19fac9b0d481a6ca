"""Checks of blocks on their way to final."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import dagster as dg
from psycopg.rows import DictRow

from tbg_core.wording import counted
from tbg_dagster import clock
from tbg_dagster.resources import BitcoinNode, Database
from tbg_dagster.resources.bitcoin import NodeError
from tbg_dagster.verdict import WARN, verdict

SETTLED: Final = timedelta(days=1)
# From the engine that found a block to the node that is asked.
ON_ITS_WAY: Final = timedelta(minutes=2)


@dg.asset_check(asset="block_confirmations")
def old_blocks_are_settled(database: Database) -> dg.AssetCheckResult:
    """Every block older than a day is confirmed, orphaned or rejected.

    ERROR: a hundred blocks take 17 hours, so the node or the schedule stands still. WARN if all
    of them are simulated: they are on no chain.
    """
    with database.connect() as connection:
        rows = connection.execute(
            "select block_height, status, source from blocks "
            "where status in ('found', 'accepted') and found_at < %s "
            "order by source = 'simulated', block_height",
            [clock.now() - SETTLED],
        ).fetchall()
    return verdict(
        not rows,
        f"{counted(len(rows), 'block is', 'blocks are')} older than a day and not final"
        + "".join(f"; {row['block_height']} {row['status']}" for row in rows[:5]),
        do="See that the node answers and confirm_blocks runs; block_confirmations says what the node said",
        simulated=_simulated(rows),
        unsettled=len(rows),
    )


@dg.asset_check(asset="block_confirmations")
def blocks_have_the_nodes_height(database: Database) -> dg.AssetCheckResult:
    """The node has every block at the height that the engine reported.

    ERROR: such a block is set aside, neither accepted nor rejected, until both agree.
    """
    with database.connect() as connection:
        rows = connection.execute(
            "select block_hash, block_height, chain_height, source from blocks "
            "where chain_height is not null order by block_height"
        ).fetchall()
    return verdict(
        not rows,
        f"{counted(len(rows), 'block is', 'blocks are')} set aside for their height"
        + "".join(
            f"; {row['block_hash']}: {row['block_height']} reported, {row['chain_height']} on the "
            "node"
            for row in rows[:5]
        ),
        do="See which of engine and node is on the wrong chain; the block waits until both agree",
        simulated=_simulated(rows),
        set_aside=len(rows),
    )


@dg.asset_check(asset="block_confirmations")
def node_has_every_block(database: Database, bitcoin_node: BitcoinNode) -> dg.AssetCheckResult:
    """The node is as far as the blocks about which it is asked.

    WARN: a node that is behind, or away, decides nothing; the blocks wait for it.
    """
    with database.connect() as connection:
        waiting = {
            row["simulated"]: row
            for row in connection.execute(
                "select source = 'simulated' as simulated, count(*) as blocks, "
                "max(block_height) as highest from blocks "
                "where status in ('found', 'accepted') and found_at < %s group by 1",
                [clock.now() - ON_ITS_WAY],
            )
        }
    if not waiting:
        return verdict(True, "no block waits for the node")
    blocks = sum(row["blocks"] for row in waiting.values())
    real = False in waiting
    try:
        tip, catching_up = bitcoin_node.height(), bitcoin_node.catching_up()
    except NodeError as error:
        return verdict(
            False,
            f"{counted(blocks, 'block waits', 'blocks wait')} for the node: {error}",
            WARN,
            do="Wait for the node, or see why it stands still: tbg doctor",
            simulated=not real,
        )
    # Simulated blocks are on no chain: they say nothing of the node as long as others do.
    well = all(tip >= row["highest"] for row in waiting.values()) and not catching_up
    behind = real and (tip < waiting[False]["highest"] or catching_up)
    highest = (
        waiting[False]["highest"] if behind else max(row["highest"] for row in waiting.values())
    )
    return verdict(
        well,
        f"the node is at height {tip}{', and catching up' if catching_up else ''}; "
        f"the highest block that waits is {highest}",
        WARN,
        do="Wait for the node, or see why it stands still: tbg doctor",
        simulated=not behind,
        node_height=tip,
        blocks=blocks,
    )


def _simulated(rows: Sequence[DictRow]) -> bool:
    return all(row["source"] == "simulated" for row in rows)
