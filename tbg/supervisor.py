"""Runs the programs of a stack under supervisord, and talks to it.

supervisord (a maintained process manager) starts them, keeps their logs, and starts
again whatever died, after a pause that grows. We write its configuration, tell it
what to start when, and watch over its Unix socket.
"""

import contextlib
import http.client
import os
import re
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import psutil

from tbg.embedded import tail
from tbg.state import State, write_private

# Set in the environment of everything that a stack starts: by it, leftovers are found.
MARK: Final = "TBG_STACK"
ANSWER_SECONDS: Final = 20.0
# Tries with growing pauses (1 s, 2 s, ...) before supervisord gives a program up.
START_RETRIES: Final = 10
# Who dies within this time is started again after a pause; who lived longer, at once.
# Long enough for a program that fails while it starts.
START_SECONDS: Final = 10

# What a broken conversation with supervisord can raise.
BROKEN: Final = (OSError, http.client.HTTPException, xmlrpc.client.Error)


@dataclass(frozen=True)
class Process:
    """One program as supervisord sees it now."""

    name: str
    state: str
    pid: int
    uptime: float  # seconds

    @property
    def running(self) -> bool:
        return self.state in ("STARTING", "RUNNING")


@dataclass(frozen=True)
class Launch:
    """How to run one program.

    Attributes:
        command: the program and its arguments; no secrets, others can see it.
        environment: on top of ours; may hold secrets.
        user: to run as, where that is not us.
        stop_signal: asks it to end, as INT or TERM.
        stop_seconds: what it may take to end before it is killed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 15


class Supervisor:
    """supervisord over one state folder."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = state.runtime / "supervisor.sock"
        self.log = state.logs / "supervisord.log"

    def start(self, launches: Sequence[Launch]) -> None:
        """Runs supervisord with nothing started yet.

        Raises:
            click.ClickException: when it does not answer.
        """
        configuration = self._state.path / "supervisord.conf"
        write_private(configuration, self._configure(launches))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 our own words
                [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self._state.path,
                env={**os.environ, MARK: str(self._state.path)},
                # Ctrl-C in the terminal is for us; we then stop the programs in order.
                start_new_session=True,
            )
        deadline = time.monotonic() + ANSWER_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.abandon()
                raise click.ClickException(f"supervisord did not start:\n{tail(self.log)}")
            time.sleep(0.05)

    def _configure(self, launches: Sequence[Launch]) -> str:
        lines = [
            "[supervisord]",
            f"logfile={_escape(str(self.log))}",
            "logfile_maxbytes=5MB",
            "logfile_backups=1",
            f"pidfile={_escape(str(self._state.runtime / 'supervisord.pid'))}",
            f"childlogdir={_escape(str(self._state.logs))}",
            *(["user=root"] if os.geteuid() == 0 else []),
            "[unix_http_server]",
            f"file={_escape(str(self.socket))}",
            "chmod=0700",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for position, launch in enumerate(launches):
            environment = ",".join(
                f'{name}="{_escape(_quotable(name, value))}"'
                for name, value in launch.environment.items()
            )
            lines += [
                f"[program:{launch.name}]",
                f"command={_escape(shlex.join(launch.command))}",
                f"environment={environment}",
                f"directory={_escape(str(self._state.path))}",
                *([f"user={launch.user}"] if launch.user else []),
                # By the same order supervisord stops them, last first, when it is
                # told to end by somebody else than us.
                f"priority={100 + position}",
                "autostart=false",
                "autorestart=true",
                f"startsecs={START_SECONDS}",
                f"startretries={START_RETRIES}",
                f"stopsignal={launch.stop_signal}",
                f"stopwaitsecs={launch.stop_seconds}",
                "killasgroup=true",
                "redirect_stderr=true",
                f"stdout_logfile={_escape(str(self._state.logs / launch.name))}.log",
                "stdout_logfile_maxbytes=20MB",
                "stdout_logfile_backups=2",
            ]
        return "\n".join(lines) + "\n"

    def _rpc(self) -> Any:
        # Imported here: commands that need no stack work without the extra.
        try:
            from supervisor.xmlrpc import SupervisorTransport
        except ModuleNotFoundError as error:
            raise click.ClickException(
                "supervisor is not installed: pip install 'tbg-mining-data[embedded]'"
            ) from error
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def answers(self) -> bool:
        """Tells whether supervisord runs and listens."""
        try:
            return bool(self._rpc().getState()["statename"] == "RUNNING")
        except BROKEN:
            return False

    def processes(self) -> dict[str, Process]:
        """Returns every program by its name.

        Raises:
            one of BROKEN: when supervisord does not answer.
        """
        found = {}
        for info in self._rpc().getAllProcessInfo():
            uptime = max(0, info["now"] - info["start"]) if info["pid"] else 0
            found[info["name"]] = Process(info["name"], info["statename"], info["pid"], uptime)
        return found

    def start_program(self, name: str) -> None:
        """Starts one program and returns at once."""
        self._rpc().startProcess(name, False)

    def stop_program(self, name: str) -> None:
        """Stops one program and waits until it has ended."""
        with contextlib.suppress(xmlrpc.client.Fault):  # it was not running
            self._rpc().stopProcess(name, False)
        # Each question wakes supervisord up, which by itself looks once a second.
        while self.processes()[name].state in ("STOPPING", "STARTING", "RUNNING"):
            time.sleep(0.02)

    def last_exit(self, name: str) -> str:
        """Says how a program ended the last time, in supervisord's words."""
        found = re.findall(
            rf"exited: {re.escape(name)} \((.*?)(?:; (?:not )?expected)?\)", self._log()
        )
        return found[-1] if found else "for an unknown reason"

    def _log(self) -> str:
        return tail(self.log, 400)

    def shutdown(self) -> None:
        """Ends supervisord, and with it whatever still runs, last started first."""
        with contextlib.suppress(*BROKEN):
            self._rpc().shutdown()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        self.abandon()

    def abandon(self) -> None:
        """Kills whatever is left of this stack."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        stop_leftovers(self._state)


def stop_leftovers(state: State) -> list[str]:
    """Ends what a stack left running whose ``tbg up`` is gone, and says what it was.

    First by supervisord, if that still runs, in order; then by signal.
    """
    supervisor = Supervisor(state)
    left = leftovers(state)
    names = [_describe(process) for process in left]
    if left and supervisor.answers():
        with contextlib.suppress(*BROKEN):
            for name in reversed(list(supervisor.processes())):
                supervisor.stop_program(name)
            supervisor._rpc().shutdown()
        psutil.wait_procs(left, timeout=30)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        left = leftovers(state)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        if left:
            psutil.wait_procs(left, timeout=10)
    return names


def leftovers(state: State) -> list[psutil.Process]:
    """Returns the processes that carry this stack's mark in their environment."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        # Processes of others, and those that end while we look, are not ours.
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == str(state.path):
                found.append(process)
    return found


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        name = process.environ().get("SUPERVISOR_PROCESS_NAME", process.name())
        return f"{name} ({process.pid})"
    return str(process.pid)


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def _quotable(name: str, value: str) -> str:
    # supervisord has no way to escape a quote; a URL can spell it %22.
    if '"' in value or "\n" in value:
        raise click.ClickException(f'{name} may not hold a " or a line break (in a URL: %22)')
    return value


def log_of(state: State, name: str) -> Path:
    """The log of one program."""
    return state.logs / f"{name}.log"
