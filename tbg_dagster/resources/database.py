"""The platform's database."""

import contextlib
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import dagster as dg
import psycopg
from psycopg.rows import DictRow, dict_row
from pydantic import Field

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
        parts = urlsplit(self.url)
        where = f"{parts.hostname}:{parts.port or 5432}{parts.path}"
        try:
            with psycopg.connect(
                self.url,
                autocommit=True,
                row_factory=dict_row,
                connect_timeout=10,
                application_name="tbg_dagster",
                # Rollups sort and group millions of rows: by default they would do so on disk.
                options=f"-c timezone=UTC -c work_mem={WORK_MEMORY}",
            ) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise dg.Failure(
                f"the database {where} (DATABASE_URL) cannot be reached or used: {error}"
            ) from error
        except psycopg.errors.UndefinedTable as error:
            raise dg.Failure(
                f"the database {where} (DATABASE_URL) lacks a table; run tbg migrate: {error}"
            ) from error
