"""Real servers for the tests: PostgreSQL and Valkey, started once per session.

An existing server is used instead where TBG_TEST_DATABASE_URL (a role that may
make databases) or TBG_TEST_REDIS_URL names one. Every test gets a database and a
Redis of its own.
"""

import contextlib
import faulthandler
import gc
import os
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import psycopg
import pytest
import redis as redis_sync
import redis.asyncio as redis_async
from hypothesis import HealthCheck, settings
from psycopg import sql

from tbg.migrate import detect_flavour, migrate
from tbg.stack.embedded import (
    EmbeddedError,
    EmbeddedPostgres,
    EmbeddedValkey,
    free_port,
    new_password,
)
from tbg_core.flavour import Flavour
from tests.processes import LIMIT, nothing_left, of_the_interpreter, until

# For every property test. How long an example takes, or making it, says how busy the
# machine is, and nothing of the code. One that fails is printed with what repeats it.
settings.register_profile(
    "tests", deadline=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("tests")
# --hypothesis-profile long: what no ordinary run has time for.
settings.register_profile("long", settings.get_profile("tests"), max_examples=5000)

# Each takes minutes: begun first, no worker is left with one of them at the end.
LONGEST = (
    "tests/tbg/stack/test_up.py",
    "tests/faults/test_faults.py",
    "tests/faults/test_backlog.py",
    "tests/faults/test_limits.py",
    "tests/tbg_dagster/test_daemon.py",
    "tests/tbg_dagster/test_archive.py",
    "tests/ingest/test_writer.py",
    "tests/faults/",
)

_ROOM = 8 * 2**30  # bytes: twice what the servers of all workers were seen to hold

AnyServer = TypeVar("AnyServer", EmbeddedPostgres, EmbeddedValkey)


_STDERR = pytest.StashKey[int]()  # what no test captures


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STDERR] = os.dup(2)
    config.addinivalue_line("markers", "timescaledb: runs only where the server is TimescaleDB")
    config.addinivalue_line("markers", "plain_postgresql: runs only on plain PostgreSQL")

    worker = hasattr(config, "workerinput")

    def ended(number: int, _frame: FrameType | None) -> None:
        # Fixtures are torn down, so that no server stays behind. A worker is told twice at
        # Ctrl-C; any other process that is told twice ends at once.
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN if worker else signal.SIG_DFL)
        if config.pluginmanager.hasplugin("dsession"):
            _end_workers()
        pytest.exit(signal.Signals(number).name, returncode=128 + number)

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, ended)


def _end_workers() -> None:
    """Lets the workers of pytest-xdist tear down: it would kill them after ten seconds."""
    workers = psutil.Process().children()
    deadline = time.monotonic() + LIMIT
    busy = True
    while busy and time.monotonic() < deadline:
        # Again and again: a signal just before a long sleep does not end it, and a worker that
        # has begun to tear down ignores it.
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.terminate()
        time.sleep(0.5)
        busy = any(map(_is_tearing_down, workers))


def _is_tearing_down(worker: psutil.Process) -> bool:
    try:
        children = worker.children()
    except psutil.NoSuchProcess:
        return False
    return not all(of_the_interpreter(child, worker.pid) for child in children)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    # pytest's own watch ends as a test fails, and what failed may hang while it is torn down.
    faulthandler.dump_traceback_later(
        float(item.config.getini("faulthandler_timeout")),
        file=item.config.stash[_STDERR],
        exit=True,
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        places = [place for place, name in enumerate(LONGEST) if name in item.path.as_posix()]
        return min(places, default=len(LONGEST))

    items.sort(key=turn)  # the others stay in their order


def pytest_collection_finish() -> None:
    # What is imported stays: no collection of garbage need look through it again.
    gc.collect()
    gc.freeze()


def started(make: Callable[[int], AnyServer]) -> AnyServer:
    """Starts a server, on another port if the one tried is taken."""
    for attempt in range(3):
        server = make(free_port())
        try:
            server.start()
        except EmbeddedError:
            if attempt == 2:
                raise
        else:
            return server
    raise AssertionError("unreachable")


@pytest.fixture(autouse=True)
def _signals_are_let_through() -> Iterator[None]:
    """``tbg ingest`` holds signals back; run in this process, it must not leave that behind.

    Every process that a later test starts would be deaf to SIGTERM.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """First of all fixtures, so that it looks when all others have cleaned up."""
    with nothing_left():
        yield


def _memory() -> str | None:
    """A file system in memory with room for the servers of a run; None without.

    A database is 600 files and comes and goes by the hundred. ext4 looks through all that was
    deleted in the last seconds for each new file: 0.2 to 0.4 s of a processor for a database,
    and 0.02 s in memory.
    """
    place = Path("/dev/shm")  # noqa: S108 a folder of a random name is made in it
    if not os.access(place, os.W_OK) or psutil.disk_usage(str(place)).free < _ROOM:
        return None
    return str(place) if psutil.virtual_memory().available > _ROOM else None


@pytest.fixture(scope="session")
def _servers_folder() -> Iterator[Path]:
    """Where servers keep their data.

    Not below pytest's own folder: as root, PostgreSQL runs as another user, and
    every start of another pytest takes that folder's permissions from it again.
    """
    with tempfile.TemporaryDirectory(
        prefix="tbg-test-", dir=_memory(), ignore_cleanup_errors=True
    ) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def server_folder(_servers_folder: Path) -> Path:
    """A folder of the test's own for servers; its path is short, for sockets."""
    folder = _servers_folder / secrets.token_hex(4)
    folder.mkdir(mode=0o755)
    return folder


# --- PostgreSQL ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_url(_servers_folder: Path) -> Iterator[str]:
    """URL of a PostgreSQL server on which databases can be made."""
    named = os.environ.get("TBG_TEST_DATABASE_URL")
    if named:
        yield named
        return
    folder = _servers_folder / "postgres"
    # What a crash of the machine would lose is not asked here, and speed is.
    settings = {"fsync": "off", "max_connections": "200", "log_min_messages": "fatal"}
    server = started(lambda port: EmbeddedPostgres(folder, port, new_password(), settings))
    try:
        yield server.url
    finally:
        server.stop()


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _run(url: str, statement: str, name: str, other: str = "postgres") -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL(statement).format(name=sql.Identifier(name), other=sql.Identifier(other))
        )


