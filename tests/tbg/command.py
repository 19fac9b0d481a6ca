"""Runs the tbg command as a user does: as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tbg.migrate import sql_folder

ROOT = sql_folder().parent
LIMIT = 200.0  # seconds; generous, the machine may be busy


def environment(**more: str) -> dict[str, str]:
    """Our environment without what would name other servers."""
    hidden = ("DATABASE_URL", "REDIS_URL", "TBG_STATE", "LOG_LEVEL")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "COLUMNS": "200", **more}


def tbg(*arguments: str, timeout: float = LIMIT) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tbg.cli", *arguments],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class Up:
    """A ``tbg up`` that runs in the background, its output kept line by line."""

    def __init__(self, state: Path, arguments: Sequence[str], **more: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tbg.cli", "up", "--state", str(state), *arguments],
            env=environment(**more),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str) -> Self:
        """Waits until a line matched the pattern."""
        deadline = time.monotonic() + LIMIT
        while True:
            # Before the lines are looked at: the last one may come with the end.
            alive = self._reader.is_alive()
            if any(re.search(pattern, line) for line in list(self.lines)):
                return self
            assert alive, f"ended without {pattern!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{self.output}"
            time.sleep(0.05)

    def wait_until_up(self) -> Self:
        return self.wait_for("Ctrl-C stops everything")

    def end(self, number: int = signal.SIGINT) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        return code
