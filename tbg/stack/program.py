"""A program of a stack: what to run, where it listens, how to see that it is ready."""

import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

import click

from tbg import ROOMS
from tbg.stack.ports import PROBE_SECONDS, Port, why_taken
from tbg.stack.supervisor import Launch


@dataclass(frozen=True)
class Program:
    """One program of a stack.

    Attributes:
        title: what it is, for the table.
        where: how to reach it, without secrets.
        prepare: makes its files before it is started; returns what there is to say of
            it, or None.
        ready: returns whether it does its work; None if running is enough.
        after: runs once it is ready, before the next one starts.
        busy: what a program that is not ready says that it does, and needs time for; None if it
            says nothing.
    """

    launch: Launch
    title: str
    where: str
    ports: tuple[Port, ...] = ()
    prepare: Callable[[], str | None] = lambda: None
    ready: Callable[[], bool] | None = None
    after: Callable[[], None] = lambda: None
    busy: Callable[[], str | None] = lambda: None

    @property
    def name(self) -> str:
        return self.launch.name


def import_path() -> dict[str, str]:
    """Lets our commands find the rooms of a checkout that was not installed, and of a wheel."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    found = dict.fromkeys([str(ROOMS), *filter(None, others)])
    return {"PYTHONPATH": os.pathsep.join(found)}


def answers(url: str) -> bool:
    """Returns whether a GET is answered by 200."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:  # noqa: S310 ours
            return bool(answer.status == 200)
    except OSError:
        return False


def check_ports(programs: list[Program]) -> None:
    """Makes sure that every port is free.

    Raises:
        click.ClickException: naming each port in use, its program and its option.
    """
    taken = []
    for program in programs:
        for port in program.ports:
            why = why_taken(port.host, port.number)
            if why is not None:
                taken.append(
                    f"port {port.number} on {port.host}, for {program.name} "
                    f"({program.title}): {why}; choose another with {port.option}"
                )
    if taken:
        raise click.ClickException(
            "\n".join(taken) + "\n(--free-ports chooses free ones for everything)"
        )
