"""Runs the tbg command as a user does: as a process of its own."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from tests.processes import LIMIT, PYTHON, ROOT, Process

# What would name other servers is taken from our environment.
HIDDEN: Final[dict[str, str | None]] = {
    "DATABASE_URL": None,
    "REDIS_URL": None,
    "TBG_STATE": None,
    "LOG_LEVEL": None,
    "COLUMNS": "200",
}


def environment(**more: str) -> dict[str, str]:
    """Our environment with :data:`HIDDEN` and more."""
    changed = {**os.environ, **HIDDEN, **more}
    return {name: value for name, value in changed.items() if value is not None}


def tbg(*arguments: str, timeout: float = LIMIT, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; ``more`` is put into its environment."""
    return subprocess.run(
        [PYTHON, "-m", "tbg.cli", *arguments],
        env=environment(**more),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Up(Process):
    """A ``tbg up`` that runs in the background."""

    def __init__(self, state: Path, log: Path, arguments: Sequence[str], **more: str) -> None:
        super().__init__(
            [PYTHON, "-m", "tbg.cli", "up", "--state", state, *arguments],
            log,
            {**HIDDEN, **more},
        )
        self.state = state

    @property
    def lines(self) -> list[str]:
        """What it has said."""
        return self.output.splitlines()

    def wait_until_up(self) -> Self:
        return self.wait_for("Ctrl-C stops everything")

    def end(self, number: int = signal.SIGINT) -> int:
        return super().end(number)
