"""The table ``shares`` itself says which flavour a schema is."""

import asyncpg
import psycopg
import pytest
from psycopg.rows import dict_row

from tbg_core.flavour import Flavour, fetch_flavour, flavour_of


async def test_both_drivers_name_the_flavour_of_a_migrated_database(
    database_url: str, db: asyncpg.Connection, flavour: Flavour
) -> None:
    assert await fetch_flavour(db) == flavour
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        assert flavour_of(connection) == flavour


async def test_a_database_without_a_schema_has_no_flavour(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    try:
        assert await fetch_flavour(connection) is None
    finally:
        await connection.close()
    with psycopg.connect(empty_database_url) as sync:
        assert flavour_of(sync) is None


@pytest.mark.parametrize(
    ("statement", "flavour"),
    [
        ("create table shares (time timestamptz) partition by range (time)", "postgresql"),
        # What create_hypertable leaves is an ordinary table with children.
        ("create table shares (time timestamptz)", "timescaledb"),
    ],
)
def test_the_table_decides_and_not_what_the_server_offers(
    empty_database_url: str, statement: str, flavour: Flavour
) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(statement.encode())
        assert flavour_of(connection) == flavour
