"""Dagster's webserver and daemon as real processes, for a benchmark or a test."""

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from tbg.stack.dagster import DAEMON_COMMAND
from tests.processes import PYTHON, ROOT, Process, running

START_SECONDS: Final = 180.0

_LAUNCH: Final = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
_STATUS: Final = """
query($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } }
    ... on PythonError { message }
  }
}
"""
_RUNS: Final = """
query($id: String!) {
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) {
    ... on Runs { results { startTime endTime } }
    ... on PythonError { message }
  }
}
"""
_AUTOMATION: Final = """
query {
  repositoriesOrError {
    ... on RepositoryConnection {
      nodes {
        schedules { name scheduleState { id status } }
        sensors { name sensorState { id status } }
      }
    }
  }
}
"""


class DagsterError(RuntimeError):
    """Dagster did not do what it was asked; the message says why."""


@dataclass
class Dagster:
    """A running webserver, and a daemon once :meth:`daemon` has been entered.

    Attributes:
        url: of the UI.
        home: DAGSTER_HOME.
        environment: of the processes, on top of ours.
    """

    url: str
    home: Path
    environment: Mapping[str, str]

    def graphql(self, query: str, **variables: Any) -> Any:
        """The data that a query answers with.

        Raises:
            DagsterError: when it answers with errors.
        """
        answer = requests.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
        ).json()
        if answer.get("errors"):
            raise DagsterError(str(answer["errors"]))
        return answer["data"]

    def stop_automation(self) -> None:
        """Switches every schedule and sensor off, as a click in the UI does."""
        for node in self.graphql(_AUTOMATION)["repositoriesOrError"]["nodes"]:
            for schedule in node["schedules"]:
                self.graphql(
                    "mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }",
                    id=schedule["scheduleState"]["id"],
                )
            for sensor in node["sensors"]:
                self.graphql(
                    "mutation($id: String!) { stopSensor(id: $id) { __typename } }",
                    id=sensor["sensorState"]["id"],
                )

    def launch_backfill(self, assets: Sequence[str], partitions: Sequence[str]) -> str:
        """Launches an asset backfill, as the UI does; returns its id."""
        params = {
            "assetSelection": [{"path": [asset]} for asset in assets],
            "partitionNames": list(partitions),
        }
        launched = self.graphql(_LAUNCH, params=params)["launchPartitionBackfill"]
        if "backfillId" not in launched:
            raise DagsterError(str(launched))
        return str(launched["backfillId"])

    def wait_for_backfill(self, backfill: str, seconds: float) -> None:
        """Waits until a backfill has completed.

        Raises:
            DagsterError: when it fails, or has not ended in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            status = self.graphql(_STATUS, id=backfill)["partitionBackfillOrError"]
            if status["status"] == "COMPLETED_SUCCESS":
                return
            if status["status"] in ("COMPLETED_FAILED", "FAILED", "CANCELED"):
                raise DagsterError(f"backfill {backfill}: {status}")
            if time.monotonic() > deadline:
                raise DagsterError(
                    f"backfill {backfill} has not ended in {seconds:.0f} s: {status}"
                )
            time.sleep(0.5)

    def runs_of_backfill(self, backfill: str) -> list[tuple[float, float]]:
        """When each run of a backfill began and ended, in seconds since the epoch, in order."""
        runs = self.graphql(_RUNS, id=backfill)["runsOrError"]["results"]
        return sorted((run["startTime"], run["endTime"]) for run in runs)

    @contextlib.contextmanager
    def daemon(self) -> Iterator[None]:
        """Runs dagster-daemon during the block."""
        with _process(
            [*DAEMON_COMMAND, "run", "-w", str(ROOT / "workspace.yaml")],
            self.environment,
            self.home / "daemon.log",
        ):
            yield


@contextlib.contextmanager
def dagster(home: Path, port: int, environment: Mapping[str, str]) -> Iterator[Dagster]:
    """Runs dagster-webserver on 127.0.0.1 during the block, on the instance template of the project.

    Args:
        home: becomes DAGSTER_HOME.
        port: of the UI.
        environment: DAGSTER_PG_URL, DATABASE_URL, REDIS_URL, BITCOIN_RPC_URL.
    """
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "tbg_dagster" / "instance" / "dagster.yaml", home)
    # Dagster's storage is written for psycopg2, and SQLAlchemy 2.1 prefers psycopg 3.
    storage = environment["DAGSTER_PG_URL"].replace("postgresql://", "postgresql+psycopg2://")
    merged = {**environment, "DAGSTER_HOME": str(home), "DAGSTER_PG_URL": storage}
    made = Dagster(f"http://127.0.0.1:{port}", home, merged)
    command = ["-m", "dagster_webserver", "-w", str(ROOT / "workspace.yaml")]
    log = home / "webserver.log"
    with _process([*command, "-h", "127.0.0.1", "-p", str(port)], merged, log) as process:
        deadline = time.monotonic() + START_SECONDS
        while True:
            # Until it listens, and until the code location has been loaded.
            with contextlib.suppress(requests.ConnectionError):
                if made.graphql(_AUTOMATION)["repositoriesOrError"].get("nodes"):
                    break
            if process.returncode is not None or time.monotonic() > deadline:
                raise DagsterError(f"the webserver did not start:\n{process.output[-2000:]}")
            time.sleep(0.3)
        yield made


@contextlib.contextmanager
def _process(
    arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[Process]:
    with running([PYTHON, *arguments], log, environment) as process:
        yield process
        # It ends its code servers and runs itself if it is asked.
        process.end(signal.SIGINT)
