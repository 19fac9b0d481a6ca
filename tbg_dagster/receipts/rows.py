"""The rows of a tree, from the database and, where it has dropped a day, from the archive."""

import heapq
from collections.abc import Iterator
from datetime import date, datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from psycopg.rows import tuple_row

from tbg_core.receipts.boot import Row
from tbg_core.receipts.records import Event, Share
from tbg_core.receipts.stored import database_rows, windows
from tbg_dagster.archive import parquet
from tbg_dagster.archive.day import has_rows
from tbg_dagster.archive.manifest import Manifest
from tbg_dagster.archive.store import Store
from tbg_dagster.partitions import DAY, HOUR
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import is_whole, rollup_of

_SHARE: Final = (
    "seq", "time", "user", "worker", "difficulty", "share_diff", "is_valid", "reject_reason",
    "share_hash", "source",
)  # fmt: skip
_EVENT: Final = ("seq", "time", "event", "source", "payload")


class GoneError(Exception):
    """The rows of a tree are neither in the database nor in the archive."""


class Rows:
    """Where the rows of trees come from.

    Args:
        connection: to the database, whose days are looked up once.
        store: the archive, if there is one.
    """

    def __init__(self, connection: Connection, store: Store | None) -> None:
        self._store = store
        self.days = set(rollup_of(connection).raw_days(connection))
        if store is not None:
            self.days |= set(store.days())
        self._archived: dict[date, Manifest | None] = {}

    def __call__(
        self, connection: Connection, hour: datetime, instance_id: int, first: int, last: int
    ) -> Iterator[Row]:
        """The rows of these numbers, in order; see :class:`tbg_core.receipts.stored.Rows`.

        Raises:
            GoneError: when a day of them was dropped, and is not archived.
            ArchiveError: when the archive cannot be read.
        """
        days = {
            (start + number * HOUR).date()
            for start, end in windows(connection, hour, instance_id, first, last)
            for number in range((end - start) // HOUR)
        }
        if gone := sorted(days - self.days):
            raise GoneError(f"the raw rows of {gone[0]} have been dropped, and are not archived")
        rows = database_rows(connection, hour, instance_id, first, last)
        archived = [found for day in sorted(days) if (found := self._needed(connection, day))]
        if not archived:
            return rows
        [named] = connection.execute(
            "select instance from engine_instances where id = %s", [instance_id]
        ).fetchall()
        return _united(
            rows,
            *(self._read(connection, found, named["instance"], first, last) for found in archived),
        )

    def elsewhere(self, connection: Connection, start: datetime, end: datetime) -> set[date]:
        """The days of a span whose rows are in the archive, and not all in the database."""
        return {
            day
            for day in self.days
            if start.date() <= day < end.date() + DAY and self._needed(connection, day)
        }

    def _needed(self, connection: Connection, day: date) -> Manifest | None:
        """The archive of a day whose rows are not all in the database."""
        if day not in self._archived:
            whole = has_rows(connection, day) and is_whole(connection, day)
            self._archived[day] = (
                None if whole or self._store is None else self._store.manifest(day)
            )
        return self._archived[day]

    def _read(
        self, connection: Connection, manifest: Manifest, instance: str, first: int, last: int
    ) -> Iterator[Row]:
        assert self._store is not None
        found: list[pa.Table] = []
        for file, columns in ((manifest.shares, _SHARE), (manifest.events, _EVENT)):
            with self._store.read(file.file) as source:
                tables = [
                    _chosen(batch, instance, first, last, columns) for batch in parquet.read(source)
                ]
            found.append(pa.concat_tables(tables).sort_by("seq") if tables else pa.table({}))
        shares, events = found
        both: tuple[Iterator[Row], Iterator[Row]] = (
            (Share._make(row) for row in _tuples(shares, _SHARE)),
            _digested(connection, events),
        )
        return heapq.merge(*both, key=_seq)


def _chosen(
    batch: pa.RecordBatch, instance: str, first: int, last: int, columns: tuple[str, ...]
) -> pa.Table:
    wanted = pc.and_(
        pc.equal(batch["instance"], instance),
        pc.and_(
            pc.greater_equal(batch["seq"], first),
            pc.less_equal(batch["seq"], last),
        ),
    )
    table = pa.Table.from_batches([batch.select(columns).filter(wanted)])
    return table.set_column(1, "time", table["time"].cast(pa.int64()))


def _tuples(table: pa.Table, columns: tuple[str, ...]) -> Iterator[tuple[object, ...]]:
    if not table.num_rows:
        return
    for batch in table.select(columns).to_batches(max_chunksize=10_000):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _digested(connection: Connection, events: pa.Table) -> Iterator[Event]:
    for batch in events.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        rows = connection.cursor(row_factory=tuple_row).execute(_DIGESTED, columns)
        yield from map(Event._make, rows.fetchall())


def _seq(row: Row) -> int:
    return row.seq


def _united(*sources: Iterator[Row]) -> Iterator[Row]:
    """Rows of several sources in order; one that two of them have is one."""
    before: Row | None = None
    for row in heapq.merge(*sources, key=_seq):
        if row != before:
            yield row
        before = row


_DIGESTED: Final = """
select e.seq, e.micros, event_digest(e.event, e.source, e.payload::jsonb)
from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[])
    with ordinality as e (seq, micros, event, source, payload, place)
order by e.place
"""
