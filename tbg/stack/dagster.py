"""The batch side as programs of a stack: Dagster's code server, webserver and daemon.

The code location is served once, over a Unix socket that only our user can reach.
Webserver and daemon ask it; without it, each would start code servers of its own, the
daemon a fresh one every minute.
"""

import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import click

from tbg.stack.first_week import FirstWeek
from tbg.stack.ports import Port, listens_on
from tbg.stack.program import Program, answers, import_path
from tbg.stack.storage import migrate
from tbg.stack.supervisor import Launch, Process
from tbg_core.dagster_health import look

MODULE: Final = "tbg_dagster.definitions"
ATTRIBUTE: Final = "defs"
LOCATION: Final = "mining_data"
CODE_SOCKET: Final = "dagster.sock"
WEBSERVER: Final = "webserver"
DAEMON: Final = "daemon"
# dagster-daemon, for our Python: wherever its script is, and whatever module that calls.
DAEMON_COMMAND: Final = (
    "-c",
    "__import__('importlib.metadata').metadata.entry_points(group='console_scripts')"
    "['dagster-daemon'].load()()",
)
CODE_SERVER: Final = "code-server"
# A busy machine takes longer than Dagster's minute to start a run, which then counts as failed.
LAUNCH_SECONDS: Final = "300"


def programs(
    folder: Path,
    runtime: Path,
    storage: str,
    code_environment: Mapping[str, str],
    port: Port,
    first: FirstWeek | None = None,
    *,
    one_run: bool = False,
) -> list[Program]:
    """Returns the three programs, in the order of their start.

    Args:
        folder: becomes DAGSTER_HOME.
        runtime: folder for sockets.
        storage: URL of Dagster's own database, see :func:`storage_url`.
        code_environment: settings of the assets, which runs inherit; the code server alone
            gets them.
        port: of the UI.
        first: where the partitions begin, unless the environment names it.
        one_run: whether runs come one after the other, for a machine with little memory.
    """
    socket, workspace = runtime / CODE_SOCKET, folder / "workspace.yaml"
    url = f"http://{port.host}:{port.number}"

    code = ["-m", "dagster", "api", "grpc", "--socket", str(socket)]
    code += ["--module-name", MODULE, "--attribute", ATTRIBUTE, "--location-name", LOCATION]
    ui = ["-m", "dagster_webserver", "-w", str(workspace), "-h", port.host, "-p", str(port.number)]
    common = {
        **import_path(),
        "DAGSTER_HOME": str(folder),
        "DAGSTER_PG_URL": storage,
        "DAGSTER_GRPC_TIMEOUT_SECONDS": LAUNCH_SECONDS,
    }

    def launch(name: str, words: list[str], **environment: str) -> Launch:
        # Runs in progress are asked to end, and get time to do so.
        command = [sys.executable, *words]
        return Launch(name, command, {**common, **environment}, stop_seconds=30)

    def prepare() -> str | None:
        _make_home(folder, socket, workspace, first, one_run=one_run)
        return migrate(folder, storage, common)

    return [
        Program(
            launch(CODE_SERVER, code, **code_environment),
            "batch side: code",
            "Dagster",
            prepare=prepare,
            # It binds the socket once it has loaded the code.
            ready=lambda: listens_on(socket),
        ),
        Program(
            launch(WEBSERVER, ui),
            "batch side: UI",
            url,
            (port,),
            ready=lambda: answers(f"{url}/server_info"),
        ),
        Program(
            launch(DAEMON, [*DAEMON_COMMAND, "run", "-w", str(workspace)]),
            "batch side: schedules",
            "Dagster",
        ),
    ]


def _make_home(
    folder: Path, socket: Path, workspace: Path, first: FirstWeek | None, *, one_run: bool
) -> None:
    """Makes DAGSTER_HOME: the instance's settings, the workspace and the first week."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = (resources.files("tbg_dagster") / "instance" / "dagster.yaml").read_text()
    if one_run:
        settings = re.sub(r"max_concurrent_runs: \d+", "max_concurrent_runs: 1", settings)
    (folder / "dagster.yaml").write_text(settings)
    workspace.write_text(
        f'load_from:\n  - grpc_server:\n      socket: "{socket}"\n      location_name: {LOCATION}\n'
    )
    if first is not None:
        first.keep()


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


def problems(database_url: str, daemon: Process) -> list[str]:
    """Returns what is wrong with Dagster, a sentence each; empty when it is well.

    Args:
        database_url: of Dagster's own database.
        daemon: as the supervisor sees it.
    """
    if not daemon.running:
        return [f"the daemon does not run ({daemon.state.lower()})"]
    found = look(database_url, daemon.uptime)
    return [*found.daemon, *found.failed, *found.waiting]
