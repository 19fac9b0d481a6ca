"""The platform's database."""

import contextlib
from collections.abc import Iterator
from typing import Final

import dagster as dg
import psycopg
from psycopg.rows import DictRow, dict_row
from pydantic import Field

from tbg_core.database import connect, without_password
from tbg_core.database_url import DatabaseError

Connection = psycopg.Connection[DictRow]

WORK_MEMORY: Final = "64MB"  # of one sort or hash table; two connections compute at most


class Database(dg.ConfigurableResource):  # type: ignore[type-arg]  # yields itself
    """PostgreSQL or TimescaleDB, migrated by ``tbg migrate``."""

    url: str = Field(description="postgresql://user:password@host:port/database")

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection in autocommit mode, in UTC; rows are dictionaries.

        Raises:
            dagster.Failure: when the database does not answer, or the connection breaks.
        """
        try:
            with connect(
                self.url,
                application="tbg_dagster",
                row_factory=dict_row,
                # Rollups sort and group millions of rows: by default they would do so on disk.
                settings={"work_mem": WORK_MEMORY},
            ) as connection:
                yield connection
        except DatabaseError as error:
            where = without_password(self.url).rpartition("@")[2].partition("?")[0]
            raise dg.Failure(
                f"the database {where} (DATABASE_URL) cannot be reached or used: {error}"
            ) from error
