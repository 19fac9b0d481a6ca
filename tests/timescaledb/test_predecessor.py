"""TimescaleDB: the schema is the one of the migrations before it."""

import pytest

from tbg.migrate import read_migrations
from tbg.predecessor import LAST_MADE, PredecessorError, mark_predecessor, names_before
from tests.catalog import digests
from tests.tbg.test_predecessor import before, contents, fill, set_books
from tests.timescaledb.server import Connection, apply, empty


def test_the_schema_is_what_the_migrations_before_it_made(connection: Connection) -> None:
    empty(connection)
    apply(connection, "timescaledb", LAST_MADE)
    assert digests(connection) == before("timescaledb", connection.info.server_version)


def test_a_database_of_the_version_before_is_marked_and_an_older_one_is_not(
    connection: Connection,
) -> None:
    fill(connection)
    migrations = read_migrations("timescaledb")
    set_books(connection, names_before("timescaledb")[:-1])
    was = contents(connection), digests(connection)
    with pytest.raises(PredecessorError, match="from 0040a_comments on"):
        mark_predecessor(connection, "timescaledb", migrations)
    set_books(connection, names_before("timescaledb"))
    assert mark_predecessor(connection, "timescaledb", migrations)
    assert not mark_predecessor(connection, "timescaledb", migrations)
    rows = connection.execute("select migration_id as name from _yoyo_migration").fetchall()
    schema = {one.id for one in migrations if one.id <= LAST_MADE}
    assert {row["name"] for row in rows} == {*names_before("timescaledb"), *schema}
    assert (contents(connection), digests(connection)) == was
