"""The batch side as programs of a stack: Dagster's code server, webserver and daemon.

The code location is served once, over a Unix socket that only our user can reach.
Webserver and daemon ask it; without it, each would start code servers of its own, the
daemon a fresh one every minute.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import click

from ingest.names import week_start
from tbg.ports import Port, listens_on
from tbg.program import Program, answers
from tbg.supervisor import Launch

MODULE: Final = "tbg_dagster.definitions"
ATTRIBUTE: Final = "defs"
LOCATION: Final = "mining_data"
CODE_SOCKET: Final = "dagster.sock"
WEBSERVER: Final = "webserver"
DAEMON: Final = "daemon"
WEEKS_BEFORE: Final = timedelta(weeks=13)


@dataclass(frozen=True)
class Batch:
    """What the three programs have in common.

    Attributes:
        folder: becomes DAGSTER_HOME.
        runtime: folder for sockets.
        storage_url: of Dagster's own database, see :func:`storage_url`.
        environment: of our commands; the code server alone gets more.
    """

    folder: Path
    runtime: Path
    storage_url: str
    environment: Mapping[str, str]

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace.yaml"

    @property
    def socket(self) -> Path:
        return self.runtime / CODE_SOCKET

    def make_home(self) -> None:
        """Makes DAGSTER_HOME: the instance's settings and the workspace."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = resources.files("tbg_dagster") / "instance" / "dagster.yaml"
        with resources.as_file(settings) as source:
            shutil.copyfile(source, self.folder / "dagster.yaml")
        self.workspace.write_text(
            "load_from:\n"
            "  - grpc_server:\n"
            f'      socket: "{self.socket}"\n'
            f"      location_name: {LOCATION}\n"
        )

    def programs(self, code_environment: Mapping[str, str], port: Port) -> list[Program]:
        """Returns the three programs, in the order of their start.

        Args:
            code_environment: settings of the assets, which runs inherit.
            port: of the UI.
        """
        url = f"http://{port.host}:{port.number}"
        code = ["dagster", "api", "grpc", "--socket", str(self.socket)]
        code += ["--module-name", MODULE, "--attribute", ATTRIBUTE, "--location-name", LOCATION]
        ui = ["dagster_webserver", "-w", str(self.workspace), "-h", port.host]
        return [
            Program(
                self._launch("code-server", code, code_environment),
                "batch side: code",
                "Dagster",
                prepare=self.make_home,
                # It binds the socket once it has loaded the code.
                ready=lambda: listens_on(self.socket),
            ),
            Program(
                self._launch(WEBSERVER, [*ui, "-p", str(port.number)]),
                "batch side: UI",
                url,
                (port,),
                ready=lambda: answers(f"{url}/server_info"),
            ),
            Program(
                self._launch(DAEMON, ["dagster._daemon", "run", "-w", str(self.workspace)]),
                "batch side: schedules",
                "Dagster",
            ),
        ]

    def _launch(
        self, name: str, arguments: list[str], environment: Mapping[str, str] | None = None
    ) -> Launch:
        common = {
            **self.environment,
            "DAGSTER_HOME": str(self.folder),
            "DAGSTER_PG_URL": self.storage_url,
        }
        # Runs in progress are asked to end, and get time to do so.
        return Launch(
            name,
            [sys.executable, "-m", *arguments],
            {**common, **(environment or {})},
            stop_seconds=30,
        )


def storage_url(url: str) -> str:
    """Returns the URL of Dagster's database with the driver that Dagster needs.

    ``postgresql://`` alone makes SQLAlchemy 2.1 take psycopg 3, whose ``NOTIFY %s`` is a
    syntax error in dagster-postgres: runs would never start.

    Raises:
        click.ClickException: when it is not the URL of a PostgreSQL.
    """
    parts = urlsplit(url)
    if parts.scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise click.ClickException("DAGSTER_PG_URL must begin with postgresql://")
    return urlunsplit(parts._replace(scheme="postgresql+psycopg2"))


def libpq_url(url: str) -> str:
    """Returns such a URL as libpq has it, without a driver."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql"))


def first_week(folder: Path) -> str:
    """The Monday on which the partitions begin: 13 weeks before the stack's first start.

    So far back go the raw shares that retention admits: of an import, or of a simulated
    history. The first start is kept in a file, because moving the partitions later would
    hide some from Dagster.
    """
    file = folder / "first_week"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(f"{week_start(datetime.now(UTC))}\n")
    return str(date.fromisoformat(file.read_text().strip()) - WEEKS_BEFORE)
