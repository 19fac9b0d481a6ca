"""The one way to the database: connecting with either driver, and what its errors mean."""

import asyncio
import secrets
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import psycopg
from asyncpg.exceptions import TargetServerAttributeNotMatched
from psycopg import sql
from psycopg.rows import RowFactory, tuple_row

from tbg_core.database_url import (
    DatabaseError,
    addresses_of,
    for_asyncpg,
    for_psycopg,
    read,
)

OLDEST_VERSION: Final = 15
# Of every session. Statements of one transaction look at what others have committed meanwhile:
# that no share comes between an hour's rollup and the note of a late one rests on it.
_SESSION: Final = {"TimeZone": "UTC", "default_transaction_isolation": "read committed"}
_PROBE_SECONDS: Final = 5.0  # that a second session may take to begin
_PROBES: Final = 3
_MARK: Final = "tbg.session"  # a setting that a session sets, and no other one may see

# By SQLSTATE (PostgreSQL's appendix A): what is wrong, and what to do.
_MEANING: Final = {
    "42P01": "lacks the schema of this version: run tbg migrate",
    "42883": "lacks the schema of this version: run tbg migrate",
    "42703": "lacks the schema of this version: run tbg migrate",
    "28P01": "refuses the password: set the right one in the URL",
    "28000": "refuses the role: look at its pg_hba.conf",
    "3D000": "is not there: make it with createdb, or name another",
    "42501": "refuses a right to the role: grant it, or use the owner's role",
    "25006": "takes no writes: name its primary, or several hosts and"
    " target_session_attrs=read-write",
    "53300": "takes no more connections: raise max_connections",
}
# What a statement meets in a session that is another one's.
_FOREIGN: Final = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)

# What asyncpg raises when the server is away, or is not the one that the URL asks for.
AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.PostgresWarning,  # an error with a code of class 01 or 02, as a trigger may raise
    asyncpg.InterfaceError,
    # A shutdown message that arrived while the connection was idle (a crashing server
    # sends one) surfaces only with the next query, and as this error.
    asyncpg.InternalClientError,
)

Result = TypeVar("Result")


class UnusableError(DatabaseError):
    """The server answers, and cannot be used as it is; the text says what to change."""


@dataclass(frozen=True)
class Server:
    """What a server said of itself.

    Attributes:
        version: such as 16.14.
        pooled: whether a pooler answers for it.
    """

    version: str
    pooled: bool


def without_password(url: str) -> str:
    """Returns the URL of any server, to be shown."""
    try:
        parts = urlsplit(url)
        if parts.password is not None:
            where = parts.netloc.rpartition("@")[2]
            parts = parts._replace(netloc=f"{parts.username or ''}:***@{where}")
    except ValueError:
        return "a URL that cannot be read"
    if "password" in parts.query:
        query = [
            (name, "***" if "password" in name else value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        ]
        parts = parts._replace(query=urlencode(query, safe="*/"))
    return urlunsplit(parts)


def libpq_url(url: str) -> str:
    """Returns a URL as libpq has it, without a driver."""
    return f"postgresql://{url.partition('://')[2]}"


def explain(error: BaseException, url: str) -> str:
    """Says what an error of either driver means, where, and what to do."""
    text = " ".join(str(error).split()) or type(error).__name__
    meaning = _MEANING.get(getattr(error, "sqlstate", None) or "")
    if isinstance(error, TargetServerAttributeNotMatched):
        meaning = _MEANING["25006"]
    if meaning is None:
        away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError)
        # What a server says while one connects, psycopg has as text alone.
        meaning = "does not answer" if away and "FATAL" not in text else "refuses"
    return f"the database at {without_password(url)} {meaning}: {text}"


def open_connection(
    url: str,
    *,
    application: str = "tbg",
    autocommit: bool = True,
    row_factory: RowFactory[Any] = tuple_row,
    settings: Mapping[str, str] = _SESSION,
) -> psycopg.Connection[Any]:
    """Connects with psycopg; times are in UTC.

    Args:
        application: name of our session.
        settings: of the session. They are set once it is there: a pooler refuses to
            begin one with settings.

    Raises:
        DatabaseUrlError: the URL cannot work.
        psycopg.Error: the server does not answer.
    """
    arguments: dict[str, Any] = {**for_psycopg(url), "application_name": application}
    connection = psycopg.connect(**arguments, autocommit=True, row_factory=row_factory)
    try:
        for name, value in {**_SESSION, **settings}.items():
            connection.execute("select set_config(%s, %s, false)", [name, value])
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def connect(url: str, **options: Any) -> Iterator[psycopg.Connection[Any]]:
    """A connection of :func:`open_connection` that is closed with the block.

    Args:
        options: of :func:`open_connection`.

    Raises:
        DatabaseError: the database does not answer or refuses, before or in the block.
    """
    try:
        with open_connection(url, **options) as connection:
            yield connection
    except psycopg.Error as error:
        raise DatabaseError(explain(error, url)) from error


