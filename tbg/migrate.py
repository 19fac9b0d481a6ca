"""``tbg migrate``: brings the schema of a database up to date.

The migrations are plain SQL in ``sql/`` (for every server) and in
``sql/<flavour>/``, applied in order by yoyo-migrations, each in a transaction of
its own.

Two starts at once are safe: a connection of its own holds an advisory lock, which the
server releases when that connection ends for any reason. yoyo's own lock is a row that
outlives a killed process, so we break it while we hold ours.
"""

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import click
import psycopg
import yoyo

from tbg import ROOMS
from tbg.indexes import build_partition_indexes
from tbg.predecessor import PredecessorError, mark_predecessor
from tbg_core.database import UnusableError, connect, examine
from tbg_core.database_url import DatabaseError, DatabaseUrlError, for_psycopg
from tbg_core.flavour import FLAVOURS, Flavour, flavour_of
from tbg_core.settings import RetentionSettings, SettingsError
from tbg_core.wording import counted

APPLICATION: Final = "tbg migrate"
LOCK_KEY: Final = 0x7462_6773_716C  # "tbgsql"
# Days of partitions that plain PostgreSQL has in advance; the writer makes the others
# when a row needs them.
DAYS_BACK: Final = 2
DAYS_AHEAD: Final = 7
FIRST_FILE: Final = "0001_miners.sql"
SERVE_ROLE: Final = "tbg_serve"  # may read what tbg serve serves, if there is such a role


Connection = psycopg.Connection[Any]
Say = Callable[[str], None]  # receives what happens, a line at a time


class MigrateError(click.ClickException):
    """The schema could not be brought up to date; the message says why."""


@dataclass(frozen=True)
class Migrated:
    """What a run of :func:`migrate` found and did."""

    server_version: str
    flavour: Flavour
    applied: list[str]
    already: int
    partitions: int


def sql_folder() -> Path:
    """Returns the folder of the migrations.

    Raises:
        MigrateError: when the installation lacks it.
    """
    folder = ROOMS / "sql"
    if not (folder / FIRST_FILE).is_file():
        raise MigrateError(f"{folder} has no {FIRST_FILE}: install it again")
    return folder


def read_migrations(flavour: Flavour) -> Any:
    """The migrations of a flavour, as yoyo reads them (a ``MigrationList``).

    Raises:
        MigrateError: when the installation lacks them.
    """
    folder = sql_folder()
    return yoyo.read_migrations(str(folder), str(folder / flavour))


def migrate(
    database_url: str,
    flavour: Flavour | None = None,
    wait_seconds: float = 60.0,
    say: Say = lambda _: None,
) -> Migrated:
    """Applies the migrations that are missing.

    Args:
        database_url: of the database, as libpq and asyncpg take it.
        flavour: replaces the one found.
        wait_seconds: how long to wait for another migrate to end.
        say: receives what happens, a line at a time.

    Raises:
        MigrateError: when the server is unreachable, too old, of another flavour
            than named, or refuses a statement.
    """
    try:
        server = examine(database_url)
        with (
            connect(database_url, application=APPLICATION) as connection,
            _lock(connection, wait_seconds, say),
        ):
            chosen = _choose_flavour(connection, flavour)
            say(f"PostgreSQL {server.version}, flavour {chosen}")
            if mark_predecessor(connection, chosen, read_migrations(chosen)):
                say("the schema is the one of the version before: marked, and nothing changed")
            applied, already = _apply(database_url, chosen, say)
            build_partition_indexes(connection, say)
            partitions = _make_partitions(connection) if chosen == "postgresql" else 0
            connection.execute(_GRANT, [SERVE_ROLE])
            return Migrated(server.version, chosen, applied, already, partitions)
    except (UnusableError, DatabaseUrlError, PredecessorError) as error:
        raise MigrateError(str(error)) from error
    except DatabaseError as error:
        raise MigrateError(f"the database cannot be reached or used: {error}") from error


_GRANT: Final = "select grant_serving(rolname) from pg_roles where rolname = %s"


def missing_migrations(connection: Connection, flavour: Flavour) -> list[str]:
    """Names the migrations that a database lacks, in their order.

    Raises:
        MigrateError: when the installation has none.
    """
    there = {name for (name,) in connection.execute("select migration_id from _yoyo_migration")}
    return [one.id for one in read_migrations(flavour) if one.id not in there]


