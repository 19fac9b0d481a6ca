"""Drops a day's partitions on plain PostgreSQL beside open readers and a writer that goes on.

Dropping a partition of a table takes a lock that no reader and no writer has beside it, and
statements that come later queue behind it. Detaching it concurrently waits for the
transactions that had the table in use before, and nobody waits behind it; then the partition
is a table of its own. If the wait is cut off, or the process ends, the partition stays as it
is, invisible to queries, and the next call goes on from there.
"""

from datetime import date
from typing import Final

import psycopg
from psycopg import sql

from tbg_core.periods import midnight
from tbg_dagster.archive.held import HeldError
from tbg_dagster.archive.store import Store
from tbg_dagster.partitions import DAY
from tbg_dagster.queries import query
from tbg_dagster.resources.database import Connection

TRIES: Final = 3


def drop_detached(connection: Connection, store: Store | None, day: date) -> None:
    """Detaches and drops the partitions of a day whose rows were proven to be elsewhere.

    Args:
        connection: autocommit, with a ``lock_timeout``.
        store: holds the day, if there is an archive.
        day: UTC.

    Raises:
        psycopg.errors.LockNotAvailable: when a transaction has the table in use for too long.
        HeldError: when a row came in meanwhile; the day is as it was.
    """
    for found in connection.execute(
        query(__package__, "tables_postgresql.sql"), {"start": midnight(day)}
    ).fetchall():
        table = sql.Identifier(found["schema"], found["name"])
        parent = sql.Identifier(found["schema"], found["parent"])
        for left in reversed(range(TRIES)):
            try:
                _detach(connection, parent, table, found["name"])
                break
            except psycopg.errors.LockNotAvailable:
                if not left:
                    raise
        with connection.transaction():
            # Nobody finds it any more, but for those who are in it.
            connection.execute(sql.SQL("lock table {} in access exclusive mode").format(table))
            rows = _count(connection, table)
            known = _known(connection, store, found["parent"], day)
            if known is None or rows == known:
                connection.execute(sql.SQL("drop table {}").format(table))
                continue
        connection.execute("select ensure_partitions(%s, %s)", [day, day])
        raise HeldError(
            f"{rows} rows of {found['parent']} are in the database, and {known} in what is kept "
            "of them: it came back as it was"
        )


def _detach(
    connection: Connection, parent: sql.Identifier, table: sql.Identifier, name: str
) -> None:
    row = connection.execute(
        "select inhdetachpending as pending from pg_inherits where inhrelid = to_regclass(%s)",
        [name],
    ).fetchone()
    if row is None:
        return
    how = "finalize" if row["pending"] else "concurrently"
    connection.execute(
        sql.SQL("alter table {} detach partition {} {}").format(parent, table, sql.SQL(how))
    )


def _count(connection: Connection, table: sql.Identifier) -> int:
    [row] = connection.execute(sql.SQL("select count(*) as rows from {}").format(table))
    return int(row["rows"])


def _known(connection: Connection, store: Store | None, parent: str, day: date) -> int | None:
    """How many rows of a day are elsewhere; None where nobody knows (events without archive)."""
    if store is not None:
        manifest = store.manifest(day)
        if manifest is None:
            return 0
        return (manifest.shares if parent == "shares" else manifest.events).rows
    if parent != "shares":
        return None
    [row] = connection.execute(
        "select coalesce(sum(shares), 0)::bigint as rows from shares_hourly "
        "where bucket >= %s and bucket < %s",
        [midnight(day), midnight(day) + DAY],
    )
    return int(row["rows"])
