"""Database and Redis of a command: where they are, and errors that say what to do."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
import psycopg

from tbg.stack.state import State
from tbg_core import database
from tbg_core.database_url import DatabaseError, DatabaseUrlError, check
from tbg_core.redis_server import check_url


@dataclass(frozen=True)
class Urls:
    """Where the database and Redis of a command are."""

    database: str = field(repr=False)
    redis: str = field(repr=False)


def find_urls(state: State, environ: Mapping[str, str] = os.environ) -> Urls:
    """Returns what the environment names, or what the state folder's stack uses.

    Raises:
        click.ClickException: when neither says where they are.
    """
    redis = usable_redis(_server(state, "REDIS_URL", environ))
    return Urls(database_url(state, environ), redis)


def database_url(state: State, environ: Mapping[str, str] = os.environ) -> str:
    """As :func:`find_urls`, for a command that needs no Redis."""
    return usable(_server(state, "DATABASE_URL", environ))


def usable(url: str) -> str:
    """Returns the URL of a database, if it can work.

    Raises:
        click.ClickException: it cannot.
    """
    try:
        return check(url)
    except DatabaseUrlError as error:
        raise click.ClickException(str(error)) from None


def usable_redis(url: str) -> str:
    """As :func:`usable`, of a Redis."""
    try:
        return check_url(url)
    except ValueError as error:
        raise click.ClickException(f"REDIS_URL {error}") from None


def _server(state: State, variable: str, environ: Mapping[str, str]) -> str:
    if named := environ.get(variable):
        return named
    stack = state.read_stack()
    if stack is None:
        raise click.ClickException(
            f"{state.never_started}, name its folder with --state, or set DATABASE_URL and "
            "REDIS_URL"
        )
    return stack.environment()[variable]


@contextmanager
def connect(url: str, **options: Any) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection in UTC.

    Args:
        url: of the database.
        options: of :func:`tbg_core.database.open_connection`.

    Raises:
        click.ClickException: when the database does not answer or refuses, before or in the
            block.
    """
    try:
        with database.connect(url, **options) as connection:
            yield connection
    except DatabaseError as error:
        raise click.ClickException(str(error)) from error
