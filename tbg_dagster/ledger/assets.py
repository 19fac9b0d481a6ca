"""Closes the ledger's hours."""

from collections import Counter
from datetime import timedelta

import dagster as dg

from tbg_dagster import clock
from tbg_dagster.columns import columns
from tbg_dagster.ledger.pictures import headline, over_time
from tbg_dagster.ledger.tables import endings, engines, losses
from tbg_dagster.partitions import HOUR, HOURLY, key_of, window
from tbg_dagster.queries import query
from tbg_dagster.realtime import skew
from tbg_dagster.resources import Database

HOURS_IN_PICTURE = timedelta(hours=72)
COUNTS_OF_HOUR = ("emitted", "committed", "dead_lettered", "dropped", "unexplained")


@dg.asset(
    partitions_def=HOURLY,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=168),
    deps=["engine_instances"],
    group_name="quality",
    owners=["team:data"],
    kinds={"postgres", "sql"},
    metadata=columns(
        hour=("timestamptz", "start of the hour of the events' own time, UTC"),
        instance_id=("integer", "engine_instances.id: one engine boot"),
        emitted=("bigint", "by the engine's sequence numbers"),
        received=("bigint", "read from the socket, as the receiver says"),
        published=("bigint", "read back from Redis by the writer"),
        committed=("bigint", "stored"),
        dead_lettered=("bigint", "refused, and kept with their bytes"),
        duplicates=("bigint", "resent, and not stored again"),
        dropped=("bigint", "lost, and counted where it happened"),
        dropped_by_cause=("jsonb", "the same, by stage/reason"),
        missing=("bigint", "numbers never seen"),
        unexplained=("bigint", "missing and not counted as dropped: must be 0"),
        closed_at=("timestamptz", "when the hour was closed, last"),
    ),
)
def share_ledger(context: dg.AssetExecutionContext, database: Database) -> None:
    """What became of every event, by engine boot and hour, when the hour was closed.

    The daemon keeps the books in the transactions of the rows; this closes them. It also
    adds late events to hours that were closed before, so a gap that was filled does not
    stay a loss.
    """
    start, end = window(context)
    drawn_from = end - HOURS_IN_PICTURE
    with database.connect() as connection:
        skew.note(connection)
        connection.execute(query(__package__, "close.sql"), {"start": start, "end": end})
        hours = connection.execute(
            query(__package__, "hours.sql"), {"start": min(start, drawn_from), "end": end}
        ).fetchall()
        lines = connection.execute(
            query(__package__, "engines.sql"), {"hour": end - HOUR}
        ).fetchall()
        lost = connection.execute(
            query(__package__, "losses.sql"), {"start": drawn_from, "end": end}
        ).fetchall()
        ends = connection.execute(
            query(__package__, "endings.sql"), {"start": drawn_from, "end": clock.now()}
        ).fetchall()
    unknown = Counter(row["hour"] for row in ends)
    hours = [{**row, "ends_unknown": unknown[row["hour"]]} for row in hours]
    drawn = [row for row in hours if row["hour"] >= drawn_from]
    # In one entry: the UI opens long entries in a dialog, and cuts short ones off.
    parts = [
        over_time(drawn, drawn_from, end).value or "",
        *(["**Lost and dropped**", losses(lost)] if lost else []),
        *(["**End unknown**", endings(ends)] if ends else []),
        *([f"**The hour from {end - HOUR:%d %b %H:%M} UTC**", engines(lines)] if lines else []),
    ]
    context.add_asset_metadata(
        {
            f"last_{HOURS_IN_PICTURE // HOUR}_hours": headline(drawn),
            "ledger": dg.MetadataValue.md("\n\n".join(parts)),
        },
        partition_key=context.partition_keys[-1],
    )
    by_key = {key_of(HOURLY, row["hour"]): row for row in hours}
    for key in context.partition_keys:
        row = by_key.get(key, {})
        context.add_asset_metadata(
            {
                "dagster/partition_row_count": row.get("instances", 0),
                **{name: row.get(name, 0) for name in COUNTS_OF_HOUR},
            },
            partition_key=key,
        )