def detect_flavour(connection: Connection) -> Flavour:
    """The schema's flavour; without a schema, the one that this server would get."""
    offered = "select 1 from pg_available_extensions where name = 'timescaledb'"
    return flavour_of(connection) or (
        "timescaledb" if connection.execute(offered).fetchone() else "postgresql"
    )


def _choose_flavour(connection: Connection, told: Flavour | None) -> Flavour:
    found = detect_flavour(connection)
    if told is None or told == found:
        return found
    if flavour_of(connection) is not None:
        raise MigrateError(f"the database was migrated as {found}; it cannot become {told}")
    if told == "timescaledb":
        raise MigrateError("the server does not offer the extension timescaledb")
    return told


@contextlib.contextmanager
def _lock(connection: Connection, wait_seconds: float, say: Say) -> Iterator[None]:
    deadline = time.monotonic() + wait_seconds
    told = False
    # Polled, not waited for in the server: a waiting statement holds a snapshot, which
    # statements of the other migrate may wait for.
    while True:
        row = connection.execute("select pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone()
        if row and row[0]:
            break
        if time.monotonic() > deadline:
            raise MigrateError(f"another migrate has held the lock for {wait_seconds:.0f} s")
        if not told:
            say("another migrate is running; waiting for it")
            told = True
        time.sleep(0.1)
    try:
        yield
    finally:
        # The server has released the lock of a connection that broke.
        with contextlib.suppress(psycopg.OperationalError):
            connection.execute("select pg_advisory_unlock(%s)", [LOCK_KEY])


def _apply(database_url: str, flavour: Flavour, say: Say) -> tuple[list[str], int]:
    migrations = read_migrations(flavour)
    applied: list[str] = []
    # yoyo prints the rows that a statement returns.
    silence = contextlib.redirect_stdout(io.StringIO())
    with yoyo.get_backend(_yoyo_url(database_url)) as backend, silence:
        backend.break_lock()
        with backend.lock():
            waiting = list(backend.to_apply(migrations))
            already = len(migrations) - len(waiting)
            for migration in waiting:
                try:
                    backend.apply_one(migration)
                except psycopg.Error as error:
                    timescale = flavour == "timescaledb"
                    hint = "\n(--flavour postgresql does without TimescaleDB)" * timescale
                    if isinstance(error, psycopg.errors.DuplicateTable) and not already:
                        hint = "\n(tbg migrate did not make what is there: name another database)"
                    raise MigrateError(f"{migration.id} failed: {error}{hint}") from error
                applied.append(migration.id)
                say(f"applied {migration.id}")
    return applied, already


def _make_partitions(connection: Connection) -> int:
    today = datetime.now(UTC).date()
    row = connection.execute(
        "select ensure_partitions(%s, %s)",
        [today - timedelta(days=DAYS_BACK), today + timedelta(days=DAYS_AHEAD)],
    ).fetchone()
    return int(str(row[0])) if row else 0


def _yoyo_url(database_url: str) -> str:
    """The URL for yoyo, which hands what stands behind the question mark to psycopg 3."""
    arguments = {**for_psycopg(database_url), "application_name": APPLICATION}
    return f"postgresql+psycopg://?{urlencode(arguments)}"


def retention_days() -> int:
    """RETENTION_DAYS.

    Raises:
        MigrateError: when it is wrong.
    """
    try:
        return RetentionSettings.load().retention_days
    except SettingsError as error:
        raise MigrateError(str(error)) from error


@click.command("migrate")
@click.option("--flavour", type=click.Choice(FLAVOURS), help="Replaces the one found.")
@click.option(
    "--wait", default=60.0, show_default=True, help="Seconds to wait for another migrate."
)
@click.option(
    "--database-url",
    envvar="DATABASE_URL",
    show_envvar=True,
    required=True,
    metavar="URL",
    help="PostgreSQL or TimescaleDB, as postgresql://user:password@host:5432/name.",
)
def command(database_url: str, flavour: Flavour | None, wait: float) -> None:
    """Bring the database's schema up to date; run again, it does nothing.

    TimescaleDB is used if the server has the extension, and plain PostgreSQL (15 or
    newer) otherwise. Dagster drops raw shares after RETENTION_DAYS, on both.

    \b
    Examples:
      DATABASE_URL=postgresql://... tbg migrate
      tbg migrate --flavour postgresql
    """
    done = migrate(
        database_url,
        flavour,
        wait,
        say=lambda text: click.echo(text, err=True),
    )
    click.echo(
        f"{len(done.applied)} applied, {done.already} already there"
        + (
            f", {counted(done.partitions, 'partition')} made"
            if done.flavour == "postgresql"
            else ""
        )
    )
