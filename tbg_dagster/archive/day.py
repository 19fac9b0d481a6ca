"""One day between the database and the archive: written, compared, brought back.

All of it is safe to repeat. Whatever writes a day, on either side, holds the day's
advisory lock. A revision never holds less than the one before it: rows that the database
has lost by then (it was dropped, and a late share came) are taken over from there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, Literal

import pyarrow as pa
from psycopg import IsolationLevel, sql
from psycopg.rows import tuple_row

from ingest.flavour import flavour_of
from tbg_dagster import clock
from tbg_dagster.archive import parquet
from tbg_dagster.archive.manifest import File, Hour, Manifest, best_of, fold
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.partitions import DAY, midnight
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection

Outcome = Literal["archived", "new revision", "unchanged", "dropped before", "empty"]

_COPY_SHARES: Final = (
    "copy archived_shares (time, btc_address, worker_name, instance, seq, difficulty, "
    "share_diff, is_valid, reject_reason, is_block, job_id, nonce, nonce2, share_hash, "
    "ip_address, source, user_id, worker_id, instance_id) from stdin"
)
_COPY_EVENTS: Final = (
    "copy archived_events (time, event, instance, seq, source, payload, instance_id) from stdin"
)


@dataclass(frozen=True)
class Archived:
    """What archiving a day came to; ``manifest`` is None for a day without rows."""

    outcome: Outcome
    manifest: Manifest | None


@dataclass(frozen=True)
class Restored:
    """How many rows a restore brought back; 0 where all were there."""

    revision: int
    shares: int
    events: int


def archive(connection: Connection, store: Store, day: date) -> Archived:
    """Makes the archive of a closed day equal to the database, by a new revision if need be.

    Raises:
        ArchiveError: when the archive cannot be used, or what was read back from it is not
            what was written. The revision before stands.
    """
    _closed(day)
    with _locked(connection, day):
        before = store.manifest(day)
        if before is None and not has_rows(connection, day):
            return Archived("empty", None)
        if before is not None:
            if not has_rows(connection, day):
                return Archived("dropped before", before)
            if same(before.hours, database_hours(connection, day)):
                store.clean(day, before)
                return Archived("unchanged", before)
            store.checked(before.shares)
            store.checked(before.events)
        store.clean(day, before)
        made = _write(connection, store, day, before)
        store.commit(made)
        store.clean(day, made)
        return Archived("new revision" if before else "archived", made)


def restore(
    connection: Connection, store: Store, day: date, keep: timedelta = timedelta(0)
) -> Restored:
    """Puts back the rows of an archived day that the database lacks, in one transaction.

    Args:
        connection: to a migrated database, the one that was archived or another one.
        store: the archive.
        day: UTC.
        keep: how long housekeeping leaves the day alone.

    Raises:
        ArchiveError: when the day is not archived, or its files are not those of its
            manifest. The database is as it was.
    """
    with _locked(connection, day):
        manifest = store.manifest(day)
        if manifest is None:
            raise ArchiveError(f"{day} is not in the archive {store.place}")
        store.checked(manifest.shares)
        store.checked(manifest.events)
        with connection.transaction():
            if flavour_of(connection) == "postgresql":
                connection.execute("select ensure_partitions(%s, %s)", [day, day])
            _stage(connection, store, manifest)
            connection.execute(query(__package__, "names.sql"))
            connection.execute(query(__package__, "workers.sql"))
            _compare(connection, day)
            row = connection.execute(query(__package__, "put_back.sql")).fetchone()
            assert row is not None
            if keep:
                connection.execute(
                    "insert into restored_days (day, revision, keep_until) "
                    "values (%s, %s, now() + %s) on conflict (day) do update set "
                    "revision = excluded.revision, restored_at = now(), "
                    "keep_until = greatest(restored_days.keep_until, excluded.keep_until)",
                    [day, manifest.revision, keep],
                )
        return Restored(manifest.revision, row["shares"], row["events"])


def verify(connection: Connection, store: Store, day: date) -> Manifest | None:
    """Compares database and archive: files with the manifest, the manifest with the rows.

    Returns:
        the manifest; None for a day that has rows in neither.

    Raises:
        ArchiveError: saying in what they differ.
    """
    manifest = store.manifest(day)
    if manifest is None:
        if has_rows(connection, day):
            raise ArchiveError("not archived")
        return None
    store.checked(manifest.shares)
    store.checked(manifest.events)
    if wrong := differences(manifest.hours, database_hours(connection, day)):
        raise ArchiveError(f"archive and database differ: {'; '.join(wrong[:3])}")
    return manifest


def database_hours(connection: Connection, day: date) -> list[Hour]:
    """What the database's rows of a day add up to."""
    span = _span(day)
    return fold(
        connection.execute(query(__package__, "share_groups.sql"), span),
        connection.execute(query(__package__, "event_groups.sql"), span),
    )


def same(archived: Sequence[Hour], stored: Sequence[Hour]) -> bool:
    """Whether both have the same hours."""
    return list(archived) == list(stored)


def differences(archived: Sequence[Hour], stored: Sequence[Hour]) -> list[str]:
    """The hours that differ, in words."""
    left = {hour.hour: hour for hour in archived}
    right = {hour.hour: hour for hour in stored}
    said = []
    for moment in sorted(left.keys() | right.keys()):
        a, b = left.get(moment, Hour(hour=moment)), right.get(moment, Hour(hour=moment))
        if a != b:
            fields = [name for name in Hour.model_fields if getattr(a, name) != getattr(b, name)]
            said.append(
                f"{moment:%H}h "
                + ", ".join(
                    f"{name} {getattr(a, name)} archived, {getattr(b, name)} stored"
                    for name in fields
                )
            )
    return said


