"""Blocks on their way to final, and the odds of the next."""

from collections.abc import Sequence
from datetime import timedelta
from typing import get_args

import dagster as dg
from psycopg.rows import DictRow

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_core.names import BLOCK_STATUS_STREAM
from tbg_core.outbox import deliver
from tbg_core.wording import printable
from tbg_dagster import clock
from tbg_dagster.blocks.confirmations import confirm
from tbg_dagster.blocks.status import Status
from tbg_dagster.columns import columns
from tbg_dagster.picture import hashrate, short
from tbg_dagster.queries import query
from tbg_dagster.resources import BitcoinNode, Database, RedisServer, Thresholds
from tbg_dagster.resources.bitcoin import NodeError

GROUP = "blocks"
OWNERS = ["team:game"]


@dg.asset(
    deps=["blocks"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"bitcoin", "postgres", "redis"},
    pool="node",
    metadata=columns(
        status=("text", "found, accepted, confirmed, orphaned or rejected"),
        confirmations=("integer", "on the active chain; 0 when off it"),
        confirmed_at=("timestamptz", "when it became final"),
        chain_height=("integer", "the node's, if the engine reported another"),
    ),
)
def block_confirmations(
    context: dg.AssetExecutionContext,
    database: Database,
    redis_server: RedisServer,
    bitcoin_node: BitcoinNode,
    thresholds: Thresholds,
) -> dg.MaterializeResult[None]:
    """What became of every block: the node is asked until the answer is final.

    found → accepted (on the active chain) → confirmed (100 deep). orphaned when off the
    chain, and checked again until that is final, because a reorg can bring it back.
    rejected when the node has not heard of it after a grace time. Each transition is
    published once to `mining:block_status`. When the node is down or answers nonsense,
    nothing changes and the run is retried. A node that is behind, or in its initial
    download, rejects no block. A block that the node has at another height than the
    engine reported is set aside; the others are not affected.
    """
    if not bitcoin_node.url:
        # `node_has_every_block` reports blocks that wait for one.
        context.log.info("no node is configured (BITCOIN_RPC_URL): no block is looked at")
        return dg.MaterializeResult(metadata={"looked_at": 0})
    with database.connect() as connection:
        try:
            look = confirm(
                connection,
                bitcoin_node,
                thresholds.confirmations,
                timedelta(minutes=thresholds.reject_grace_minutes),
            )
        except NodeError as error:
            context.log.error("the node: %s", error)
            # What an earlier run could not send does not wait for the node.
            with redis_server.connect() as client:
                deliver(connection, client, BLOCK_STATUS_STREAM)
            if context.retry_number < bitcoin_node.retries:
                raise dg.RetryRequested(
                    max_retries=bitcoin_node.retries,
                    seconds_to_wait=bitcoin_node.retry_seconds * 2**context.retry_number,
                ) from error
            raise dg.Failure(
                f"nothing was changed, because the node gave no sensible answer: {error}",
                allow_retries=False,
            ) from error
        for transition in look.transitions:
            context.log.info(
                "block %s at height %d: %s → %s",
                transition.block_hash,
                transition.height,
                transition.old,
                transition.new,
            )
        for text in look.set_aside:
            context.log.error("set aside: %s", text)
        for text in look.undecided:
            context.log.warning("the node is behind, so nothing was decided: %s", text)
        counts = {
            row["status"]: row["blocks"]
            for row in connection.execute(
                "select status, count(*) as blocks from blocks group by status"
            )
        }
        newest = connection.execute(query(__package__, "newest.sql")).fetchall()
        with redis_server.connect() as client:
            sent = deliver(connection, client, BLOCK_STATUS_STREAM)
    return dg.MaterializeResult(
        metadata={
            "blocks": _table(newest),
            "dagster/row_count": sum(counts.values()),
            "looked_at": look.looked_at,
            "transitions": len(look.transitions),
            "node_height": look.tip,
            "undecided_node_behind": len(look.undecided),
            "set_aside_wrong_height": len(look.set_aside),
            "messages_sent": len(sent),
            **{status: counts.get(status, 0) for status in get_args(Status)},
        }
    )


def _table(rows: Sequence[DictRow]) -> dg.TableMetadataValue:
    """The newest blocks with what became of them."""
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "height": row["block_height"],
                    "status": row["status"],
                    "confirmations": row["confirmations"],
                    "user": short(row["user"]),
                    "worker": printable(row["worker"]),
                    "found at (UTC)": f"{row['found_at']:%F %T}",
                    "source": row["source"],
                }
            )
            for row in rows
        ],
        None if rows else dg.TableSchema([]),
    )


@dg.asset(
    deps=["network_blocks"],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres", "sql"},
    metadata=columns(
        first_height=("integer", "first block seen with this difficulty"),
        last_height=("integer", "last block seen with it"),
        network_difficulty=("double precision", "what a block needed"),
        blocks=("integer", "seen with it"),
        first_seen=("timestamptz", "when the first was seen"),
        last_seen=("timestamptz", "when the last was seen"),
        block_seconds=("double precision", "mean time between them"),
    ),
)
def network_difficulty(database: Database) -> dg.MaterializeResult[None]:
    """Every value that the network difficulty had, from the tips that engines saw."""
    with database.connect() as connection:
        with connection.transaction():
            connection.execute(query(__package__, "network_difficulty.sql"))
        rows = connection.execute(
            "select network_difficulty, last_height from network_difficulty order by first_height"
        ).fetchall()
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(rows),
            "network_difficulty": rows[-1]["network_difficulty"] if rows else 0.0,
            "height": rows[-1]["last_height"] if rows else 0,
        }
    )


@dg.asset(
    deps=["shares", network_difficulty],
    group_name=GROUP,
    owners=OWNERS,
    kinds={"postgres", "sql"},
    metadata=columns(
        scope=("text", "pool or worker"),
        worker_id=("integer", "workers.id; 0 for the pool"),
        hashrate=("double precision", "H/s, over the last 24 hours, or since it is known"),
        expected_seconds=("double precision", "mean time to a block"),
        chance_day=("double precision", "that a block is found within a day"),
        chance_week=("double precision", "within a week"),
        chance_year=("double precision", "within a year"),
    ),
)
def block_odds(database: Database) -> dg.MaterializeResult[None]:
    """How long the next block takes, for every worker and for the whole pool.

    Finding one is a Poisson process with mean `difficulty × 2^32 / hashrate`: the
    chance within t is 1 - exp(-t / mean), however long nothing has been found.
    """
    now = clock.now()
    with database.connect() as connection:
        with connection.transaction():
            connection.execute(
                query(__package__, "odds.sql"), {"now": now, "hashes": HASHES_PER_DIFFICULTY}
            )
        rows = connection.execute("select * from block_odds order by scope").fetchall()
    pool = rows[0] if rows else {}
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(rows),
            "hashrate_text": hashrate(pool.get("hashrate", 0.0)),
            **{
                name: pool.get(name, 0.0)
                for name in ("hashrate", "expected_seconds", "chance_day", "chance_year")
            },
        }
    )
