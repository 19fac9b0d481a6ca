"""One day between the database and the archive: written, compared, brought back.

All of it is safe to repeat. Whatever writes a day, on either side, holds the day's
advisory lock. A revision never holds less than the one before it: rows that the database
has lost by then (it was dropped, and a late share came) are taken over from there.

Rows are compared, and come back, by the names of user, worker and engine boot. A number is
used only for a row that has no name, and only in the database that wrote it. A share whose engine
numbered it is that share under any name: a user may be renamed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from psycopg import IsolationLevel, sql
from psycopg.rows import tuple_row

from tbg_core.flavour import flavour_of
from tbg_core.periods import midnight
from tbg_dagster import clock
from tbg_dagster.archive import parquet
from tbg_dagster.archive.manifest import File, Hour, Manifest, best_of, fold
from tbg_dagster.archive.owner import Owner
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.partitions import DAY
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection

Outcome = Literal["archived", "new revision", "unchanged", "dropped before", "empty"]


@dataclass(frozen=True)
class Archived:
    """What archiving a day came to; ``manifest`` is None for a day without rows."""

    outcome: Outcome
    manifest: Manifest | None


@dataclass(frozen=True)
class Restored:
    """How many rows a restore brought back; 0 if all were there."""

    revision: int
    shares: int
    events: int


def archive(connection: Connection, store: Store, day: date) -> Archived:
    """Makes the archive of a closed day equal to the database, by a new revision if need be.

    Raises:
        ArchiveError: when the archive cannot be used, or what was read back from it is not
            what was written. The revision before stands.
    """
    if day >= clock.today().date():
        raise ArchiveError(f"{day} has not closed: only days before today (UTC) are archived")
    owner = Owner.of(connection)
    owner.check_newest(connection, store)
    with _locked(connection, day):
        before = store.manifest(day)
        if not has_rows(connection, day):
            return Archived("dropped before" if before else "empty", before)
        if before is not None:
            owner.check(store, before.database)
            if before.hours == database_hours(connection, day):
                store.clean(day)
                return Archived("unchanged", before)
            store.check(before)
        store.clean(day)
        made = _write(connection, store, day, before, owner)
        store.commit(made, before)
        if store.manifest(day) != made:
            raise ArchiveError(
                f"another database has written {day} to the archive {store.place} just now: each "
                "needs an ARCHIVE_URL of its own"
            )
        store.clean(day)
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
        store.check(manifest)
        with connection.transaction():
            if flavour_of(connection) == "postgresql":
                connection.execute("select ensure_partitions(%s, %s)", [day, day])
            _stage(connection, store, manifest, Owner.of(connection))
            _compare(connection, day)
            connection.execute(query(__package__, "names.sql"))
            connection.execute(query(__package__, "workers.sql"))
            [row] = connection.execute(query(__package__, "put_back.sql"))
            if keep:
                connection.execute(
                    "insert into restored_days (day, revision, keep_until) "
                    "values (%s, %s, now() + %s) on conflict (day) do update set "
                    "revision = excluded.revision, restored_at = now(), "
                    "keep_until = greatest(restored_days.keep_until, excluded.keep_until)",
                    [day, manifest.revision, keep],
                )
        return Restored(manifest.revision, row["shares"], row["events"])


def verify(connection: Connection, store: Store, day: date) -> None:
    """Compares database and archive: files with the manifest, the manifest with the rows.

    Raises:
        ArchiveError: saying in what they differ.
    """
    manifest = store.manifest(day)
    if manifest is None:
        if has_rows(connection, day):
            raise ArchiveError("not archived")
        return
    store.check(manifest)
    if wrong := differences(manifest.hours, database_hours(connection, day)):
        raise ArchiveError(f"archive and database differ: {'; '.join(wrong[:3])}")


def database_hours(connection: Connection, day: date) -> list[Hour]:
    """What the database's rows of a day add up to."""
    span = _span(day)
    return fold(
        connection.execute(query(__package__, "share_groups.sql"), span),
        connection.execute(query(__package__, "event_groups.sql"), span),
    )


def differences(archived: Sequence[Hour], stored: Sequence[Hour]) -> list[str]:
    """The hours that differ, in words."""
    left, right = ({hour.hour: hour for hour in side} for side in (archived, stored))
    said = []
    for moment in sorted(left.keys() | right.keys()):
        none = Hour(hour=moment)
        pairs = zip(left.get(moment, none), right.get(moment, none), strict=True)
        fields = [f"{name} {a} archived, {b} stored" for (name, a), (_, b) in pairs if a != b]
        if fields:
            said.append(f"{moment:%H}h {', '.join(fields)}")
    return said


def _span(day: date) -> dict[str, datetime]:
    return {"start": midnight(day), "end": midnight(day) + DAY}


