"""Archives closed days."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from tbg_dagster.archive.day import archive as archive_day
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.columns import columns
from tbg_dagster.partitions import ARCHIVED, window
from tbg_dagster.resources import Archive, Database


@dg.asset(
    partitions_def=ARCHIVED,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=28),
    deps=["shares"],
    # Without an archive there is nothing to say about a day.
    output_required=False,
    group_name="archive",
    owners=["team:data"],
    kinds={"parquet"},
    metadata=columns(
        time=("timestamp[us, UTC]", "of the event"),
        user=("string", "Bitcoin address"),
        worker=("string", "the worker's name; '' for none"),
        instance=("string", "engine boot"),
        seq=("int64", "the event's number in its instance"),
        difficulty=("double", "assigned"),
        share_diff=("double", "achieved"),
        is_valid=("bool", "whether the share was accepted"),
        reject_reason=("string", "of a rejected share"),
        is_block=("bool", "whether it solved a block"),
        share_hash=("binary", "block header hash, as in the database"),
    ),
)
def shares_archive(
    context: dg.AssetExecutionContext, database: Database, archive: Archive
) -> Iterator[dg.MaterializeResult[None]]:
    """The raw shares and events of a closed day as Parquet, in `ARCHIVE_URL`.

    Run again, it changes nothing unless the database has other rows by then: late shares
    make a new revision, which holds every row of the one before. A day that was dropped
    stays archived. docs/archive.md says how to read and how to restore it.
    """
    if not archive.url:
        context.log.info("no archive is configured (ARCHIVE_URL): nothing to do")
        return
    window(context)  # refuses what lies before the first partition
    try:
        store = Store.open(archive.url)
        with database.connect() as connection:
            for key in context.partition_keys:
                done = archive_day(connection, store, date.fromisoformat(key))
                manifest = done.manifest
                context.log.info("%s: %s", key, done.outcome)
                metadata: dict[str, str | int | float] = {"outcome": done.outcome}
                if manifest is not None:
                    metadata |= {
                        "dagster/partition_row_count": manifest.shares.rows + manifest.events.rows,
                        "revision": manifest.revision,
                        "shares": manifest.shares.rows,
                        "events": manifest.events.rows,
                        "bytes": manifest.shares.bytes + manifest.events.bytes,
                        "best": manifest.best or 0.0,
                    }
                    if manifest.shares.rows:
                        metadata["bytes_per_share"] = manifest.shares.bytes / manifest.shares.rows
                context.add_asset_metadata(metadata, partition_key=key)
    except ArchiveError as error:
        raise dg.Failure(str(error)) from error
    yield dg.MaterializeResult(metadata={"archive": store.place})