def _closed(day: date) -> None:
    if day >= clock.today().date():
        raise ArchiveError(f"{day} has not closed: only days before today (UTC) are archived")


def _span(day: date) -> dict[str, datetime]:
    return {"start": midnight(day), "end": midnight(day) + DAY}


def has_rows(connection: Connection, day: date) -> bool:
    """Whether the database has a share or an event of a day."""
    row = connection.execute(
        "select exists (select from shares where time >= %(start)s and time < %(end)s) or "
        "exists (select from mining_events where time >= %(start)s and time < %(end)s) as found",
        _span(day),
    ).fetchone()
    assert row is not None
    return bool(row["found"])


@contextmanager
def _locked(connection: Connection, day: date) -> Iterator[None]:
    # Of the session: it spans transactions, and ends with the connection however that ends.
    name = f"tbg archive {day}"
    connection.execute("select pg_advisory_lock(hashtext(%s))", [name])
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("select pg_advisory_unlock(hashtext(%s))", [name])


def _write(connection: Connection, store: Store, day: date, before: Manifest | None) -> Manifest:
    connection.isolation_level = IsolationLevel.REPEATABLE_READ  # one moment for all reads
    try:
        with connection.transaction():
            row = connection.execute("select now() as moment").fetchone()
            assert row is not None
            _stage(connection, store, before)
            _compare(connection, day)
            shares = _file(connection, store, day, "shares")
            events = _file(connection, store, day, "events")
            stored = database_hours(connection, day)
            taken_over = connection.execute(
                "select (select count(*) from missing_shares) as shares, "
                "(select count(*) from missing_events) as events"
            ).fetchone()
            assert taken_over is not None
    finally:
        connection.isolation_level = None
    hours = _archived_hours(store, shares, events)
    # With rows of the revision before, the archive has more than the database.
    if not same(hours, stored) and not sum(taken_over.values()):
        raise ArchiveError(
            f"{day}: what was written differs from the database: "
            + "; ".join(differences(hours, stored)[:3])
        )
    for file, kind, there in (
        (shares, "shares", sum(hour.shares for hour in stored)),
        (events, "events", sum(sum(hour.events.values()) for hour in stored)),
    ):
        if file.rows != there + taken_over[kind]:
            raise ArchiveError(
                f"{day}: {file.rows} {kind} were written; the database has {there}, and "
                f"{taken_over[kind]} come from the revision before"
            )
    revision = before.revision + 1 if before else 1
    return Manifest(
        day=day,
        revision=revision,
        archived_at=clock.now(),
        read_at=row["moment"],
        shares=store.place_file(shares, f"shares/{day}.{revision}.parquet", shares.rows),
        events=store.place_file(events, f"events/{day}.{revision}.parquet", events.rows),
        best=best_of(hours),
        difficulty=sum(hour.difficulty for hour in hours),
        hours=hours,
    )


def _file(
    connection: Connection, store: Store, day: date, kind: Literal["shares", "events"]
) -> File:
    """Writes the rows of a day beside their place; the file's rows are those read back."""
    schema = parquet.SHARES if kind == "shares" else parquet.EVENTS

    def fill(sink: Any) -> None:
        with connection.cursor(name=f"archive_{kind}", row_factory=tuple_row) as cursor:
            cursor.execute(query(__package__, f"read_{kind}.sql"), _span(day))
            parquet.write(sink, schema, iter(lambda: cursor.fetchmany(parquet.ROW_GROUP), []))

    part = store.write(f"{kind}/{day}", fill)
    with store.read(part.file) as source:
        rows = sum(batch.num_rows for batch in parquet.read(source))
    return part.model_copy(update={"rows": rows})


def _archived_hours(store: Store, shares: File, events: File) -> list[Hour]:
    with store.read(shares.file) as share_file, store.read(events.file) as event_file:
        return parquet.sums(parquet.read(share_file), parquet.read(event_file))


def _stage(connection: Connection, store: Store, manifest: Manifest | None) -> None:
    """Copies a revision into temporary tables of this transaction; None leaves them empty."""
    connection.execute(query(__package__, "staging.sql"))
    if manifest is None:
        return
    with (
        store.read(manifest.shares.file) as source,
        connection.cursor() as cursor,
        cursor.copy(_COPY_SHARES) as copy,
    ):
        for row in _values(parquet.read(source), parquet.SHARES):
            copy.write_row(row)
    with (
        store.read(manifest.events.file) as source,
        connection.cursor() as cursor,
        cursor.copy(_COPY_EVENTS) as copy,
    ):
        for row in _values(parquet.read(source), parquet.EVENTS):
            copy.write_row(row)


def _values(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        yield from zip(*(batch[name].to_pylist() for name in schema.names), strict=True)


def _compare(connection: Connection, day: date) -> None:
    """Finds what the staged revision has and the database lacks."""
    for table in ("archived_shares", "archived_events"):
        connection.execute(sql.SQL("analyze {}").format(sql.Identifier(table)))
    connection.execute(query(__package__, "missing_shares.sql"), _span(day))
    connection.execute(query(__package__, "missing_events.sql"), _span(day))