def has_rows(connection: Connection, day: date) -> bool:
    """Whether the database has a share or an event of a day."""
    [row] = connection.execute(
        "select exists (select from shares where time >= %(start)s and time < %(end)s) or "
        "exists (select from mining_events where time >= %(start)s and time < %(end)s) as found",
        _span(day),
    )
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


def _write(
    connection: Connection, store: Store, day: date, before: Manifest | None, owner: Owner
) -> Manifest:
    revision = before.revision + 1 if before else 1
    connection.isolation_level = IsolationLevel.REPEATABLE_READ  # one moment for all reads
    try:
        with connection.transaction():
            [row] = connection.execute("select now() as moment")
            _stage(connection, store, before, owner)
            _compare(connection, day)
            files = {
                kind: store.write(
                    f"{kind}/{day}.{revision}.parquet", _filler(connection, day, kind)
                )
                for kind in parquet.SCHEMAS
            }
            stored = database_hours(connection, day)
            [taken_over] = connection.execute(
                "select (select count(*) from missing_shares) as shares, "
                "(select count(*) from missing_events) as events"
            )
            if before is not None:
                _prove(connection, store, day, files)
    finally:
        connection.isolation_level = None
    with store.read(files["shares"].file) as shares, store.read(files["events"].file) as events:
        hours = parquet.sums(shares, events)
    # With rows of the revision before, the archive has more than the database.
    if not sum(taken_over.values()) and (wrong := differences(hours, stored)):
        raise ArchiveError(
            f"{day}: what was written differs from the database: {'; '.join(wrong[:3])}"
        )
    written, there = _rows(hours), _rows(stored)
    for kind, rows in written.items():
        if rows != there[kind] + taken_over[kind]:
            raise ArchiveError(
                f"{day}: {rows} {kind} were written; the database has {there[kind]}, and "
                f"{taken_over[kind]} come from the revision before"
            )
    return Manifest(
        database=owner.id,
        day=day,
        revision=revision,
        archived_at=clock.now(),
        read_at=row["moment"],
        shares=files["shares"].model_copy(update={"rows": written["shares"]}),
        events=files["events"].model_copy(update={"rows": written["events"]}),
        best=best_of(hours),
        difficulty=sum(hour.difficulty for hour in hours),
        hours=hours,
    )


def _rows(hours: Sequence[Hour]) -> dict[str, int]:
    return {
        "shares": sum(hour.shares for hour in hours),
        "events": sum(sum(hour.events.values()) for hour in hours),
    }


def _filler(connection: Connection, day: date, kind: str) -> Callable[[Any], None]:
    """What writes the day's rows into an open file."""

    def fill(sink: Any) -> None:
        with connection.cursor(name=f"archive_{kind}", row_factory=tuple_row) as cursor:
            cursor.execute(query(__package__, f"read_{kind}.sql"), _span(day))
            batches = iter(lambda: cursor.fetchmany(parquet.ROW_GROUP), [])
            parquet.write(sink, parquet.SCHEMAS[kind], batches)

    return fill


def _stage(connection: Connection, store: Store, manifest: Manifest | None, owner: Owner) -> None:
    """Copies a revision into temporary tables of this transaction; None leaves them empty."""
    connection.execute(query(__package__, "staging.sql"))
    if manifest is None:
        return
    _load(connection, store, "archived_shares", manifest.shares)
    _load(connection, store, "archived_events", manifest.events)
    if manifest.database != owner.id:
        origin = f"database {manifest.database}" if manifest.database else "an unknown database"
        for name in ("strangers_shares.sql", "strangers_events.sql"):
            connection.execute(query(__package__, name), {"origin": origin})


def _load(connection: Connection, store: Store, table: str, file: File) -> None:
    copying = sql.SQL("copy {} from stdin").format(sql.Identifier(table))
    with (
        store.read(file.file) as source,
        connection.cursor() as cursor,
        cursor.copy(copying) as copy,
    ):
        for batch in parquet.read(source):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                copy.write_row(row)


def _prove(connection: Connection, store: Store, day: date, files: dict[str, File]) -> None:
    """Proves row by row that a new revision has the rows of the one before and the database's.

    Raises:
        ArchiveError: when one is not there.
    """
    for kind, file in files.items():
        _load(connection, store, f"written_{kind}", file)
        [row] = connection.execute(query(__package__, f"lost_{kind}.sql"), _span(day))
        if row["archived"] or row["stored"]:
            raise ArchiveError(
                f"{day}: the new revision lacks {row['archived']} {kind} of the one before and "
                f"{row['stored']} of the database; the one before stands"
            )


def _compare(connection: Connection, day: date) -> None:
    """Finds what the staged revision has and the database lacks."""
    connection.execute("analyze archived_shares, archived_events")
    connection.execute(query(__package__, "missing_shares.sql"), _span(day))
    connection.execute(query(__package__, "renamed_shares.sql"), _span(day))
    connection.execute(query(__package__, "missing_events.sql"), _span(day))
