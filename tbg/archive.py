"""``tbg archive``: what the archive holds, whether it is right, and days brought back."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg.rows import DictRow, dict_row

from tbg.program import without_password
from tbg.state import State, find_urls, state_option
from tbg_dagster.archive.day import archive, has_rows, restore, verify
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.counting import counted


def _day(_context: click.Context, _parameter: click.Parameter, value: str | None) -> date | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter("must look like 2026-11-20") from None


archive_option = click.option(
    "--archive",
    "url",
    envvar="ARCHIVE_URL",
    required=True,
    metavar="URL",
    help="Or ARCHIVE_URL: a folder, or s3://bucket/path.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="As a JSON list.")


@contextmanager
def _database(state_path: Path) -> Iterator[psycopg.Connection[DictRow]]:
    # Redis is no concern of these commands.
    url = os.environ.get("DATABASE_URL") or find_urls(State(state_path)).database
    try:
        with psycopg.connect(
            url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=10,
            options="-c timezone=UTC",
        ) as connection:
            yield connection
    except psycopg.errors.UndefinedTable as error:
        raise click.ClickException(
            "the database lacks the schema of this version: run tbg migrate"
        ) from error
    except psycopg.Error as error:
        raise click.ClickException(
            f"the database at {without_password(url)} does not answer: {error}"
        ) from error


def _chosen(store: Store, first: date | None, last: date | None) -> list[date]:
    days = store.days()
    if first is not None:
        last = last or first
        days = [day for day in days if first <= day <= last]
        if not days:
            raise click.ClickException(
                f"the archive {store.place} has no day from {first} to {last}"
            )
    return days


def _say(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))


@click.group("archive")
def command() -> None:
    """Bring days back from the archive, or check it.

    Dagster writes the archive (docs/archive.md); these commands read it, and `write` makes
    up a day by hand.

    \b
    Examples:
      tbg archive list --json
      tbg archive verify 2026-11-22
      tbg archive restore 2026-11-22
    """


@command.command("list")
@archive_option
@json_option
def list_command(url: str, as_json: bool) -> None:
    """Show the archived days with their rows and sizes.

    \b
    Examples:
      tbg archive list --archive /srv/tbg-archive
      ARCHIVE_URL=s3://tbg-archive/main tbg archive list --json
    """
    rows = []
    with _errors():
        store = Store.open(url)
        for day in store.days():
            found = store.manifest(day)
            assert found is not None
            rows.append(
                {
                    "day": f"{day}",
                    "revision": found.revision,
                    "shares": found.shares.rows,
                    "events": found.events.rows,
                    "bytes": found.shares.bytes + found.events.bytes,
                    "best": found.best,
                }
            )
            if not as_json:
                click.echo(
                    f"{day}  revision {found.revision}  {counted(found.shares.rows, 'share')}  "
                    f"{counted(found.events.rows, 'event')}  {rows[-1]['bytes']:,} bytes"
                )
    _say(rows, as_json=as_json)


@command.command("restore")
@click.argument("day", callback=_day)
@click.option("--to", "last", callback=_day, help="Last day of a span; DAY alone if left out.")
@click.option(
    "--keep",
    default=7,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="Days until housekeeping may drop it again.",
)
@archive_option
@state_option
@json_option
def restore_command(
    day: date, last: date | None, keep: int, url: str, state_path: Path, as_json: bool
) -> None:
    """Put the rows of an archived day back into the database, each once.

    What is there already stays as it is: run again, it brings back nothing. Rollups and
    weekly results change only if you compute them again (docs/archive.md).

    \b
    Examples:
      tbg archive restore 2026-08-03
      tbg archive restore 2026-08-03 --to 2026-08-09 --keep 14
    """
    rows = []
    with _errors(), _database(state_path) as connection:
        store = Store.open(url)
        for chosen in _chosen(store, day, last):
            done = restore(connection, store, chosen, timedelta(days=keep))
            rows.append({"day": f"{chosen}", **vars(done)})
            if not as_json:
                click.echo(
                    f"{chosen}: {counted(done.shares, 'share')} and {counted(done.events, 'event')} brought back "
                    f"from revision {done.revision}"
                )
    _say(rows, as_json=as_json)


@command.command("verify")
@click.argument("day", callback=_day, required=False)
@click.option("--to", "last", callback=_day, help="Last day of a span; DAY alone if left out.")
@archive_option
@state_option
@json_option
def verify_command(
    day: date | None, last: date | None, url: str, state_path: Path, as_json: bool
) -> None:
    """Read archived days again and compare them with the database; all days without DAY.

    Of a day that the database no longer has, the files are compared with their manifest.
    Exits 0 if all is equal, 3 if a day differs.

    \b
    Examples:
      tbg archive verify
      tbg archive verify 2026-08-03 --to 2026-08-09
    """
    rows = []
    with _errors(), _database(state_path) as connection:
        store = Store.open(url)
        for chosen in _chosen(store, day, last):
            wrong = None
            there = has_rows(connection, chosen)
            try:
                if there:
                    verify(connection, store, chosen)
                else:
                    manifest = store.manifest(chosen)
                    assert manifest is not None
                    store.checked(manifest.shares)
                    store.checked(manifest.events)
            except ArchiveError as error:
                wrong = str(error)
            rows.append({"day": f"{chosen}", "in_database": there, "wrong": wrong})
            if not as_json:
                equal = "equals the database" if there else "is whole; the database has dropped it"
                click.echo(f"{chosen} {wrong or equal}")
    _say(rows, as_json=as_json)
    if any(row["wrong"] for row in rows):
        raise SystemExit(3)


@command.command("write")
@click.argument("day", callback=_day)
@archive_option
@state_option
def write_command(day: date, url: str, state_path: Path) -> None:
    """Archive a closed day now; run again, it does nothing.

    \b
    Examples:
      tbg archive write 2026-11-20
    """
    with _errors(), _database(state_path) as connection:
        done = archive(connection, Store.open(url), day)
    click.echo(f"{day}: {done.outcome}")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except ArchiveError as error:
        raise click.ClickException(str(error)) from error
