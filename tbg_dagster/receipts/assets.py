"""Publishes the roots of closed hours."""

import dagster as dg
import redis

from tbg_core.names import ROOTS_STREAM
from tbg_core.outbox import deliver
from tbg_core.receipts.node import difficulty_of
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.columns import columns
from tbg_dagster.partitions import HOURLY, backfill, window
from tbg_dagster.receipts.publish import publish
from tbg_dagster.receipts.rows import Rows
from tbg_dagster.resources import Archive, Database, RedisServer


@dg.asset(
    partitions_def=HOURLY,
    backfill_policy=backfill(HOURLY),
    deps=["share_ledger"],
    group_name="receipts",
    owners=["team:data"],
    kinds={"postgres", "redis"},
    metadata=columns(
        index=("bigint", "place in the log of roots, from 0"),
        hour=("timestamptz", "start of the hour, UTC"),
        revision=("integer", "1 for the first root of the hour; late events make another one"),
        boots=("integer", "engine boots in it"),
        root=("bytea", "over the trees of the boots, which have a leaf for every number"),
        work=("numeric", "difficulty of the valid shares, in units of 2^-96"),
        valid=("bigint", "valid shares"),
        reason=("text", "why a person published it; empty for an ordinary one"),
        previous=("bytea", "hash of the entry before"),
        hash=("bytea", "of this entry"),
    ),
)
def hour_roots(
    context: dg.AssetExecutionContext,
    database: Database,
    archive: Archive,
    redis_server: RedisServer,
) -> dg.MaterializeResult[None]:
    """The root of every closed hour: what the pool has said of it, for ever.

    A leaf for every number that an engine gave: a share, another event, or that it was refused,
    dropped or is missing. Run again, it changes nothing, unless events came late for any hour:
    then that hour gets a new revision, and the old root stays. An hour whose rows do not give its
    old root any more gets none; `held` says so. Roots are posted to `mining:roots`;
    docs/check-your-receipt.md says what they prove.
    """
    start, end = window(context)
    with database.connect() as connection:
        try:
            store = Store.open(archive.url) if archive.url else None
            done = publish(connection, Rows(connection, store), start, end)
        except ArchiveError as error:
            raise dg.Failure(str(error)) from error
        told = 0
        try:
            with redis_server.connect() as client:
                told = len(deliver(connection, client, ROOTS_STREAM))
        except (dg.Failure, redis.RedisError) as error:
            # They wait in the outbox for the next hour's run.
            context.log.warning("the roots are published, and Redis has yet to be told: %s", error)
    for hour, why in done.held:
        context.log.warning("%s: %s", hour, why)
    for entry in done.entries:
        context.log.info("entry %d: %s", entry.place, entry.hash.hex())
    return dg.MaterializeResult(
        metadata={
            "entries": len(done.entries),
            "revisions": sum(entry.revision > 1 for entry in done.entries),
            "leaves": done.leaves,
            "valid_shares": sum(entry.root.valid for entry in done.entries),
            "difficulty": difficulty_of(sum(entry.root.work for entry in done.entries)),
            "held": "; ".join(f"{hour:%F %H:%M} {why}" for hour, why in done.held) or "nothing",
            "newest": done.entries[-1].hash.hex() if done.entries else "as before",
            "messages_sent": told,
        }
    )
