"""What becomes of a block: pure rules.

found → accepted (on the active chain) → confirmed (deep enough: final). orphaned when
off the chain, and accepted again if a reorg brings it back. rejected when the node has
never heard of it after a grace time, and accepted after all if it turns up.
"""

from datetime import timedelta
from typing import Final

from tbg_core.messages import BlockStatus
from tbg_dagster.resources.bitcoin import Header

Status = BlockStatus  # of a block

# How long a rejected block is still asked for (open_blocks.sql).
REJECTED_FINAL: Final = timedelta(days=1)


def next_status(
    status: Status,
    header: Header | None,
    age: timedelta,
    needed: int,
    grace: timedelta,
) -> Status:
    """The state of a block after a look at the node.

    Args:
        status: before.
        header: what the node knows; None when it has never heard of the block.
        age: since the block was found.
        needed: confirmations that make a block final.
        grace: how long a node may take to hear of a block.
    """
    if header is None:
        # A block that the node once knew stays: a node that forgets is not evidence.
        return "rejected" if status == "found" and age >= grace else status
    if header.confirmations < 0:
        return "orphaned"
    return "confirmed" if header.confirmations >= needed else "accepted"
