"""The programs of a stack, as data: what to run, how to tell that it is ready.

The order of the list is the order of starting; stopping goes the other way.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import click

from ingest.settings import RetentionSettings, SettingsError
from tbg.batch import Batch, first_week, libpq_url, storage_url
from tbg.embedded import EmbeddedPostgres, EmbeddedValkey
from tbg.migrate import migrate
from tbg.node import Node
from tbg.ports import HOST, Port, Ports, listens
from tbg.program import Program, answers, import_path, without_password
from tbg.secrets import Secrets
from tbg.state import State
from tbg.supervisor import Launch

ROLE: Final = "tbg"  # of the database, and the name of the database
DAGSTER_ROLE: Final = "dagster"  # of Dagster's own database, and its name
RPC_USER: Final = "tbg"


@dataclass(frozen=True)
class StackOptions:
    """What the user chose of a stack.

    Attributes:
        node: whether there is one: ours, or the one that ``foreign_node`` is.
        foreign_node: a node that the user runs, on a test network.
        miner_user: address that the CPU miner mines for; None is one without a known key.
    """

    ports: Ports = field(default_factory=Ports)
    stratum_host: str = HOST
    node: bool = True
    foreign_node: Node | None = None
    pool: bool = True
    miner: bool = True
    dagster: bool = True
    miner_processes: int = 1
    miner_user: str | None = None
    verbose: bool = False
    log_format: str = "console"
    pool_arguments: tuple[str, ...] = ()
    miner_arguments: tuple[str, ...] = ()


class StackPlan:
    """Everything that a stack of these options consists of.

    Args:
        environ: DATABASE_URL, REDIS_URL and DAGSTER_PG_URL in it name servers elsewhere.
    """

    def __init__(
        self, state: State, options: StackOptions, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.state = state
        self.options = options
        self.secrets: Secrets = state.secrets()
        ports = options.ports
        self._postgres = EmbeddedPostgres(
            state.path / "postgres", ports.postgres_port, self.secrets.postgres
        )
        self._valkey = EmbeddedValkey(state.path / "valkey", ports.valkey_port, self.secrets.redis)
        embedded: list[Program] = []
        elsewhere_database = self._elsewhere(environ, "DATABASE_URL", self.secrets.database)
        self.database_url = elsewhere_database or self._postgres.url_of(
            ROLE, ROLE, self.secrets.database
        )
        if elsewhere_database is None:
            embedded.append(self._postgresql())
        elsewhere = self._elsewhere(environ, "REDIS_URL", self.secrets.redis)
        self.redis_url = elsewhere or self._valkey.url
        if elsewhere is None:
            embedded.append(self._redis())
        self.socket_path = state.runtime / "events.sock"
        self.node = self._find_node()
        self.stratum_url = (
            f"stratum+tcp://{options.stratum_host}:{ports.stratum_port}" if options.pool else None
        )
        self.dagster_url = f"http://{HOST}:{ports.dagster_port}" if options.dagster else None
        # The writer before the receiver, so that it ends after it: what the receiver
        # hands on last is still committed.
        self.programs: list[Program] = [*embedded, self._writer(), self._receiver()]
        if self.node is not None and options.foreign_node is None:
            self.programs.append(self._own_node(self.node))
        if options.pool and self.node is not None:
            self.programs.append(self._pool(self.node))
        if options.miner:
            self.programs.append(self._miner())
        self.dagster_database_url: str | None = None
        batch = []
        if options.dagster:
            batch = self._batch(environ, own_database=elsewhere_database is None)
        if options.dagster or environ.get("ALERTS_FILE"):
            self.programs.append(self._notifier())
        self.programs += batch

    def _find_node(self) -> Node | None:
        if not self.options.node:
            return None
        return self.options.foreign_node or Node(
            f"http://{HOST}:{self.options.ports.rpc_port}", RPC_USER, self.secrets.rpc
        )

    @staticmethod
    def _elsewhere(environ: Mapping[str, str], variable: str, own_password: str) -> str | None:
        """Returns the URL of a server elsewhere, or None to run our own.

        A shell that took over ``tbg env`` names our own server: known by its password.
        """
        url = environ.get(variable) or None
        if url is not None and urlsplit(url).password == own_password:
            return None
        return url

    def _python(self, name: str, arguments: list[str], **environment: str) -> Launch:
        """One of our own commands, as a program."""
        level = "DEBUG" if self.options.verbose else "INFO"
        shared = {"LOG_LEVEL": level, "LOG_FORMAT": self.options.log_format}
        shared |= {"PYTHONUNBUFFERED": "1", **import_path()}
        command = [sys.executable, "-P", "-m", "tbg.cli", *arguments]
        return Launch(name, command, {**shared, **environment})

    def _postgresql(self) -> Program:
        server = self._postgres

        def after() -> None:
            server.ensure_role(ROLE, self.secrets.database)
            server.ensure_database(ROLE, ROLE)
            server.ensure_role(DAGSTER_ROLE, self.secrets.dagster)
            server.ensure_database(DAGSTER_ROLE, DAGSTER_ROLE)

        return Program(
            Launch(
                "postgres", server.command, user=server.user, stop_signal="INT", stop_seconds=30
            ),
            "database",
            without_password(server.url_of(ROLE, ROLE, "x")),
            (Port(HOST, server.port, "--postgres-port"),),
            server.prepare,
            server.ready,
            after,
        )

    def _redis(self) -> Program:
        server = self._valkey
        return Program(
            Launch("valkey", server.command, user=server.user, stop_seconds=30),
            "streams",
            without_password(server.url),
            (Port(HOST, server.port, "--valkey-port"),),
            server.prepare,
            server.ready,
        )

    def _receiver(self) -> Program:
        port = self.options.ports.receiver_metrics_port
        return Program(
            self._python(
                "receiver",
                ["ingest", "receiver"],
                SOCKET_PATH=str(self.socket_path),
                SPOOL_DIR=str(self.state.path / "spool"),
                REDIS_URL=self.redis_url,
                RECEIVER_METRICS_PORT=str(port),
            ),
            "event socket → Redis",
            f"http://{HOST}:{port}/metrics",
            (Port(HOST, port, "--receiver-metrics-port"),),
            ready=lambda: answers(f"http://{HOST}:{port}/readyz"),
        )

    def _writer(self) -> Program:
        port = self.options.ports.writer_metrics_port
        return Program(
            self._python(
                "writer",
                ["ingest", "writer"],
                REDIS_URL=self.redis_url,
                DATABASE_URL=self.database_url,
                WRITER_METRICS_PORT=str(port),
            ),
            "Redis → database",
            f"http://{HOST}:{port}/metrics",
            (Port(HOST, port, "--writer-metrics-port"),),
            ready=lambda: answers(f"http://{HOST}:{port}/readyz"),
        )

    def _own_node(self, node: Node) -> Program:
        port = self.options.ports.rpc_port
        arguments = ["devnet", "node", "--datadir", str(self.state.path / "node")]
        arguments += ["--host", HOST, "--port", str(port), "--rpcuser", RPC_USER]
        return Program(
            self._python("node", arguments, TBG_RPC_PASSWORD=self.secrets.rpc),
            "regtest node",
            node.url,
            (Port(HOST, port, "--rpc-port"),),
            ready=node.answers,
        )

    def _pool(self, node: Node) -> Program:
        host, port = self.options.stratum_host, self.options.ports.stratum_port
        arguments = ["devnet", "pool", "--host", host, "--port", str(port)]
        arguments += node.pool_arguments()
        arguments += ["--state", str(self.state.path / "pool" / "bests.json")]
        arguments += self.options.pool_arguments
        return Program(
            self._python(
                "pool",
                arguments,
                SOCKET_PATH=str(self.socket_path),
                TBG_RPC_PASSWORD=node.password,
            ),
            "Stratum, for miners",
            f"stratum+tcp://{host}:{port}",
            (Port(host, port, "--stratum-port"),),
            lambda: (self.state.path / "pool").mkdir(mode=0o700, exist_ok=True),
            lambda: listens(_reachable(self.options), port),
        )

    def _miner(self) -> Program:
        port = self.options.ports.stratum_port
        arguments = ["devnet", "miner", "--url", f"stratum+tcp://{_reachable(self.options)}:{port}"]
        arguments += ["--processes", str(self.options.miner_processes)]
        if self.options.miner_user:
            arguments += ["--user", self.options.miner_user]
        arguments += self.options.miner_arguments
        return Program(
            self._python("miner", arguments),
            "CPU miner",
            f"{self.options.miner_processes} process(es)",
        )

    def _batch(self, environ: Mapping[str, str], *, own_database: bool) -> list[Program]:
        url = environ.get("DAGSTER_PG_URL") or None
        if url is None and own_database:
            url = self._postgres.url_of(DAGSTER_ROLE, DAGSTER_ROLE, self.secrets.dagster)
        if url is None:
            raise click.ClickException(
                "DATABASE_URL names a database elsewhere, and Dagster needs one of its own: "
                "name it in DAGSTER_PG_URL, or leave Dagster out with --no-dagster"
            )
        batch = Batch(
            self.state.path / "dagster", self.state.runtime, storage_url(url), import_path()
        )
        self.dagster_database_url = libpq_url(batch.storage_url)
        code = {
            "TBG_FIRST_WEEK": first_week(batch.folder),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "BITCOIN_RPC_URL": environ.get("BITCOIN_RPC_URL", ""),
        }
        if self.node is not None:
            code |= self.node.environment()
        port = Port(HOST, self.options.ports.dagster_port, "--dagster-port")
        return batch.programs(code, port)

    def _notifier(self) -> Program:
        port = self.options.ports.notifier_metrics_port
        return Program(
            # ALERTS_FILE and the secrets of its routes come from our own environment.
            self._python(
                "notifier",
                ["notify"],
                DATABASE_URL=self.database_url,
                DAGSTER_PG_URL=self.dagster_database_url or "",
                NOTIFIER_METRICS_PORT=str(port),
            ),
            "outbox → people",
            f"http://{HOST}:{port}/metrics",
            (Port(HOST, port, "--notifier-metrics-port"),),
            ready=lambda: answers(f"http://{HOST}:{port}/readyz"),
        )

    def migrate(self, say: Callable[[str], None]) -> None:
        """Brings the database's schema up to date."""
        migrate(
            self.database_url,
            retention_days=_retention_days(),
            archived=bool(os.environ.get("ARCHIVE_URL")),
            say=say,
        )


def _retention_days() -> int:
    try:
        return RetentionSettings.load().retention_days
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def _reachable(options: StackOptions) -> str:
    """The address by which this machine reaches its own pool."""
    return HOST if options.stratum_host in ("0.0.0.0", "::", "") else options.stratum_host  # noqa: S104 compared, not bound
