"""A program of a stack: what to run, where it listens, how to tell that it is ready."""

import os
import socket
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import click

from tbg.embedded import free_port
from tbg.supervisor import Launch

PROBE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Ports:
    """TCP ports of a stack; the option of each is its name with dashes."""

    stratum_port: int = 3333
    rpc_port: int = 18443
    postgres_port: int = 15432
    valkey_port: int = 16379
    receiver_metrics_port: int = 9101
    writer_metrics_port: int = 9102
    dagster_port: int = 3000

    @classmethod
    def free(cls) -> "Ports":
        """Returns ports that nobody uses at this moment."""
        found: set[int] = set()
        while len(found) < len(fields(cls)):
            found.add(free_port())
        return cls(*found)


@dataclass(frozen=True)
class Port:
    """A port that a program will listen on, and the option that changes it."""

    host: str
    number: int
    option: str


@dataclass(frozen=True)
class Program:
    """One program of a stack.

    Attributes:
        title: what it is, for the table.
        where: how to reach it, without secrets.
        prepare: makes its files; runs before it is started.
        ready: tells whether it does its work; None where that is running at all.
        after: runs once it is ready, before the next one starts.
    """

    launch: Launch
    title: str
    where: str
    ports: tuple[Port, ...] = ()
    prepare: Callable[[], None] = lambda: None
    ready: Callable[[], bool] | None = None
    after: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        return self.launch.name


def import_path() -> dict[str, str]:
    """Lets our commands find the packages of a checkout that was not installed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "pyproject.toml").exists():
        return {}
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{root}{os.pathsep}{others}" if others else str(root)}


def answers(url: str) -> bool:
    """Tells whether a GET is answered by 200."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:  # noqa: S310 ours
            return bool(answer.status == 200)
    except OSError:
        return False


def listens(host: str, port: int) -> bool:
    """Tells whether somebody accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False


def check_ports(programs: list[Program]) -> None:
    """Makes sure that every port can be had.

    Raises:
        click.ClickException: naming each port in use, its program and its option.
    """
    taken = []
    for program in programs:
        for port in program.ports:
            family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
            with socket.socket(family) as probe:
                # As servers do: a connection that lately ended does not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((port.host, port.number))
                except OSError as error:
                    taken.append(
                        f"port {port.number} on {port.host}, for {program.name} "
                        f"({program.title}): {error.strerror}; choose another with {port.option}"
                    )
    if taken:
        raise click.ClickException(
            "\n".join(taken) + "\n(--free-ports chooses free ones for everything)"
        )


def without_password(url: str) -> str:
    """Returns a URL that may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = parts.username or ""
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:***@{place}"))
