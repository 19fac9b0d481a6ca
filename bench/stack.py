"""Servers and stages for one benchmark, with what they cost."""

import contextlib
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import redis
from psycopg import sql

from tbg.migrate import migrate
from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey, free_port, new_password
from tests.processes import PYTHON, Process

NAMED: Final = "TBG_TEST_DATABASE_URL"
_READY: Final = {"receiver": "listening", "writer": "committing"}
# What a small dedicated server would have; commit times are wanted for latencies.
_POSTGRES: Final = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "track_commit_timestamp": "on",
    "log_min_messages": "fatal",
}


@dataclass
class Servers:
    """PostgreSQL and Valkey, started for one run.

    Attributes:
        folder: a temporary one, for everything.
        server_url: PostgreSQL or TimescaleDB, as a role that may make databases.
        own: the PostgreSQL behind it, unless it was named.
        redis_socket_url: Valkey by Unix socket, for a stage without a network.
    """

    folder: Path
    server_url: str
    own: EmbeddedPostgres | None
    valkey: EmbeddedValkey
    redis_socket_url: str
    _made: list[str] = field(default_factory=list)

    def database(self) -> str:
        """A fresh database with the schema; returns its URL."""
        name = f"tbg_bench_{secrets.token_hex(4)}"
        self._run("create database {}", name)
        self._made.append(name)
        url = urlunsplit(urlsplit(self.server_url)._replace(path=f"/{name}"))
        migrate(url)
        return url

    def postgres(self) -> psutil.Process | None:
        """The first process of PostgreSQL; None where it runs on another machine."""
        with psycopg.connect(self.server_url) as connection, contextlib.suppress(psutil.Error):
            parent = psutil.Process(connection.info.backend_pid).parent()
            if parent is not None and parent.name() == "postgres":
                return parent
        return None

    def version(self) -> str:
        """Of PostgreSQL, and of TimescaleDB if it is there."""
        with psycopg.connect(self.server_url) as connection:
            found = connection.execute(
                "select default_version from pg_available_extensions where name = 'timescaledb'"
            ).fetchone()
            timescaledb = f", TimescaleDB {found[0]}" if found else ""
            return f"PostgreSQL {connection.info.server_version // 10_000}{timescaledb}"

    def restart(self) -> None:
        """Empties the server's own cache, though not the system's, if the server is ours."""
        if self.own is not None:
            self.own.stop()
            self.own.start()

    def drop(self) -> None:
        """Removes what :meth:`database` made, from a server that stays."""
        for name in self._made:
            self._run("drop database {} with (force)", name)

    def _run(self, statement: str, name: str) -> None:
        with psycopg.connect(self.server_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))

    def client(self) -> "redis.Redis":
        """A client of a Valkey that was just emptied."""
        client = redis.Redis.from_url(self.valkey.url)
        client.flushall()
        return client

    def new_folder(self) -> Path:
        """A folder of its own, with a short path, for sockets."""
        made = self.folder / secrets.token_hex(3)
        made.mkdir()
        return made


@contextlib.contextmanager
def servers() -> Iterator[Servers]:
    """Both servers, ended and removed afterwards.

    An existing server is used instead of a PostgreSQL of our own where the environment
    names one (TBG_TEST_DATABASE_URL), such as a TimescaleDB.
    """
    named = os.environ.get(NAMED)
    with tempfile.TemporaryDirectory(prefix="tbg-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        password = new_password()
        socket = folder / "valkey" / "v.sock"
        valkey = EmbeddedValkey(
            folder / "valkey",
            free_port(),
            password,
            {"unixsocket": str(socket), "unixsocketperm": "777"},
        )
        postgres = EmbeddedPostgres(folder / "postgres", free_port(), new_password(), _POSTGRES)
        made = Servers(
            folder,
            named or postgres.url,
            None if named else postgres,
            valkey,
            f"unix://:{password}@{socket}?db=0",
        )
        try:
            valkey.start()
            if not named:
                postgres.start()
            yield made
        finally:
            if named:
                made.drop()
            postgres.stop()
            valkey.stop()


class Stage:
    """One stage of the daemon as a process, and what it costs.

    Args:
        words: put before the command, to run it elsewhere or otherwise.
    """

    def __init__(
        self, name: str, folder: Path, words: list[str] | None = None, **settings: Any
    ) -> None:
        self.name = name
        environment = {
            "SOCKET_PATH": str(folder / "events.sock"),
            "SPOOL_DIR": str(folder / "spool"),
            "RECEIVER_METRICS_PORT": "0",
            "WRITER_METRICS_PORT": "0",
            **{key.upper(): str(value) for key, value in settings.items()},
        }
        command = [*(words or []), PYTHON, "-m", "ingest", name]
        self.running = Process(command, folder / f"{name}.log", environment)

    @property
    def process(self) -> psutil.Process:
        """Its first process."""
        return psutil.Process(self.running.pid)


@contextlib.contextmanager
def stage(
    name: str, folder: Path, words: list[str] | None = None, **settings: Any
) -> Iterator[Stage]:
    """A running stage, ended in an orderly way."""
    made = Stage(name, folder, words, **settings)
    try:
        made.running.start().wait_for(_READY[name])
        yield made
        made.running.end()
    finally:
        made.running.kill()


def cpu_seconds(process: psutil.Process | None) -> float:
    """CPU time of a process and of its children, those that ended included; 0 without one."""
    if process is None:
        return 0.0
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    ended = process.cpu_times()
    return float(total + ended.children_user + ended.children_system)


class Meter:
    """CPU time that each process takes between beginning and end."""

    def __init__(self, servers: Servers, stages: list[Stage]) -> None:
        assert servers.valkey.process is not None
        self._processes = {made.name: made.process for made in stages}
        self._processes["Redis"] = psutil.Process(servers.valkey.process.pid)
        if (postgres := servers.postgres()) is not None:
            self._processes["PostgreSQL"] = postgres
        self._before = {name: cpu_seconds(process) for name, process in self._processes.items()}

    def seconds(self) -> dict[str, float]:
        """CPU seconds by process, so far."""
        return {
            name: cpu_seconds(process) - self._before[name]
            for name, process in self._processes.items()
        }


def wait_for_rows(url: str, rows: int, within: float = 300.0) -> None:
    """Returns as soon as so many shares are committed.

    Asks the sequence state of the engines, which commits with the rows: counting
    the rows would cost the server more than writing them.
    """
    deadline = time.monotonic() + within
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            found = connection.execute(
                "select coalesce(sum(events), 0) from engine_instances"
            ).fetchone()
            if found is not None and found[0] >= rows:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{rows} rows are not there after {within:.0f} s: {found}")
            time.sleep(0.01)


def in_namespace() -> list[str] | None:
    """Words that run a command in a network namespace of its own, None where it cannot be."""
    words = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    return words if runs(words) else None


def runs(words: list[str]) -> bool:
    """Whether a command can be put behind these words here."""
    try:
        done = subprocess.run([*words, "true"], capture_output=True, check=False)  # noqa: S603  our own words
    except FileNotFoundError:
        return False
    return done.returncode == 0
