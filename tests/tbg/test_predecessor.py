"""The schema is the one of the migrations before it, and tbg migrate continues their databases.

``schema/`` has what those migrations made (commit ``LAST_COMMIT``) as ``digests`` sees it, on the
servers that the tests bring. The words of a definition depend on the server's version.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import tuple_row

from tbg.migrate import MigrateError, migrate, missing_migrations, read_migrations
from tbg.predecessor import (
    LAST_COMMIT,
    LAST_MADE,
    PredecessorError,
    mark_predecessor,
    names_before,
)
from tbg_core.flavour import Flavour
from tests.catalog import digests

SCHEMA: Final = Path(__file__).parent / "schema"
# As yoyo makes it.
_BOOKS: Final = """
create table if not exists _yoyo_migration (
    migration_hash varchar(64) primary key, migration_id varchar(255), applied_at_utc timestamp
)
"""


def before(flavour: Flavour, server_version: int) -> list[str]:
    """What the migrations before this schema made of an empty database."""
    path = SCHEMA / f"{flavour}-{server_version // 10000}.txt"
    if not path.is_file():
        pytest.skip(f"no {path.name}: that server is none of those that the tests bring")
    return path.read_text().splitlines()


def set_books(connection: psycopg.Connection[Any], names: list[str]) -> None:
    """Makes the database's migrations these."""
    connection.execute(_BOOKS)
    connection.execute("delete from _yoyo_migration")
    for name in names:
        connection.execute(
            "insert into _yoyo_migration values (%s, %s, '2026-11-30')", [f"hash of {name}", name]
        )


def contents(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """All rows of all tables but yoyo's, and how far each number has come."""
    rows = sql.SQL("select coalesce(string_agg(t::text, ' ' order by t::text), '') from {} t")
    number = sql.SQL("select concat_ws(' ', last_value, is_called) from {}")
    with connection.cursor(row_factory=tuple_row) as cursor:
        relations = cursor.execute(
            "select relname, relkind = 'S' from pg_class c "
            "where relnamespace = current_schema()::regnamespace "
            "and relkind in ('r', 'p', 'S') and not relispartition and relname !~ '^_?yoyo' "
            "and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')"
        ).fetchall()
        return {
            name: str(
                cursor.execute(
                    (number if is_sequence else rows).format(sql.Identifier(name))
                ).fetchone()
            )
            for name, is_sequence in relations
        }


def fill(connection: psycopg.Connection[Any]) -> None:
    """A row in some tables, one of them of today's shares."""
    connection.execute("insert into users (btc_address) values ('bc1q')")
    connection.execute("insert into workers (user_id, worker_name) select id, 'rig' from users")
    connection.execute(
        "insert into shares (time, difficulty, user_id, worker_id, is_valid) "
        "select %s, 512, user_id, id, true from workers",
        [datetime.now(UTC)],
    )
    connection.execute(
        "insert into stream_offsets (consumer, stream, last_id) values ('writer', 'a', '5-1')"
    )


def test_the_schema_is_what_the_migrations_before_it_made(
    empty_database_url: str, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without what came after it.
    schema = read_migrations(flavour).filter(lambda one: one.id <= LAST_MADE)
    monkeypatch.setattr("tbg.migrate.read_migrations", lambda _: schema)
    migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert digests(connection) == before(flavour, connection.info.server_version)


def test_a_database_of_the_version_before_is_marked_and_nothing_in_it_changes(
    database_url: str, flavour: Flavour
) -> None:
    said: list[str] = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill(connection)
        later = [one for one in read_migrations(flavour) if one.id > LAST_MADE]
        set_books(connection, names_before(flavour))
        for one in later:
            connection.execute(
                "insert into _yoyo_migration values (%s, %s, now())", [one.hash, one.id]
            )
        was = contents(connection), digests(connection)
        done = migrate(database_url, say=said.append)
        assert (done.applied, done.already) == ([], len(read_migrations(flavour)))
        assert (contents(connection), digests(connection)) == was
        assert missing_migrations(connection, flavour) == []
        # What the version before looks at is still there.
        rows = connection.execute("select migration_id from _yoyo_migration").fetchall()
        assert set(names_before(flavour)) < {name for (name,) in rows}
    assert [line for line in said if "marked" in line]
    said.clear()
    assert migrate(database_url, say=said.append).applied == []
    assert not [line for line in said if "marked" in line]


@pytest.mark.parametrize("last", ["0012_standings", "0040_comments"])
def test_an_older_database_is_named_with_what_to_do_and_stays_as_it_is(
    database_url: str, flavour: Flavour, last: str
) -> None:
    names = [name for name in names_before(flavour) if name <= last]
    with psycopg.connect(database_url, autocommit=True) as connection:
        fill(connection)
        set_books(connection, names)
        was = contents(connection), digests(connection)
        with pytest.raises(MigrateError) as caught:
            migrate(database_url)
        assert f"the database stands at {last}" in caught.value.message
        assert f"Check out commit {LAST_COMMIT}, run its tbg migrate" in caught.value.message
        assert (contents(connection), digests(connection)) == was
        rows = connection.execute("select migration_id from _yoyo_migration order by 1").fetchall()
        assert [name for (name,) in rows] == names


def test_a_database_of_another_program_is_refused(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        set_books(connection, ["0001_accounts", "0002_orders"])
        with pytest.raises(MigrateError, match=r"\(0001_accounts, 0002_orders\) are not of this"):
            migrate(empty_database_url)
        assert digests(connection) == []


def test_a_schema_that_was_half_made_is_completed(
    empty_database_url: str, flavour: Flavour
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        set_books(connection, [])
        assert not mark_predecessor(connection, flavour, read_migrations(flavour))
        set_books(connection, ["0001_miners"])
        assert not mark_predecessor(connection, flavour, read_migrations(flavour))
        set_books(connection, names_before(flavour)[1:])
        with pytest.raises(PredecessorError, match="1 migration from before"):
            mark_predecessor(connection, flavour, read_migrations(flavour))
