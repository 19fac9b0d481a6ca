"""The programs of a stack, as data: what to run, how to see that it is ready.

The order of the list is the order of starting; stopping goes the other way.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from tbg.migrate import SERVE_ROLE
from tbg.servers import usable, usable_redis
from tbg.stack import dagster as batch
from tbg.stack.dagster import storage_url
from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey
from tbg.stack.first_week import FirstWeek
from tbg.stack.node import Node
from tbg.stack.passwords import Secrets
from tbg.stack.ports import HOST, Ports, listens
from tbg.stack.program import Program, answers, import_path
from tbg.stack.state import State
from tbg.stack.supervisor import Launch
from tbg_core.database import libpq_url, without_password

ROLE: Final = "tbg"  # of the database, and the name of the database
DAGSTER_ROLE: Final = "dagster"  # of Dagster's own database, and its name
RPC_USER: Final = "tbg"
NOTIFIER: Final = "notifier"


def reachable(host: str) -> str:
    """The address by which this machine reaches what listens on ``host``."""
    every = host in ("0.0.0.0", "::", "")  # noqa: S104 compared, not bound
    return HOST if every else host


@dataclass(frozen=True)
class StackOptions:
    """What the user chose of a stack.

    Attributes:
        node: whether there is one: ours, or the one that ``foreign_node`` is.
        foreign_node: a node that the user runs, on a test network.
        light: without Dagster's UI, and its other programs at work around the full hour alone.
        miner_user: address that the CPU miner mines for; None is one without a known key.
        trust_clock: whether to go on although the clock cannot be right.
        pool_config: a configuration file for our pool.
    """

    ports: Ports = field(default_factory=Ports)
    stratum_host: str = HOST
    serve_host: str = HOST
    node: bool = True
    foreign_node: Node | None = None
    pool: bool = True
    miner: bool = True
    dagster: bool = True
    light: bool = False
    serve: bool = True
    miner_processes: int = 1
    miner_user: str | None = None
    trust_clock: bool = False
    pool_config: Path | None = None
    verbose: bool = False
    log_format: str = "console"
    pool_arguments: tuple[str, ...] = ()
    miner_arguments: tuple[str, ...] = ()

    @property
    def reachable_host(self) -> str:
        """The address by which this machine reaches its own pool."""
        return reachable(self.stratum_host)


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
        valkey = EmbeddedValkey(state.path / "valkey", ports.valkey_port, self.secrets.redis)
        database = _elsewhere(environ.get("DATABASE_URL"), self.secrets.database)
        cache = _elsewhere(environ.get("REDIS_URL"), self.secrets.redis)
        self.cell = environ.get("CELL", "")
        if database is not None:
            usable(database)
        if cache is not None:
            usable_redis(cache)
        named = {"DATABASE_URL": database, "REDIS_URL": cache}
        self.elsewhere = {name: without_password(url) for name, url in named.items() if url}
        """Servers that the environment names instead of ours, without passwords."""
        self.database_url = database or self._postgres.url_of(ROLE, ROLE, self.secrets.database)
        self.redis_url = cache or valkey.url
        self.socket_path = state.runtime / "events.sock"
        self.node = options.foreign_node
        if options.node and self.node is None:
            self.node = Node(f"http://{HOST}:{ports.rpc_port}", RPC_USER, self.secrets.rpc)
        self.stratum_url = (
            f"stratum+tcp://{options.stratum_host}:{ports.stratum_port}" if options.pool else None
        )
        self.api_url = (
            f"http://{reachable(options.serve_host)}:{ports.serve_port}" if options.serve else None
        )
        ui = options.dagster and not options.light
        self.dagster_url = f"http://{HOST}:{ports.dagster_port}" if ui else None
        self.archive_url = _absolute(environ.get("ARCHIVE_URL"))
        self.alerts_file = _absolute(environ.get("ALERTS_FILE"))
        self.dagster_database_url: str | None = None
        self.first_week: FirstWeek | None = None
        self.programs: list[Program] = []
        if database is None:
            self.programs.append(self._postgresql())
        if cache is None:
            self.programs.append(self._valkey(valkey))
        # The writer before the receiver, so that it ends after it: what the receiver
        # hands on last is still committed.
        self.programs += [self._writer(), self._receiver()]
        if self.node is not None and options.foreign_node is None:
            self.programs.append(self._own_node(self.node))
        if options.pool and self.node is not None:
            self.programs.append(self._pool(self.node))
        if options.miner:
            self.programs.append(self._miner())
        batch_side = []
        if options.dagster:
            batch_side = self._batch(environ, own_database=database is None)
        routed = bool(environ.get("ALERTS_FILE") or environ.get("ALERT_WEBHOOK_URL"))
        if options.dagster or routed:
            self.programs.append(self._notifier())
        if self.api_url is not None:
            self.programs.append(self._serve(self.api_url, own_database=database is None))
        self.programs += batch_side
        self.resting: tuple[str, ...] = ()
        """Programs that work around the full hour alone, in the order of their start."""
        if options.light and options.dagster:
            names = {one.name for one in batch_side}
            if not routed:
                names.add(NOTIFIER)  # nobody waits for it
            self.resting = tuple(one.name for one in self.programs if one.name in names)

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
            server.ensure_role(SERVE_ROLE, self.secrets.serve)
            server.ensure_role(DAGSTER_ROLE, self.secrets.dagster)
            server.ensure_database(DAGSTER_ROLE, DAGSTER_ROLE)

        return Program(
            Launch(
                "postgres", server.command, user=server.user, stop_signal="INT", stop_seconds=300
            ),
            "database",
            without_password(server.url_of(ROLE, ROLE, "x")),
            (self.options.ports.at("postgres_port"),),
            server.prepare,
            server.ready,
            after,
            lambda: server.busy,
        )

    def _valkey(self, server: EmbeddedValkey) -> Program:
        return Program(
            Launch("valkey", server.command, user=server.user, stop_seconds=300),
            "streams",
            without_password(server.url),
            (self.options.ports.at("valkey_port"),),
            server.prepare,
            server.ready,
            busy=lambda: server.busy,
        )

    def _daemon(self, name: str, words: list[str], title: str, **environment: str) -> Program:
        """One of our daemons: ``/readyz`` on the port of its metrics says whether it is ready."""
        setting = f"{name}_metrics_port"
        port = self.options.ports.at(setting)
        url = f"http://{port.host}:{port.number}"
        environment[setting.upper()] = str(port.number)
        return Program(
            self._python(name, words, **environment),
            title,
            f"{url}/metrics",
            (port,),
            ready=lambda: answers(f"{url}/readyz"),
        )

    def _receiver(self) -> Program:
        return self._daemon(
            "receiver",
            ["ingest", "receiver"],
            "event socket → Redis",
            SOCKET_PATH=str(self.socket_path),
            SPOOL_DIR=str(self.state.path / "spool"),
            REDIS_URL=self.redis_url,
            CELL=self.cell,
        )

    def _writer(self) -> Program:
        return self._daemon(
            "writer",
            ["ingest", "writer"],
            "Redis → database",
            REDIS_URL=self.redis_url,
            CELL=self.cell,
            DATABASE_URL=self.database_url,
        )

    def _notifier(self) -> Program:
        # The routes and their secrets come from our own environment.
        return self._daemon(
            NOTIFIER,
            ["notify"],
            "outbox → people",
            DATABASE_URL=self.database_url,
            # The heartbeats of one that rests are not watched.
            DAGSTER_PG_URL="" if self.options.light else self.dagster_database_url or "",
            DISK_PATH=str(self.state.path),
            **(self.node.environment() if self.node else {"BITCOIN_RPC_URL": ""}),
        )

    def _serve(self, url: str, *, own_database: bool) -> Program:
        # A database of our own has a role that reads what is served, and nothing else.
        database = self.database_url
        if own_database:
            database = self._postgres.url_of(ROLE, SERVE_ROLE, self.secrets.serve)
        port = self.options.ports.at("serve_port", self.options.serve_host)
        return Program(
            self._python(
                "serve",
                ["serve"],
                DATABASE_URL=database,
                REDIS_URL=self.redis_url,
                SERVE_HOST=port.host,
                SERVE_PORT=str(port.number),
            ),
            "HTTP, miners' tools",
            url,
            (port,),
            ready=lambda: answers(f"{url}/readyz"),
        )

    def _own_node(self, node: Node) -> Program:
        port = self.options.ports.rpc_port
        arguments = ["devnet", "node", "--datadir", str(self.state.path / "node")]
        arguments += ["--host", HOST, "--port", str(port), "--rpcuser", RPC_USER]
        return Program(
            self._python("node", arguments, TBG_RPC_PASSWORD=self.secrets.rpc),
            "regtest node",
            node.url,
            (self.options.ports.at("rpc_port"),),
            ready=node.answers,
        )

    def _pool(self, node: Node) -> Program:
        host, port = self.options.stratum_host, self.options.ports.stratum_port
        arguments = ["devnet", "pool", "--host", host, "--port", str(port)]
        arguments += node.pool_arguments()
        arguments += ["--state", str(self.state.path / "pool" / "bests.json")]
        if self.options.pool_config is not None:
            arguments += ["--config", str(self.options.pool_config.resolve())]
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
            (self.options.ports.at("stratum_port", host),),
            lambda: (self.state.path / "pool").mkdir(mode=0o700, exist_ok=True),
            lambda: listens(self.options.reachable_host, port),
        )

    def _miner(self) -> Program:
        port = self.options.ports.stratum_port
        arguments = [
            "devnet",
            "miner",
            "--url",
            f"stratum+tcp://{self.options.reachable_host}:{port}",
        ]
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
        storage = storage_url(url)
        self.dagster_database_url = libpq_url(storage)
        folder = self.state.path / "dagster"
        code = {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "BITCOIN_RPC_URL": environ.get("BITCOIN_RPC_URL", ""),
            # Set to nothing, it says that no day is archived.
            "ARCHIVE_URL": environ.get("ARCHIVE_URL", ""),
        }
        if not environ.get("TBG_FIRST_WEEK"):
            self.first_week = FirstWeek(folder, self.database_url, self.dagster_database_url)
        if self.node is not None:
            code |= self.node.environment()
        port = self.options.ports.at("dagster_port")
        found = batch.programs(
            *(folder, self.state.runtime, storage, code, port, self.first_week),
            one_run=self.options.light,
        )
        return [one for one in found if not (self.options.light and one.name == batch.WEBSERVER)]


def _absolute(place: str | None) -> str | None:
    """A file or folder as another folder's commands find it; a URL as it is."""
    return place or None if not place or "://" in place else str(Path(place).expanduser().resolve())


def _elsewhere(url: str | None, own_password: str) -> str | None:
    """Returns the URL of a server elsewhere, or None to run our own.

    A shell that took over ``tbg env`` names our own server: known by its password.
    """
    return url if url and urlsplit(url).password != own_password else None