@pytest.fixture(scope="session")
def _template(postgres_url: str) -> Iterator[str]:
    """Name of a migrated database that is copied for each test."""
    name = f"tbg_test_template_{secrets.token_hex(4)}"
    _run(postgres_url, "create database {name}", name)
    try:
        migrate(_with_database(postgres_url, name))
        # Nobody may be connected to what is copied: neither TimescaleDB's workers.
        _run(postgres_url, "alter database {name} allow_connections false", name)
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
            )
        yield name
    finally:
        _run(postgres_url, "drop database {name} with (force)", name)


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """URL of a database of the test's own, without a schema."""
    name = f"tbg_test_{secrets.token_hex(6)}"
    _run(postgres_url, "create database {name}", name)
    try:
        yield _with_database(postgres_url, name)
    finally:
        _run(postgres_url, "drop database {name} with (force)", name)


@pytest.fixture
def database_url(postgres_url: str, _template: str) -> Iterator[str]:
    """URL of a migrated database of the test's own."""
    name = f"tbg_test_{secrets.token_hex(6)}"
    _run(postgres_url, "create database {name} template {other}", name, _template)
    try:
        yield _with_database(postgres_url, name)
    finally:
        _run(postgres_url, "drop database {name} with (force)", name)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """An asyncpg connection to the test's database."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@pytest.fixture(scope="session")
def flavour(postgres_url: str) -> Flavour:
    """What the tests' server is: timescaledb or postgresql."""
    with psycopg.connect(postgres_url) as connection:
        return detect_flavour(connection)


@pytest.fixture(autouse=True)
def _only_on_its_flavour(request: pytest.FixtureRequest) -> None:
    for marker, wanted in (("timescaledb", "timescaledb"), ("plain_postgresql", "postgresql")):
        if request.node.get_closest_marker(marker):
            found = request.getfixturevalue("flavour")
            if found != wanted:
                pytest.skip(f"for {wanted}; the tests' server is {found}")


@pytest.fixture
def postgres_server(_servers_folder: Path) -> Iterator[Callable[..., EmbeddedPostgres]]:
    """Starts private PostgreSQL servers, which a test may kill and start again.

    ``server.url`` names its maintenance database; ``migrate(server.url)`` makes
    the schema there.
    """
    servers: list[EmbeddedPostgres] = []

    def start(**settings: str) -> EmbeddedPostgres:
        folder = _servers_folder / f"postgres-{secrets.token_hex(4)}"
        password = new_password()
        server = started(lambda port: EmbeddedPostgres(folder, port, password, settings))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


# --- Valkey -------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _valkey_url(_servers_folder: Path) -> Iterator[str]:
    named = os.environ.get("TBG_TEST_REDIS_URL")
    if named:
        yield named
        return
    folder = _servers_folder / "valkey"
    server = started(
        lambda port: EmbeddedValkey(folder, port, new_password(), {"appendfsync": "no"})
    )
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def redis_url(_valkey_url: str) -> str:
    """URL of an empty Redis of the test's own; whatever was in it is gone."""
    with contextlib.closing(redis_sync.Redis.from_url(_valkey_url)) as client:
        client.flushdb()
    return _valkey_url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator["redis_async.Redis"]:
    """A redis.asyncio client of the test's Redis; answers are bytes."""
    client = redis_async.Redis.from_url(redis_url)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
def valkey_server(_servers_folder: Path) -> Iterator[Callable[..., EmbeddedValkey]]:
    """Starts private Valkey servers, which a test may kill and start again.

    ``valkey_server(appendfsync="always")`` is one that loses nothing it answered.
    """
    servers: list[EmbeddedValkey] = []

    def start(**settings: str) -> EmbeddedValkey:
        folder = _servers_folder / f"valkey-{secrets.token_hex(4)}"
        password = new_password()
        server = started(lambda port: EmbeddedValkey(folder, port, password, settings))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


# --- Waiting ------------------------------------------------------------------------


@pytest.fixture
def eventually() -> Callable[..., object]:
    """``await eventually(check)``: :func:`tests.processes.until`."""
    return until
