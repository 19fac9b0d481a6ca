"""The database as ``tbg serve`` sees it: read only, bounded in time, few connections."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import structlog

from tbg_core.database import AWAY, connect_async
from tbg_serve.unavailable import Unavailable

# What a query of ours meets where another version's schema is, or none.
_NO_SCHEMA: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("tbg_serve")


class Database:
    """A few connections that only read; each query is given up after a while.

    Args:
        url: of the database.
        connections: most of them.
        seconds: that one query may take, and that it may wait for a connection.
    """

    def __init__(self, url: str, connections: int, seconds: float) -> None:
        self._url = url
        self._connections = connections
        self._seconds = seconds
        self._pool: asyncpg.Pool | None = None

    async def open(self) -> None:
        """Makes the pool; connects when the first query comes, so it cannot fail."""
        milliseconds = f"{self._seconds * 1000:.0f}"
        settings = {
            "default_transaction_read_only": "on",
            "timezone": "UTC",
            "jit": "off",
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": "60000",
        }

        async def connect(*_: Any, **__: Any) -> asyncpg.Connection:
            return await connect_async(self._url, application="tbg serve", settings=settings)

        self._pool = await asyncpg.create_pool(
            min_size=0,
            max_size=self._connections,
            max_inactive_connection_lifetime=60,
            connect=connect,
            # Nothing of a session outlives its query; the settings stay.
            reset=_as_it_is,
        )

    async def close(self) -> None:
        """Ends every connection."""
        if self._pool is not None:
            self._pool.terminate()

    async def fetch(
        self, query: str, *values: object, seconds: float | None = None
    ) -> list[asyncpg.Record]:
        """The rows of a query.

        Args:
            query: SQL, with $1, $2 for the values.
            values: of the query.
            seconds: that it may take; what all queries may take if None.

        Raises:
            Unavailable: the database is away, slow or busy, or lacks the schema.
        """
        assert self._pool is not None
        limit = self._seconds if seconds is None else seconds
        try:
            async with self._pool.acquire(timeout=limit) as connection:
                if seconds is None:
                    rows: list[asyncpg.Record] = await connection.fetch(
                        query, *values, timeout=limit + 1
                    )
                    return rows
                async with connection.transaction(readonly=True):
                    await connection.execute(f"set local statement_timeout = {limit * 1000:.0f}")
                    rows = await connection.fetch(query, *values, timeout=limit + 1)
                    return rows
        except TimeoutError:
            raise Unavailable("the database is slow or busy") from None
        except asyncpg.QueryCanceledError:
            raise Unavailable("the database is slow: a query was given up") from None
        except _NO_SCHEMA as error:
            log.error("the database lacks the schema of this version: run tbg migrate")
            raise Unavailable("the database lacks the schema of this version") from error
        except asyncpg.InsufficientPrivilegeError as error:
            log.error("this role may not read what is served: run tbg migrate", error=str(error))
            raise Unavailable("the database does not let us read") from error
        except asyncpg.DataError as error:
            log.error("a query cannot be computed", error=str(error))
            raise Unavailable("a number in the database cannot be computed with") from error
        except asyncpg.TooManyConnectionsError as error:
            log.warning("the database takes no more connections")
            raise Unavailable("the database takes no more connections") from error
        except AWAY as error:
            log.warning("the database does not answer", error=str(error) or repr(error))
            raise Unavailable("the database does not answer") from error

    async def row(self, query: str, *values: object) -> asyncpg.Record | None:
        """The first row of a query, or None."""
        rows = await self.fetch(query, *values)
        return rows[0] if rows else None

    async def one(self, query: str, *values: object) -> asyncpg.Record:
        """The row of a query that always has one."""
        return (await self.fetch(query, *values))[0]

    async def together(self, *queries: tuple[str, Sequence[Any]]) -> list[list[asyncpg.Record]]:
        """The rows of several queries, asked at once."""
        tasks = [asyncio.ensure_future(self.fetch(query, *values)) for query, values in queries]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            raise


async def _as_it_is(connection: asyncpg.Connection) -> None:
    """What asyncpg would reset, our settings among it, stays."""


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)
