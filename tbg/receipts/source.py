"""Where the rows of receipts come from, for a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from psycopg.rows import dict_row

from tbg.options import OfStack
from tbg.servers import connect, database_url
from tbg.stack.state import State
from tbg_dagster.archive.store import ArchiveError, Store
from tbg_dagster.receipts.rows import GoneError, Rows
from tbg_dagster.resources.database import Connection

archive_option: Final = click.option(
    "--archive",
    "url",
    cls=OfStack,
    envvar="ARCHIVE_URL",
    show_envvar=True,
    metavar="URL",
    help="For dropped days.  [default: that of the stack]",
)


@contextmanager
def source(state_path: Path, url: str | None) -> Iterator[tuple[Connection, Rows]]:
    """A connection, and the rows of trees from there and from the archive.

    Raises:
        click.ClickException: when database or archive cannot be used, or do not have the rows.
    """
    options: dict[str, Any] = {"row_factory": dict_row}
    try:
        with connect(database_url(State(state_path)), **options) as connection:
            yield connection, Rows(connection, Store.open(url) if url else None)
    except (ArchiveError, GoneError) as error:
        raise click.ClickException(str(error)) from error
