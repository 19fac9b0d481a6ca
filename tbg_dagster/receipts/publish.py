"""Builds the trees of closed hours, and adds their roots to the log."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from psycopg import IsolationLevel

from tbg_core.names import ROOTS_STREAM
from tbg_core.outbox import post
from tbg_core.periods import to_micros
from tbg_core.receipts import stored
from tbg_core.receipts.boot import DoubledError, Stated, build
from tbg_core.receipts.log import START, Entry
from tbg_core.receipts.merkle import Growing
from tbg_core.receipts.node import EMPTY, Node, join
from tbg_core.receipts.records import boot_leaf
from tbg_core.receipts.stored import Tree
from tbg_dagster.archive.store import ArchiveError
from tbg_dagster.partitions import HOUR
from tbg_dagster.queries import query
from tbg_dagster.receipts.rows import GoneError, Rows
from tbg_dagster.resources.database import Connection

LOCK: Final = "tbg receipts"


class AlteredError(Exception):
    """The rows of a published tree do not give its root any more."""


@dataclass
class Published:
    """What a run came to.

    Attributes:
        entries: that were added to the log.
        leaves: numbers in the trees that were built.
        held: hours without a root, or with an old one, and why.
    """

    entries: list[Entry] = field(default_factory=list)
    leaves: int = 0
    held: list[tuple[datetime, str]] = field(default_factory=list)


def publish(
    connection: Connection,
    rows: Rows,
    start: datetime,
    end: datetime,
    again: Sequence[datetime] = (),
    reason: str = "",
) -> Published:
    """Gives every closed hour before ``end`` its root, and a new one where its books have changed.

    Safe to repeat: what stands is left alone. A new revision of a tree is made only after the old
    one was built again from the rows: what an event that came late has not changed is as it was.

    Args:
        connection: autocommit.
        rows: where they come from.
        start: an hour of [``start``, ``end``) in which no engine gave a number has a root, too.
        end: a full hour.
        again: hours whose trees are built whatever the old ones say.
        reason: why; it is published.
    """
    done = Published()
    with _alone(connection):
        wanted: dict[datetime, list[Any]] = defaultdict(list)
        for row in connection.execute(
            query(__package__, "due.sql"),
            {"end": end, "with_rows": sorted(rows.days), "again": list(again)},
        ).fetchall():
            wanted[row["hour"]].append(row)
        for row in connection.execute(
            query(__package__, "empty.sql"), {"start": start, "end": end}
        ).fetchall():
            wanted.setdefault(row["hour"], [])
        for hour in sorted(wanted):
            with _one_moment(connection):
                _publish_hour(connection, rows, hour, wanted[hour], done, hour in again, reason)
    return done


def rebuild(connection: Connection, rows: Rows, tree: Tree) -> None:
    """Builds a published tree again from the rows.

    Raises:
        AlteredError: when its root is another one now.
        GoneError: when the rows are not there.
        ArchiveError: when the archive cannot be read.
    """
    try:
        built = build(
            tree.first,
            tree.last,
            rows(connection, tree.hour, tree.instance_id, tree.first, tree.last),
            tree.stated,
            again=True,
        )
    except DoubledError as error:
        raise AlteredError(f"{error}, which its root knows nothing of") from error
    if built.root != tree.root:
        raise AlteredError(
            f"its rows give the root {built.root.hash.hex()[:16]}…, and "
            f"{tree.root.hash.hex()[:16]}… was published (revision {tree.revision})"
        )


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    connection.execute("select pg_advisory_lock(hashtext(%s))", [LOCK])
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("select pg_advisory_unlock(hashtext(%s))", [LOCK])


@contextmanager
def _one_moment(connection: Connection) -> Iterator[None]:
    """A transaction that sees the rows and the books of one moment."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction():
            yield
    finally:
        connection.isolation_level = None


def _publish_hour(
    connection: Connection,
    rows: Rows,
    hour: datetime,
    wanted: Sequence[Any],
    done: Published,
    forced: bool,
    reason: str,
) -> None:
    last = connection.execute(
        "select index, hash from receipt_roots order by index desc limit 1"
    ).fetchone()
    index = last["index"] + 1 if last else 0
    before = {tree.instance_id: tree for tree in stored.trees(connection, hour, hour + HOUR)}
    changed = not wanted
    for row in wanted:
        try:
            changed |= _build(
                connection, rows, row, before.get(row["instance_id"]), index, forced, done
            )
        except (AlteredError, ArchiveError, DoubledError, GoneError) as error:
            done.held.append((hour, f"{row['instance']}: {error}"))
    if not changed:
        return
    boots = stored.trees(connection, hour, hour + HOUR)
    entry = Entry(
        index,
        to_micros(hour),
        _revisions(connection, hour) + 1,
        len(boots),
        root_of(boots),
        reason if forced else "",
        bytes(last["hash"]) if last else START,
    )
    stored.insert_entry(connection, entry)
    post(connection, ROOTS_STREAM, f"roots:{index}", entry.as_json())
    done.entries.append(entry)


def root_of(boots: Sequence[Tree]) -> Node:
    """The root of an hour over its boots, in the order of their names' bytes."""
    tree: Growing[Node] = Growing(join)
    for found in boots:
        tree.add(boot_leaf(found.boot))
    finished = tree.finish()
    return finished[0] if finished else EMPTY


def _revisions(connection: Connection, hour: datetime) -> int:
    [row] = connection.execute(
        "select coalesce(max(revision), 0) as last from receipt_roots where hour = %s", [hour]
    )
    return int(row["last"])


def _build(
    connection: Connection,
    rows: Rows,
    row: Any,
    before: Tree | None,
    index: int,
    forced: bool,
    done: Published,
) -> bool:
    """Builds a tree; whether it is another one than the one before."""
    span = {name: row[name] for name in ("hour", "instance_id", "instance")}
    first, last = row["first_seq"], row["last_seq"]
    if before is not None and not forced:
        rebuild(connection, rows, before)
    [known] = connection.execute(
        query(__package__, "stated.sql"), {**span, "low": first, "high": last}
    )
    stated = Stated(stored.spans_of(known["refused"]), stored.spans_of(known["dropped"]), [])
    found = rows(connection, row["hour"], row["instance_id"], first, last)
    built = build(first, last, found, stated)
    done.leaves += last - first + 1
    same = before is not None and (before.first, before.last, before.root) == (
        first,
        last,
        built.root,
    )
    if same:
        connection.execute(
            "update receipt_trees set books = %s "
            "where hour = %s and instance_id = %s and revision = %s",
            [row["books"], row["hour"], row["instance_id"], row["revision"]],
        )
        return False
    connection.execute(
        "insert into receipt_trees (hour, instance_id, revision, first_seq, last_seq, refused, "
        "dropped, missing, shares, events, valid, work, root, entry, books) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            row["hour"], row["instance_id"], (row["revision"] or 0) + 1, first, last,
            *map(stored.multirange, built.stated), built.shares, built.events, built.root.valid,
            built.root.work, built.root.hash, index, row["books"],
        ],
    )  # fmt: skip
    return True
