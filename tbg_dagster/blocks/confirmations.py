"""Asks the node about every block that is not final, and updates the block."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import DictRow

from tbg_core.messages import BlockChange
from tbg_core.names import BLOCK_STATUS_STREAM
from tbg_core.outbox import micros, post
from tbg_dagster import clock
from tbg_dagster.blocks.status import REJECTED_FINAL, Status, next_status
from tbg_dagster.queries import query
from tbg_dagster.resources import BitcoinNode
from tbg_dagster.resources.bitcoin import Header
from tbg_dagster.resources.database import Connection


@dataclass(frozen=True)
class Transition:
    """A block that came into another state."""

    block_hash: str
    height: int
    old: Status
    new: Status


@dataclass(frozen=True)
class Look:
    """What one look at the node came to.

    Attributes:
        looked_at: blocks that were not final.
        transitions: their messages are in the outbox.
        tip: height of the node.
        undecided: blocks left alone because the node does not have every block.
        set_aside: blocks that the node has at another height than the engine reported.
    """

    looked_at: int
    transitions: list[Transition]
    tip: int
    undecided: list[str]
    set_aside: list[str]


def confirm(connection: Connection, node: BitcoinNode, needed: int, grace: timedelta) -> Look:
    """Asks the node about every open block, then writes all that changed at once.

    A node that is behind rejects no block: what it does not know, or has off its chain,
    may be on the chain that it has yet to fetch.

    Raises:
        NodeError: when the node does not answer, or nonsense; nothing is changed then.
    """
    tip = node.height()
    blocks = connection.execute(
        query(__package__, "open_blocks.sql"),
        {"tip": tip, "needed": needed, "rejected_final": REJECTED_FINAL},
    ).fetchall()
    # Every answer first: one that is missing must leave everything as it was.
    headers = [node.header(block["block_hash"]) for block in blocks]
    doubtful = any(header is None or header.confirmations < 0 for header in headers)
    behind = doubtful and node.catching_up()
    now = clock.now()
    transitions: list[Transition] = []
    undecided: list[str] = []
    set_aside: list[str] = []
    with connection.transaction():
        for block, header in zip(blocks, headers, strict=True):
            block_hash, height, status = block["block_hash"], block["block_height"], block["status"]
            agreed = header is None or header.height == height
            if agreed == (block["chain_height"] is not None):
                connection.execute(
                    "update blocks set chain_height = %s where id = %s",
                    [None if agreed or header is None else header.height, block["id"]],
                )
            if header is not None and not agreed:
                set_aside.append(
                    f"the node has block {block_hash} at height {header.height}, "
                    f"the engine reported {height}"
                )
                continue
            new = next_status(status, header, now - block["found_at"], needed, grace)
            if new != status and new in ("rejected", "orphaned") and (behind or tip < height):
                undecided.append(f"block {block_hash} at height {height}, which may not be {new}")
                continue
            if _update(connection, block, new, header, now):
                transitions.append(Transition(block_hash, height, status, new))
    return Look(len(blocks), transitions, tip, undecided, set_aside)


def _update(
    connection: Connection,
    block: DictRow,
    new: Status,
    header: Header | None,
    now: datetime,
) -> bool:
    """Writes what is known of a block now; True when it came into another state."""
    # Only from the state that was read: of two runs at once, one makes the transition.
    confirmations = max(header.confirmations, 0) if header else block["confirmations"]
    row = connection.execute(
        "update blocks set status = %(new)s, confirmations = %(confirmations)s, "
        "confirmed_at = case when %(new)s = 'confirmed' then %(now)s end, "
        "status_changes = status_changes + (%(new)s <> status)::integer "
        "where id = %(id)s and status = %(old)s returning status_changes",
        {
            "new": new,
            "confirmations": confirmations,
            "now": now,
            "id": block["id"],
            "old": block["status"],
        },
    ).fetchone()
    if row is None or new == block["status"]:
        return False
    return post(
        connection,
        BLOCK_STATUS_STREAM,
        f"block_status:{block['block_hash']}:{row['status_changes']}",
        BlockChange(
            hash=block["block_hash"],
            height=block["block_height"],
            old_status=block["status"],
            new_status=new,
            confirmations=confirmations,
            user=block["btc_address"],
            reward_sats=block["reward_sats"],
            found_at=micros(block["found_at"]),
        ),
        block["source"],
    )
