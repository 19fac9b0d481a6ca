"""One compose project of the proof: its containers, its database, its Redis."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.compose.engine import Engine, ProofError, run
from tests.processes import ROOT

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """What Docker says of a container."""

    running: bool
    health: str
    restarts: int
    exit_code: int
    started_at: str
    finished_at: str


class Project:
    """A project under a name of its own, so that nobody's stack is touched.

    Args:
        profiles: of the compose file.
        env_file: its settings.
    """

    def __init__(self, engine: Engine, name: str, env_file: Path, profiles: Sequence[str]) -> None:
        self.engine = engine
        self.name = name
        self.command = [
            *engine.compose,
            *("--project-name", name, "--project-directory", str(ROOT)),
            *("--file", str(ROOT / "docker-compose.yml"), "--env-file", str(env_file)),
            *(part for profile in profiles for part in ("--profile", profile)),
        ]

    def compose(self, *arguments: str, timeout: float = 600, check: bool = True) -> str:
        return run([*self.command, *arguments], timeout=timeout, check=check).stdout

    def container(self, service: str) -> str:
        """The container of a service, running or not.

        Raises:
            ProofError: when there is none.
        """
        command = [self.engine.docker, "ps", "-aq"]
        command += ["--filter", f"label=com.docker.compose.project={self.name}"]
        command += ["--filter", f"label=com.docker.compose.service={service}"]
        command += ["--filter", "label=com.docker.compose.oneoff=False"]
        found = run(command).stdout.split()
        if len(found) != 1:
            raise ProofError(f"{service} has {len(found)} containers")
        return found[0]

    def state(self, service: str) -> State:
        shown = run([self.engine.docker, "inspect", self.container(service)]).stdout
        inspected: dict[str, Any] = json.loads(shown)[0]
        state = inspected["State"]
        return State(
            running=state["Running"],
            health=state.get("Health", {}).get("Status", "none"),
            restarts=inspected["RestartCount"],
            exit_code=state["ExitCode"],
            started_at=state["StartedAt"],
            finished_at=state["FinishedAt"],
        )

    def execute(self, service: str, *command: str, check: bool = True) -> str:
        return run(
            [self.engine.docker, "exec", self.container(service), *command], check=check
        ).stdout

    def logs(self, service: str) -> str:
        done = run([self.engine.docker, "logs", self.container(service)])
        return done.stdout + done.stderr

    def query(self, sql: str, database: str = "tbg", **values: str) -> list[list[str]]:
        """Rows of a query, as text; ``:'name'`` in it stands for a value.

        Raises:
            ProofError: also while the server is away.
        """
        command = [self.engine.docker, "exec", "-i", self.container("timescaledb")]
        command += [
            "psql",
            "-XqAt",
            "-F",
            "\t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            database,
        ]
        command += [part for name, value in values.items() for part in ("-v", f"{name}={value}")]
        shown = run(command, stdin=sql).stdout
        return [line.split("\t") for line in shown.splitlines()]

    def number(self, sql: str) -> int:
        return int(self.query(sql)[0][0])

    def redis(self, *command: str) -> str:
        return self.execute("redis", "redis-cli", "--raw", *command).strip()

    def crash(self, service: str) -> None:
        """Kills what runs in a container, as a crash would: the restart policy must act.

        (``docker kill`` would count as being stopped by hand.) PID 1 is docker-init,
        which ends with its child.
        """
        self.execute(service, "sh", "-c", "kill -KILL -1", check=False)


def wait_for(what: str, look: Callable[[], T | None], seconds: float) -> T:
    """Looks until it is there; a failing look counts as not yet.

    Raises:
        ProofError: when it is not there in time, with the last failure.
    """
    deadline = time.monotonic() + seconds
    trouble = "it was not so"
    while True:
        try:
            found = look()
        except ProofError as error:
            trouble = str(error)
        else:
            if found is not None and found is not False:
                return found
        if time.monotonic() > deadline:
            raise ProofError(f"{what}: not within {seconds:.0f} s ({trouble})")
        time.sleep(0.5)
