"""The flavour of a schema: what ``tbg migrate`` made of the database.

The table ``shares`` itself is asked. The extension alone says nothing: a server that
has it may hold the plain schema (``tbg migrate --flavour postgresql``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    import asyncpg
    import psycopg

Flavour = Literal["timescaledb", "postgresql"]
FLAVOURS: Final[tuple[Flavour, ...]] = get_args(Flavour)

# A partitioned table is plain PostgreSQL's; a hypertable is an ordinary table.
_FLAVOUR: Final = """
select case relkind when 'p' then 'postgresql' else 'timescaledb' end
from pg_class
where oid = to_regclass('shares')
"""


def flavour_of(connection: psycopg.Connection[Any]) -> Flavour | None:
    """The schema's flavour, or None if the database has no schema yet."""
    with connection.cursor(row_factory=lambda _cursor: lambda values: values[0]) as cursor:
        flavour: Flavour | None = cursor.execute(_FLAVOUR).fetchone()
    return flavour


async def fetch_flavour(connection: asyncpg.Connection) -> Flavour | None:
    """:func:`flavour_of`, over asyncpg."""
    flavour: Flavour | None = await connection.fetchval(_FLAVOUR)
    return flavour
