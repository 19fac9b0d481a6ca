"""Runs the programs of a stack under supervisord, and talks to it.

supervisord (a maintained process manager) starts them, keeps their logs, and restarts
what died, after a growing pause. We write its configuration, order what to start
when, and watch over its Unix socket.
"""

import configparser
import contextlib
import http.client
import io
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

from tbg.stack.logs import tail
from tbg.stack.state import State
from tbg.stack.tag import environment, marked
from tbg_core.files import write_private

# Set in the environment of everything that a stack starts: by it, leftovers are found.
MARK: Final = "TBG_STACK"
ANSWER_SECONDS: Final = 20.0
# Attempts with growing pauses (1 s, 2 s, ...) before supervisord gives up a program.
START_RETRIES: Final = 10
# A program that dies within this time is restarted after a pause, a later death at
# once. Long enough for a program that fails while it starts.
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
        user: the system user to run as; None runs it as us.
        stop_signal: asks it to end: INT or TERM.
        stop_seconds: how long it may take to end before it is killed.
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
                [sys.executable, "-m", "tbg.stack.supervisord", "-n", "-c", str(configuration)],
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
        # supervisord expands % itself, so our parser must not.
        file = configparser.ConfigParser(interpolation=None)
        state = self._state
        file["supervisord"] = {
            "logfile": _escape(self.log),
            "logfile_maxbytes": "5MB",
            "logfile_backups": "1",
            "pidfile": _escape(state.runtime / "supervisord.pid"),
            "childlogdir": _escape(state.logs),
        }
        if os.geteuid() == 0:
            file["supervisord"]["user"] = "root"
        file["unix_http_server"] = {"file": _escape(self.socket), "chmod": "0700"}
        file["rpcinterface:supervisor"] = {
            "supervisor.rpcinterface_factory": ("supervisor.rpcinterface:make_main_rpcinterface")
        }
        for position, launch in enumerate(launches):
            file[f"program:{launch.name}"] = {
                "command": _escape(shlex.join(launch.command)),
                "environment": _environment(launch),
                "directory": _escape(state.path),
                # If something other than us ends supervisord, it stops them by this
                # order, last first.
                "priority": str(100 + position),
                "autostart": "false",
                "autorestart": "true",
                "startsecs": str(START_SECONDS),
                "startretries": str(START_RETRIES),
                "stopsignal": launch.stop_signal,
                "stopwaitsecs": str(launch.stop_seconds),
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": _escape(state.log_of(launch.name)),
                "stdout_logfile_maxbytes": "20MB",
                "stdout_logfile_backups": "2",
                **({"user": launch.user} if launch.user else {}),
            }
        text = io.StringIO()
        file.write(text)
        return text.getvalue()

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
        """Returns whether supervisord runs and listens."""
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
        # Each request wakes supervisord, which on its own looks once a second.
        while self.processes()[name].state in ("STOPPING", "STARTING", "RUNNING"):
            time.sleep(0.02)

    def exit_of(self, name: str, pid: int) -> str:
        """Says how a process of a program ended, in supervisord's words.

        The program may have been started and have ended again since.
        """
        text = tail(self.log, 400)
        start = re.search(rf"spawned: '{re.escape(name)}' with pid {pid}$", text, re.MULTILINE)
        # Started before what we read here: its end is the first one there.
        since = start.end() if start else 0
        exits = rf"exited: {re.escape(name)} \((.*?)(?:; (?:not )?expected)?\)"
        found = re.search(exits, text[since:])
        return found[1] if found else "for an unknown reason"

    def shutdown(self) -> None:
        """Ends supervisord and everything that still runs, last started first."""
        with contextlib.suppress(*BROKEN):
            self._rpc().shutdown()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        self.abandon()

    def abandon(self) -> None:
        """Kills what is left of this stack."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        stop_leftovers(self._state)


def stop_leftovers(state: State) -> list[str]:
    """Ends what a dead ``tbg up`` left running, and returns what that was.

    In order through supervisord if that still runs, then by signal.
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
    """Returns the processes that carry this stack's mark, ourselves excepted."""
    return [one for one in marked(MARK, str(state.path)) if one.pid != os.getpid()]


def _describe(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        name = environment(process).get("SUPERVISOR_PROCESS_NAME", process.name())
        return f"{name} ({process.pid})"
    return str(process.pid)


def _escape(text: str | Path) -> str:
    return str(text).replace("%", "%%")


def _environment(launch: Launch) -> str:
    words = []
    for name, value in launch.environment.items():
        # supervisord cannot escape a quote; in a URL, %22 stands for it.
        if '"' in value or "\n" in value:
            raise click.ClickException(f'{name} may not hold a " or a line break (in a URL: %22)')
        words.append(f'{name}="{_escape(value)}"')
    return ",".join(words)
