"""The columns of the archive, and how they are packed.

Names are kept beside the database's numbers, so that a day can come back into another
database, and so that a query needs no other file.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tbg_dagster.archive.manifest import Hour, fold

_TIME: Final = pa.timestamp("us", tz="UTC")

SHARES: Final = pa.schema(
    [
        pa.field("time", _TIME, nullable=False),
        pa.field("user", pa.string()),
        pa.field("worker", pa.string()),
        pa.field("instance", pa.string()),
        pa.field("seq", pa.int64()),
        pa.field("difficulty", pa.float64(), nullable=False),
        pa.field("share_diff", pa.float64()),
        pa.field("is_valid", pa.bool_(), nullable=False),
        pa.field("reject_reason", pa.string()),
        pa.field("is_block", pa.bool_(), nullable=False),
        pa.field("job_id", pa.string()),
        pa.field("nonce", pa.binary()),
        pa.field("nonce2", pa.binary()),
        pa.field("share_hash", pa.binary()),
        pa.field("ip_address", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("user_id", pa.int32(), nullable=False),
        pa.field("worker_id", pa.int32(), nullable=False),
        pa.field("instance_id", pa.int32()),
    ]
)
EVENTS: Final = pa.schema(
    [
        pa.field("time", _TIME, nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("instance", pa.string()),
        pa.field("seq", pa.int64()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
        pa.field("instance_id", pa.int32()),
    ]
)
SCHEMAS: Final = {"shares": SHARES, "events": EVENTS}

# Text that repeats goes to a dictionary; numbers that grow are kept as differences, and
# random bytes as they are, apart from their lengths.
_DICTIONARY: Final = (
    "user", "worker", "instance", "difficulty", "reject_reason", "job_id", "ip_address",
    "source", "user_id", "worker_id", "instance_id", "event",
)  # fmt: skip
_ENCODING: Final = {
    "time": "DELTA_BINARY_PACKED",
    "seq": "DELTA_BINARY_PACKED",
    "share_diff": "BYTE_STREAM_SPLIT",
    "nonce": "DELTA_LENGTH_BYTE_ARRAY",
    "nonce2": "DELTA_LENGTH_BYTE_ARRAY",
    "share_hash": "DELTA_LENGTH_BYTE_ARRAY",
    "payload": "DELTA_LENGTH_BYTE_ARRAY",
}
ROW_GROUP: Final = 131_072  # rows


def write(sink: Any, schema: pa.Schema, rows: Iterator[Sequence[Sequence[Any]]]) -> None:
    """Writes rows as Parquet.

    Args:
        sink: an open output stream.
        schema: SHARES or EVENTS.
        rows: batches of rows, each in the order of the schema.
    """
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=9,
        use_dictionary=[name for name in schema.names if name in _DICTIONARY],
        column_encoding={name: how for name, how in _ENCODING.items() if name in schema.names},
        write_page_checksum=True,
    ) as writer:
        for batch in rows:
            columns = zip(*batch, strict=True)
            arrays = [pa.array(*pair) for pair in zip(columns, schema.types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema), row_group_size=ROW_GROUP)


def read(source: Any) -> Iterator[pa.RecordBatch]:
    """The record batches of a Parquet file."""
    yield from pq.ParquetFile(source, page_checksum_verification=True).iter_batches(ROW_GROUP)


def sums(shares: Any, events: Any) -> list[Hour]:
    """What the open files of a day add up to, by hour."""
    return fold(_share_groups(shares), _event_groups(events))


def _share_groups(source: Any) -> Iterator[dict[str, Any]]:
    for batch in read(source):
        valid = batch["is_valid"]
        table = pa.table(
            {
                "hour": pc.floor_temporal(batch["time"], unit="hour"),
                "difficulty": batch["difficulty"],
                "accepted": valid.cast(pa.int64()),
                "blocks": batch["is_block"].cast(pa.int64()),
                "best": pc.if_else(valid, batch["share_diff"], pa.scalar(None, pa.float64())),
            }
        ).group_by(["hour", "difficulty"])
        yield from (
            table.aggregate(
                [([], "count_all"), ("accepted", "sum"), ("blocks", "sum"), ("best", "max")]
            )
            .rename_columns(["hour", "difficulty", "shares", "accepted", "blocks", "best"])
            .to_pylist()
        )


def _event_groups(source: Any) -> Iterator[dict[str, Any]]:
    for batch in read(source):
        table = pa.table(
            {
                "hour": pc.floor_temporal(batch["time"], unit="hour"),
                "event": batch["event"],
                "length": pc.binary_length(batch["payload"]).cast(pa.int64()),
            }
        ).group_by(["hour", "event"])
        yield from (
            table.aggregate([([], "count_all"), ("length", "sum")])
            .rename_columns(["hour", "event", "events", "payload_bytes"])
            .to_pylist()
        )
