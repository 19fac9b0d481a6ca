"""The batch side as programs of a stack: Dagster's webserver and daemon."""

import shutil
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Final

from ingest.names import week_start
from tbg.ports import Port
from tbg.program import Program, answers
from tbg.supervisor import Launch

# As workspace.yaml in a checkout; an installed package has none.
WORKSPACE: Final = """\
load_from:
  - python_module:
      module_name: tbg_dagster.definitions
      attribute: defs
      location_name: mining_data
"""


def home(folder: Path) -> None:
    """Makes DAGSTER_HOME: the instance's settings and the workspace."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = resources.files("tbg_dagster") / "instance" / "dagster.yaml"
    with resources.as_file(settings) as source:
        shutil.copyfile(source, folder / "dagster.yaml")
    (folder / "workspace.yaml").write_text(WORKSPACE)


def first_week(folder: Path) -> str:
    """The Monday with which the partitions begin: that of the stack's first start.

    Kept, because moving it later would hide partitions from Dagster.
    """
    file = folder / "first_week"
    if not file.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(f"{week_start(datetime.now(UTC))}\n")
    return file.read_text().strip()


def webserver(
    folder: Path, environment: Mapping[str, str], port: Port, prepare: Callable[[], None]
) -> Program:
    """The UI and its GraphQL."""
    url = f"http://{port.host}:{port.number}"
    arguments = ["-h", port.host, "-p", str(port.number)]
    return Program(
        _launch("webserver", "dagster_webserver", folder, arguments, environment),
        "batch side: UI",
        url,
        (port,),
        prepare,
        lambda: answers(f"{url}/server_info"),
    )


def daemon(folder: Path, environment: Mapping[str, str]) -> Program:
    """What runs schedules, sensors and backfills."""
    return Program(
        _launch("daemon", "dagster._daemon", folder, [], environment, "run"),
        "batch side: schedules",
        "Dagster",
    )


def _launch(
    name: str,
    module: str,
    folder: Path,
    arguments: list[str],
    environment: Mapping[str, str],
    *subcommand: str,
) -> Launch:
    command = [sys.executable, "-m", module, *subcommand, "-w", str(folder / "workspace.yaml")]
    # Runs that are under way are told to end, and get the time for it.
    return Launch(name, [*command, *arguments], dict(environment), stop_seconds=30)
