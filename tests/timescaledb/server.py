"""PostgreSQL with TimescaleDB as a process of Node: WebAssembly, in memory.

What it cannot do: more than one connection at a time, COPY, background workers (so no
policy runs by itself).
"""

import contextlib
import csv
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import yoyo.migrations
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from tbg.migrate import read_migrations
from tbg_core.flavour import Flavour
from tests.processes import running

HERE: Final = Path(__file__).parent
NOT_RUN: Final = "TimescaleDB was not tested: {}; make test-timescaledb gets what it needs"

# Leaves the extension, which a session can load only once, and what belongs to it.
_EMPTY: Final = """
do $$
declare
    item record;
begin
    for item in
        -- All names before the first one goes: the view looks at what it names.
        select unnest(array_agg(view_name)) as name
        from timescaledb_information.continuous_aggregates
    loop
        execute format('drop materialized view if exists %I cascade', item.name);
    end loop;
    for item in
        select relname as name, case relkind when 'v' then 'view' else 'table' end as kind
        from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
          and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'e')
        order by relkind = 'v' desc
    loop
        execute format('drop %s if exists %I cascade', item.kind, item.name);
    end loop;
    for item in
        select oid::regprocedure as name
        from pg_proc
        where pronamespace = 'public'::regnamespace
          and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e')
    loop
        execute format('drop function %s', item.name);
    end loop;
end
$$
"""

Connection = psycopg.Connection[DictRow]


class _Inserts:
    """Writes the rows of a COPY by INSERT."""

    def __init__(self, cursor: psycopg.Cursor[Any], table: str, columns: list[str]) -> None:
        self._cursor = cursor
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        self._into = sql.SQL("insert into {} {} values ").format(
            sql.Identifier(table), sql.SQL("({})").format(names) if columns else sql.SQL("")
        )

    def write_row(self, row: Sequence[Any]) -> None:
        """One row, as ``psycopg.Copy`` takes it."""
        values = sql.SQL(", ").join([sql.Placeholder()] * len(row))
        self._cursor.execute(self._into + sql.SQL("({})").format(values), row)

    def write(self, lines: bytes) -> None:
        """Rows as CSV, of which an empty field is null."""
        for row in csv.reader(io.StringIO(lines.decode())):
            self.write_row([field or None for field in row])


class _Cursor(psycopg.Cursor[Any]):
    """A cursor for a server without COPY."""

    @contextlib.contextmanager
    def copy(self, statement: Any, *_: Any, **__: Any) -> Iterator[Any]:
        """``copy table [(columns)] from stdin``, as CSV or row by row, and nothing else."""
        text = statement.as_string() if isinstance(statement, sql.Composable) else statement
        found = re.fullmatch(
            r"copy (\w+)(?: \(([\w, ]+)\))? from stdin(?: \(format csv\))?", text.replace('"', "")
        )
        assert found, text
        yield _Inserts(self, found[1], found[2].split(", ") if found[2] else [])


def _missing() -> str | None:
    """What the server lacks on this machine."""
    if shutil.which("node") is None:
        return "no Node"
    if not (HERE / "node_modules").is_dir():
        return "its packages are not installed"
    return None


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A server with an empty database: yields its URL.

    Where Node or the packages are missing the test is skipped, and fails if CI is set.
    """
    missing = _missing()
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(NOT_RUN.format(missing))
    with tempfile.TemporaryDirectory(prefix="tbg-test-") as folder:
        log = Path(folder, "node.log")
        # The end of its input is its end, whatever ends us.
        with running(["node", "server.mjs"], log, cwd=HERE, listens=True) as process:
            process.wait_for(re.compile(r"^\d+\n", re.MULTILINE))
            (port,) = re.findall(r"^\d+$", process.output, re.MULTILINE)
            yield f"postgresql://postgres:postgres@127.0.0.1:{port}/postgres?sslmode=disable"


@contextlib.contextmanager
def connecting(url: str) -> Iterator[Connection]:
    """The one connection that the server serves: autocommit, in UTC; rows are dictionaries."""
    # Statements outlive a connection, as the session does: none is prepared.
    with psycopg.connect(
        url,
        autocommit=True,
        row_factory=dict_row,
        cursor_factory=_Cursor,
        prepare_threshold=None,
        gssencmode="disable",
    ) as connection:
        connection.execute("set timezone to 'UTC'")
        yield connection


def apply(connection: Connection, flavour: Flavour, last: str = "9999") -> list[str]:
    """Applies all migrations up to the last in order; returns their names.

    As ``tbg migrate`` does, which needs three connections.
    """
    names = []
    wanted = [one for one in read_migrations(flavour) if one.id <= last]
    for migration in yoyo.migrations.topological_sort(wanted):
        migration.load()
        if migration.use_transactions:
            with connection.transaction():
                connection.execute(Path(migration.path).read_bytes())
        else:
            _, _, statements = yoyo.migrations.read_sql_migration(migration.path)
            for statement in statements:
                connection.execute(statement)
        names.append(migration.id)
    return names


def empty(connection: Connection) -> None:
    """Makes the database as it was after ``create extension timescaledb``."""
    connection.execute(_EMPTY)
