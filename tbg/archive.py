"""``tbg archive``: what the archive holds, whether it is right, and days brought back."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
from psycopg.rows import dict_row

from tbg import outputs
from tbg.options import OfStack, Parsed, json_list_option
from tbg.servers import connect, database_url
from tbg.stack.state import State, state_option
from tbg_core.wording import counted
from tbg_dagster.archive.day import archive, has_rows, restore, verify
from tbg_dagster.archive.owner import adopt
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.resources.database import Connection

Said = Iterable[tuple[dict[str, Any], str]]  # of each day: for a script, and for a person


DAY = Parsed(date.fromisoformat, "look like 2026-11-20")
day_option = click.option(
    "--to", "last", type=DAY, help="Last day of a span; DAY alone if left out."
)
archive_option = click.option(
    "--archive",
    "url",
    cls=OfStack,
    envvar="ARCHIVE_URL",
    show_envvar=True,
    required=True,
    metavar="URL",
    help="A folder, or s3://bucket/path; that of the stack if left out.",
)


@contextmanager
def _archive(url: str) -> Iterator[Store]:
    try:
        yield Store.open(url)
    except ArchiveError as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _both(url: str, state_path: Path) -> Iterator[tuple[Store, Connection]]:
    database = database_url(State(state_path))
    with _archive(url) as store, connect(database, row_factory=dict_row) as connection:
        yield store, connection


def _chosen(store: Store, first: date | None, last: date | None) -> list[date]:
    store.require()
    days = store.days()
    if first is not None:
        last = last or first
        days = [day for day in days if first <= day <= last]
        if not days:
            raise click.ClickException(
                f"the archive {store.place} has no day from {first} to {last}"
            )
    return days


def _say(model: type[outputs.Output], said: Said, *, as_json: bool) -> list[dict[str, Any]]:
    """Shows each day as soon as it is done, or all of them as one JSON list."""
    rows = []
    for row, text in said:
        rows.append(row)
        if not as_json:
            click.echo(text)
    if as_json:
        outputs.show_all(model, rows)
    return rows


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
@state_option
@json_list_option
def list_command(url: str, state_path: Path, as_json: bool) -> None:  # noqa: ARG001  OfStack's
    """Show the archived days with their rows and sizes.

    \b
    Examples:
      tbg archive list --archive /srv/tbg-archive
      ARCHIVE_URL=s3://tbg-archive/main tbg archive list --json
    """
    with _archive(url) as store:
        store.require()
        days = store.days()
        if not days:
            click.echo(f"the archive {store.place} holds no day", err=True)
        _say(outputs.ArchivedDay, map(partial(_contents, store), days), as_json=as_json)


def _contents(store: Store, day: date) -> tuple[dict[str, Any], str]:
    found = store.manifest(day)
    assert found is not None
    row = {
        "day": f"{day}",
        "revision": found.revision,
        "shares": found.shares.rows,
        "events": found.events.rows,
        "bytes": found.shares.bytes + found.events.bytes,
        "best": found.best,
    }
    return row, (
        f"{day}  revision {found.revision}  {counted(found.shares.rows, 'share')}  "
        f"{counted(found.events.rows, 'event')}  {row['bytes']:,} bytes"
    )


@command.command("restore")
@click.argument("day", type=DAY)
@day_option
@click.option(
    "--keep",
    default=7,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="Days until housekeeping may drop it again.",
)
@archive_option
@state_option
@json_list_option
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
    with _both(url, state_path) as (store, connection):

        def restored() -> Iterator[tuple[dict[str, Any], str]]:
            for chosen in _chosen(store, day, last):
                done = restore(connection, store, chosen, timedelta(days=keep))
                yield (
                    {"day": f"{chosen}", **vars(done)},
                    f"{chosen}: {counted(done.shares, 'share')} and "
                    f"{counted(done.events, 'event')} brought back "
                    f"from revision {done.revision}",
                )

        _say(outputs.RestoredDay, restored(), as_json=as_json)


@command.command("verify")
@click.argument("day", type=DAY, required=False)
@day_option
@archive_option
@state_option
@json_list_option
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
    with _both(url, state_path) as (store, connection):

        def verified() -> Iterator[tuple[dict[str, Any], str]]:
            for chosen in _chosen(store, day, last):
                wrong = None
                there = has_rows(connection, chosen)
                try:
                    if there:
                        verify(connection, store, chosen)
                    elif manifest := store.manifest(chosen):
                        store.check(manifest)
                except ArchiveError as error:
                    wrong = str(error)
                equal = "equals the database" if there else "is whole; the database has dropped it"
                row = {"day": f"{chosen}", "in_database": there, "wrong": wrong}
                yield row, f"{chosen} {wrong or equal}"

        rows = _say(outputs.VerifiedDay, verified(), as_json=as_json)
    if any(row["wrong"] for row in rows):
        raise SystemExit(3)


@command.command("adopt")
@archive_option
@state_option
def adopt_command(url: str, state_path: Path) -> None:
    """Say that this database continues the one that wrote the archive.

    After a database was lost and another one took its place: from then on that archive is this
    one's, and days that get late shares keep the rows of the former. Never while both
    databases are in use. A restore needs no adoption.

    \b
    Examples:
      tbg archive adopt --archive /srv/tbg-archive
    """
    with _both(url, state_path) as (store, connection):
        found = adopt(connection, store)
    click.echo(
        f"{store.place} is this database's; "
        + (
            f"it continues {', '.join(map(str, found))}"
            if found
            else "no other one wrote it by name"
        )
    )


@command.command("write")
@click.argument("day", type=DAY)
@archive_option
@state_option
def write_command(day: date, url: str, state_path: Path) -> None:
    """Archive a closed day now; run again, it does nothing.

    \b
    Examples:
      tbg archive write 2026-11-20
    """
    with _both(url, state_path) as (store, connection):
        done = archive(connection, store, day)
    click.echo(f"{day}: {done.outcome}")
