"""Whose an archive is: one database writes it, and every manifest names that database.

Rows of an archive are never taken for another database's by their numbers. A database that
finds an archive in use by another one leaves it as it is, until a person has said that it
continues that one.
"""

from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from tbg_core.periods import midnight
from tbg_dagster.archive.manifest import Manifest
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.partitions import DAY
from tbg_dagster.resources.database import Connection

NAMELESS: Final = UUID(int=0)  # among the adopted: archives that name no database
_ADVICE: Final = (
    "an ARCHIVE_URL of its own, or, if it continues that database, run tbg archive adopt"
)


@dataclass(frozen=True)
class Owner:
    """A database, and those that it continues."""

    id: UUID
    adopted: frozenset[UUID]

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """The database of a connection."""
        [row] = connection.execute("select database_id() as id").fetchall()
        adopted = connection.execute("select id from adopted_databases").fetchall()
        return cls(row["id"], frozenset(other["id"] for other in adopted))

    def check(self, store: Store, database: UUID | None) -> None:
        """Refuses what another database wrote; None wrote before manifests named it.

        Raises:
            ArchiveError: saying what to do.
        """
        if database is not None and database != self.id and database not in self.adopted:
            raise ArchiveError(
                f"the archive {store.place} belongs to the database {database}, and this one is "
                f"{self.id}: give this one {_ADVICE}"
            )

    def check_newest(self, connection: Connection, store: Store) -> None:
        """Refuses an archive whose newest day another database wrote.

        Raises:
            ArchiveError: saying what to do.
        """
        days = store.days()
        manifest = next(filter(None, map(store.readable, reversed(days))), None)
        if manifest is None:
            return
        self.check(store, manifest.database)
        if manifest.database is None and NAMELESS not in self.adopted:
            for day in days:
                if not _wrote(connection, store.readable(day)):
                    raise ArchiveError(
                        f"the archive {store.place} does not say which database wrote it, and "
                        f"this one, {self.id}, has other shares of {day}: give it {_ADVICE}"
                    )


def adopt(connection: Connection, store: Store) -> list[UUID]:
    """Says that this database continues those that wrote the archive; returns them."""
    owner = Owner.of(connection)
    manifests = [store.manifest(day) for day in store.days()]
    found = sorted({manifest.database or NAMELESS for manifest in manifests if manifest})
    others = [database for database in found if database != owner.id]
    connection.execute(
        "insert into adopted_databases (id) select unnest(%s::uuid[]) on conflict do nothing",
        [others],
    )
    return others


def _wrote(connection: Connection, manifest: Manifest | None) -> bool:
    """Whether a day that names no database is this one's: it has the hours, kept for ever."""
    if manifest is None or manifest.database is not None:
        return True
    span = [midnight(manifest.day), midnight(manifest.day) + DAY]
    [row] = connection.execute(
        "select (select coalesce(sum(shares), 0)::bigint from shares_hourly "
        "where bucket >= %s and bucket < %s) as rolled, "
        "(select count(*) from shares where time >= %s and time < %s) as raw",
        [*span, *span],
    )
    return bool(manifest.shares.rows <= max(row["rolled"], row["raw"]))
