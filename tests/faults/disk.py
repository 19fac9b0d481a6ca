"""Small disks that fill up, and spool files that are damaged."""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.receiver import segment
from tests.faults.redis_tail import Numbers
from tests.processes import LIMIT

BALLAST = "ballast"
LARGEST = 256 * 2**20  # bytes of a disk that may be filled
_BLOCK = 4096  # bytes


def possible() -> bool:
    """Whether this process may make a small disk."""
    return os.geteuid() == 0


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own on a folder."""
    if not possible():
        pytest.skip("only root may mount a small file system")
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        check=True,
        timeout=LIMIT,
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=LIMIT)


def fill(folder: Path) -> None:
    """Writes until the file system has no room; a small one, and never the machine's own."""
    assert shutil.disk_usage(folder).total <= LARGEST, f"{folder} is on no small disk"
    opened = os.open(folder / BALLAST, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        while True:
            os.write(opened, b"\0" * _BLOCK)
    except OSError:
        pass
    finally:
        os.close(opened)


def damage(path: Path, draw: random.Random, *, end: bool) -> Numbers:
    """Changes bytes of a spool file, anywhere in it.

    Args:
        path: of the file, which may be gone.
        draw: decides what and where.
        end: the file may also lose its end, or have zeros there, as after a power cut.

    Returns:
        Instance and number of what the damaged records held: no more may be lost.
    """
    try:
        opened = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return set()
    try:
        size = os.fstat(opened).st_size
        if not size:
            return set()
        how = draw.choice(
            ["bytes", "bytes", "block", "cut", "zeros"] if end else ["bytes", "block"]
        )
        if how == "bytes":
            places = [(at, at + 1) for at in draw.choices(range(size), k=draw.randrange(1, 4))]
        elif how == "block":
            at = draw.randrange(size)
            places = [(at, min(at + _BLOCK, size))]
        else:
            places = [(size - min(size, draw.randrange(1, 3 * _BLOCK)), size)]
        lost = _numbers(opened, size, places)
        for start, stop in places:
            old = os.pread(opened, stop - start, start)
            os.pwrite(
                opened, bytes(len(old)) if how == "zeros" else bytes(b ^ 1 for b in old), start
            )
        if how == "cut":
            os.ftruncate(opened, places[0][0])
    finally:
        os.close(opened)
    return lost


def _numbers(opened: int, size: int, places: list[tuple[int, int]]) -> Numbers:
    lost: Numbers = set()
    at = 0
    while at < size:
        found = segment.read(opened, at, size, None)
        hit = any(start < at + found.length and at < stop for start, stop in places)
        if hit and found.batch is not None:
            for _, instance, seq, _ in found.batch.numbers():
                if instance and seq:
                    lost.add((instance.decode(), int(seq)))
        at += found.length
    return lost
