"""Trees and roots in the database, and the rows that a tree is made of."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.multirange import Int8Multirange
from psycopg.types.numeric import Int8
from psycopg.types.range import Int8Range

from tbg_core.periods import from_micros, to_micros
from tbg_core.receipts.boot import Row, Spans, Stated
from tbg_core.receipts.log import BrokenError, Entry, check
from tbg_core.receipts.node import Node
from tbg_core.receipts.records import Boot, Event, Share

Connection = psycopg.Connection[Any]

HOUR: Final = timedelta(hours=1)
# Rows in one answer of the server: about a megabyte.
AT_ONCE: Final = 5_000
# One that was left in the middle is open until its transaction ends.
_CURSORS: Final = count()


class Tree(NamedTuple):
    """A tree that was published.

    Attributes:
        entry: index of the first entry of the log that it is in.
    """

    hour: datetime
    instance_id: int
    instance: str
    revision: int
    first: int
    last: int
    stated: Stated
    root: Node
    entry: int

    @property
    def boot(self) -> Boot:
        """As it stands in the tree of its hour."""
        return Boot(self.instance, self.first, self.last, self.root)


class Rows(Protocol):
    """Where the rows of a tree come from."""

    def __call__(
        self, connection: Connection, hour: datetime, instance_id: int, first: int, last: int
    ) -> Iterator[Row]:
        """The rows of these numbers, in the order of the numbers.

        Args:
            connection: in a transaction.
            hour: of the tree.
            instance_id: of the boot.
            first: number.
            last: number.
        """
        ...


def windows(
    connection: Connection, hour: datetime, instance_id: int, first: int, last: int
) -> list[tuple[datetime, datetime]]:
    """The spans of time in which the rows of these numbers may lie.

    An event's own time decides its row's place, and its number the tree: next to a full hour,
    and where a clock was wrong, a row lies in another hour than its tree.
    """
    hours = {hour} | {
        row[0]
        for row in connection.cursor(row_factory=tuple_row).execute(
            "select hour from ledger where instance_id = %s and first_seq <= %s and last_seq >= %s",
            [instance_id, last, first],
        )
    }
    spans: list[tuple[datetime, datetime]] = []
    for start in sorted(hours):
        if spans and spans[-1][1] == start:
            spans[-1] = spans[-1][0], start + HOUR
        else:
            spans.append((start, start + HOUR))
    return spans


def database_rows(
    connection: Connection, hour: datetime, instance_id: int, first: int, last: int
) -> Iterator[Row]:
    """The rows of a tree that are in the database; see :class:`Rows`."""
    spans = windows(connection, hour, instance_id, first, last)
    times = sql.SQL(" or ").join([sql.SQL("(time >= %s and time < %s)")] * len(spans))
    wanted: list[object] = [instance_id, first, last]
    for span in spans:
        wanted += span
    with connection.cursor(
        name=f"receipt_rows_{next(_CURSORS)}", row_factory=tuple_row, binary=True
    ) as cursor:
        cursor.itersize = AT_ONCE
        cursor.execute(sql.SQL(_ROWS).format(times=times), [*wanted, *wanted])
        for row in cursor:
            if row[10] is None:
                yield Share._make(row[:10])
            else:
                yield Event(row[0], row[1], row[10])


def trees(
    connection: Connection,
    start: datetime,
    end: datetime,
    *,
    upto: int | None = None,
    instance_id: int | None = None,
) -> list[Tree]:
    """The trees of the hours in [``start``, ``end``), in the order of hours and leaves.

    Args:
        connection: to the database.
        start: a full hour.
        end: not included.
        upto: index of an entry of the log: as they were then. None: as they are.
        instance_id: of one boot alone.
    """
    rows = connection.cursor(row_factory=tuple_row).execute(
        _TREES, {"start": start, "end": end, "upto": upto, "instance": instance_id}
    )
    found = [_tree(row) for row in rows]
    return sorted(found, key=lambda tree: (tree.hour, tree.instance.encode()))


def entries(connection: Connection, first: int = 0, most: int | None = None) -> list[Entry]:
    """Entries of the log from this index on, in order.

    Args:
        connection: to the database.
        first: index.
        most: entries; None for all.
    """
    rows = connection.cursor(row_factory=tuple_row).execute(
        f"{_ENTRIES} where index >= %s order by index limit %s", [first, most]
    )
    return [entry_of(row) for row in rows]


def whole(connection: Connection) -> list[Entry]:
    """The whole log, checked.

    Raises:
        BrokenError: when an entry is not what it was when it was published.
    """
    found = entries(connection)
    check(found)
    for entry, known in zip(found, hashes(connection), strict=True):
        if entry.hash != known:
            raise BrokenError(f"entry {entry.place} has another hash than it had")
    return found


def newest(connection: Connection, start: datetime, end: datetime) -> dict[datetime, Entry]:
    """The newest entry of each hour in [``start``, ``end``)."""
    rows = connection.cursor(row_factory=tuple_row).execute(
        f"{_ENTRIES} where hour >= %s and hour < %s order by index", [start, end]
    )
    found = map(entry_of, rows)
    return {from_micros(entry.hour): entry for entry in found}


def hashes(connection: Connection) -> list[bytes]:
    """The hashes of all entries: the leaves of the tree over the log."""
    return [
        bytes(row[0])
        for row in connection.cursor(row_factory=tuple_row).execute(
            "select hash from receipt_roots order by index"
        )
    ]


def entry_of(row: Any) -> Entry:
    """An entry from its columns, in the order of the select list."""
    index, hour, revision, boots, root, work, valid, reason, previous = row
    return Entry(
        index, to_micros(hour), revision, boots, Node(bytes(root), int(work), valid), reason,
        bytes(previous),
    )  # fmt: skip


def insert_entry(connection: Connection, entry: Entry) -> None:
    """Adds an entry to the log."""
    connection.execute(
        "insert into receipt_roots "
        "(index, hour, revision, boots, root, work, valid, reason, previous, hash) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            entry.place, from_micros(entry.hour), entry.revision, entry.boots, entry.root.hash,
            entry.root.work, entry.root.valid, entry.reason, entry.previous, entry.hash,
        ],
    )  # fmt: skip


def multirange(spans: Iterable[tuple[int, int]]) -> Int8Multirange:
    """Ranges of numbers as PostgreSQL has them.

    The bounds say that they are of eight bytes: psycopg before 3.3.9 sends small ones in two,
    which PostgreSQL refuses.
    """
    return Int8Multirange([Int8Range(Int8(start), Int8(end)) for start, end in spans])


def spans_of(found: Any) -> Spans:
    """Ranges of numbers from PostgreSQL."""
    return [(span.lower, span.upper) for span in found]


def _tree(row: Any) -> Tree:
    hour, instance_id, instance, revision, first, last, *stated, root, work, valid, entry = row
    return Tree(
        hour,
        instance_id,
        instance,
        revision,
        first,
        last,
        Stated(*map(spans_of, stated)),
        Node(bytes(root), int(work), valid),
        entry,
    )


_ENTRIES: Final = """
select index, hour, revision, boots, root, work, valid, reason, previous from receipt_roots
"""

_TREES: Final = """
select distinct on (t.hour, t.instance_id)
    t.hour, t.instance_id, i.instance, t.revision, t.first_seq, t.last_seq, t.refused, t.dropped,
    t.missing, t.root, t.work, t.valid, t.entry
from receipt_trees t
join engine_instances i on i.id = t.instance_id
where t.hour >= %(start)s and t.hour < %(end)s
  and (%(upto)s::bigint is null or t.entry <= %(upto)s)
  and (%(instance)s::integer is null or t.instance_id = %(instance)s)
order by t.hour, t.instance_id, t.revision desc
"""

_ROWS: Final = """
select
    s.seq, (extract(epoch from s.time) * 1000000)::bigint, u.btc_address, w.worker_name,
    s.difficulty, s.share_diff, s.is_valid, s.reject_reason, s.share_hash, s.source::text,
    null::bytea
from receipt_shares s
left join users u on u.id = s.user_id
left join workers w on w.id = s.worker_id and w.user_id = s.user_id
where s.instance_id = %s and s.seq >= %s and s.seq <= %s and ({times})
union all
select
    e.seq, (extract(epoch from e.time) * 1000000)::bigint, null, null, null, null, null, null,
    null, null, e.digest
from receipt_events e
where e.instance_id = %s and e.seq >= %s and e.seq <= %s and ({times})
order by 1
"""
