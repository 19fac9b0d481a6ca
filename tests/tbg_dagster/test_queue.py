"""The run queue with the settings of our instance: a real daemon and a real code server."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tbg.stack.dagster import DAEMON_COMMAND, storage_url
from tbg.stack.ports import listens_on
from tests.processes import PYTHON, ROOT, Process, running, wait_until

JOB = """
import dagster as dg

@dg.op
def nothing() -> None: ...

@dg.job
def waits() -> None:
    nothing()
"""
WORKSPACE = """
load_from:
  - grpc_server:
      socket: {socket}
      location_name: here
"""

# It waits in the queue for a second time, or has failed.
TURN = """
select run_id from event_logs
group by 1 having count(*) filter (where dagster_event_type = 'PIPELINE_ENQUEUED') > 1
    or bool_or(dagster_event_type = 'PIPELINE_FAILURE')
"""


@pytest.mark.timeout(420)
def test_a_run_whose_turn_comes_while_the_code_server_starts_again_waits_for_it(
    empty_database_url: str, tmp_path: Path
) -> None:
    environment = {
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_PG_URL": storage_url(empty_database_url),
    }
    shutil.copy(ROOT / "tbg_dagster/instance/dagster.yaml", tmp_path)
    socket, workspace = tmp_path / "s", tmp_path / "workspace.yaml"
    workspace.write_text(WORKSPACE.format(socket=socket))
    (tmp_path / "job.py").write_text(JOB)

    @contextmanager
    def code_server() -> Iterator[Process]:
        words = ["-m", "dagster", "api", "grpc", "--socket", str(socket)]
        words += ["--python-file", str(tmp_path / "job.py"), "--location-name", "here"]
        with running([PYTHON, *words], tmp_path / "code.log", environment) as process:
            wait_until(lambda: listens_on(socket), "the code server listens")
            yield process

    def asked(query: str) -> set[str]:
        with psycopg.connect(empty_database_url) as storage:
            return {str(row[0]) for row in storage.execute(query)}

    def states() -> set[str]:
        return asked("select status from runs")

    with code_server():
        words = ["-m", "dagster", "job", "launch", "-w", str(workspace), "-j", "waits"]
        subprocess.run([PYTHON, *words], env=environment, check=True, cwd=tmp_path)
        assert states() == {"QUEUED"}
        daemon = running(
            [PYTHON, *DAEMON_COMMAND, "run", "-w", str(workspace)],
            tmp_path / "daemon.log",
            environment,
        )
    with daemon as process:
        wait_until(lambda: asked(TURN) and "STARTING" not in states(), "the turn has come", 120)
        assert states() == {"QUEUED"}
        with code_server():
            wait_until(lambda: states() == {"SUCCESS"}, "the run has succeeded", 180)
            process.end(signal.SIGINT)