async def connect_async(
    url: str,
    *,
    application: str,
    settings: Mapping[str, str] | None = None,
    command_timeout: float | None = None,
) -> asyncpg.Connection:
    """Connects with asyncpg, to the first host that answers and takes what the URL asks for.

    Args:
        application: name of our session.
        settings: of the session, set once it is there.
        command_timeout: seconds that a statement may take.

    Raises:
        DatabaseUrlError: the URL cannot work.
        *AWAY: of the last host.
    """
    connection = await _reach(url, application, command_timeout)
    try:
        for name, value in {**_SESSION, **(settings or {})}.items():
            await connection.execute(f"set {_identifier(name)} = {_literal(value)}")
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _reach(
    url: str, application: str, command_timeout: float | None = None
) -> asyncpg.Connection:
    """Connects, and asks nothing: a pooler has perhaps no session for it yet."""
    options = read(url)
    arguments = for_asyncpg(options)
    arguments["server_settings"]["application_name"] = application
    addresses = addresses_of(options)
    for at, address in enumerate(addresses, 1):
        try:
            return await asyncpg.connect(
                host=address.host,
                port=address.port,
                command_timeout=command_timeout,
                **arguments,
            )
        except (
            OSError,
            TimeoutError,
            asyncpg.CannotConnectNowError,
            TargetServerAttributeNotMatched,
        ):
            # Each host has its own time, as with libpq.
            if at == len(addresses):
                raise
    raise AssertionError("unreachable")


def _identifier(name: str) -> str:
    return sql.Identifier(name).as_string()


def _literal(value: str) -> str:
    return sql.Literal(value).as_string()


async def examine_async(connection: asyncpg.Connection, url: str) -> Server:
    """Asks whether a server can be used: its version, that it writes, that a session is ours.

    Args:
        connection: to it, by this URL.

    Raises:
        UnusableError: it cannot.
        *AWAY: it is away.
    """
    where = f"the database at {without_password(url)}"
    transaction_mode = (
        f"{where} is behind a pooler that gives each transaction another session (transaction"
        " or statement mode), and locks and settings are a session's: set pool_mode = session"
        " (PgBouncer), or name the server itself"
    )
    try:
        # In a transaction, so that a pooler leaves all of it to one session.
        async with connection.transaction():
            row = await connection.fetchrow(
                "select pg_backend_pid() as process, pg_is_in_recovery() as replica,"
                " current_setting('default_transaction_read_only') = 'on' as read_only,"
                " current_setting('server_encoding') as encoding,"
                " current_setting('server_version_num')::int as version"
            )
        assert row is not None
        pooled = row["process"] != connection.get_server_pid()
        shared = pooled and await _is_shared(connection, url)
    except _FOREIGN as error:
        raise UnusableError(transaction_mode) from error
    except asyncpg.PostgresError as error:
        if "statement pooling" not in str(error):
            raise
        raise UnusableError(transaction_mode) from error
    if shared:
        raise UnusableError(transaction_mode)
    version = f"{row['version'] // 10_000}.{row['version'] % 10_000}"
    if row["version"] < OLDEST_VERSION * 10_000:
        raise UnusableError(
            f"{where} is PostgreSQL {row['version'] // 10_000}, and {OLDEST_VERSION} or newer is"
            " needed: upgrade the server"
        )
    if row["encoding"] != "UTF8":
        raise UnusableError(
            f"{where} has the encoding {row['encoding']}, which lacks letters that names of workers"
            " may have: make a database with createdb --encoding=UTF8 --template=template0, and"
            " move what is in this one with pg_dump"
        )
    if row["replica"]:
        raise UnusableError(
            f"{where} is read-only, a replica: name the primary, or several hosts and"
            " target_session_attrs=read-write"
        )
    if row["read_only"]:
        raise UnusableError(
            f"{where} is read-only (default_transaction_read_only = on): set it to off for this"
            " role and database"
        )
    return Server(version, pooled)


async def _is_shared(connection: asyncpg.Connection, url: str) -> bool:
    """Whether others get the session of a connection between its transactions."""
    token = secrets.token_hex(8)
    try:
        other = await _reach(url, "tbg probe")
    except AWAY:
        return False  # it lets us in once only; that much is a session of our own
    try:
        for _ in range(_PROBES):
            # Text alone: what is prepared would need a session, too.
            await connection.execute(f"set {_MARK} = '{token}'")
            looking = asyncio.ensure_future(_see(other, connection, token))
            done, _pending = await asyncio.wait({looking}, timeout=_PROBE_SECONDS)
            if not done:  # it waits until a session is free: ours is not
                other.terminate()
                await asyncio.gather(looking, return_exceptions=True)
                return False
            if looking.result():
                return True
        return False
    finally:
        other.terminate()
        await connection.execute(f"set {_MARK} = ''")


async def _see(other: asyncpg.Connection, connection: asyncpg.Connection, token: str) -> bool:
    """Whether the other one sees our setting, or we do not while it holds a session."""
    question = f"select current_setting('{_MARK}', true)"
    async with other.transaction():
        if await other.fetchval(question) == token:
            return True
        async with connection.transaction():
            return bool(await connection.fetchval(question) != token)


def examine(url: str) -> Server:
    """:func:`examine_async`, with a connection of its own, where no loop runs.

    Raises:
        DatabaseError: the server is away, or cannot be used.
    """

    async def ask() -> Server:
        connection = await connect_async(url, application="tbg")
        try:
            return await examine_async(connection, url)
        finally:
            # In order: a server that takes one connection must be free for the next.
            try:
                await connection.close(timeout=2)
            except AWAY:
                connection.terminate()

    try:
        return _run(ask())
    except AWAY as error:
        raise DatabaseError(explain(error, url)) from error


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    # In a thread of its own: the caller's may have a loop that runs.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
