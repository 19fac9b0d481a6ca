"""Takes the last entries of a Redis away, as a crash of its machine does, and moves its clock."""

import contextlib
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hiredis
import pytest

from tbg.stack.embedded import EmbeddedValkey
from tbg.stack.privileges import give

_SOURCE = Path(__file__).parent / "wrong_clock" / "clock.c"
_BEGIN = b"*1\r\n$5\r\nMULTI\r\n"
_MOST = 400_000  # bytes of the file that may be lost

Numbers = set[tuple[str, int]]


def cut(valkey: EmbeddedValkey, draw: random.Random) -> Numbers:
    """Cuts the append-only file of a Redis that does not run.

    Returns:
        Instance and number of the events that are gone.
    """
    folder = valkey.folder / "appendonlydir"
    path = max(folder.glob("*.incr.aof"), key=lambda found: int(found.name.split(".")[-3]))
    data = path.read_bytes()
    at = data.find(_BEGIN, max(0, len(data) - draw.randrange(1, _MOST)))
    if at < 0:
        return set()
    with path.open("r+b") as file:
        # Within a transaction, which is then not done: Redis leaves out what is not whole.
        file.truncate(at + draw.choice([0, 0, len(_BEGIN)]))
    reader = hiredis.Reader()
    reader.feed(data[at:])
    lost: Numbers = set()
    while (words := reader.gets()) is not False:
        if words[0].upper() == b"XADD":
            fields = dict(zip(words[3::2], words[4::2], strict=True))
            if fields.get(b"seq"):
                lost.add((fields[b"instance"].decode(), int(fields[b"seq"])))
    return lost


class Clock:
    """The clock of a Redis that starts within :meth:`given`.

    Args:
        folder: for the library and the offset; the server's user must reach it.
    """

    def __init__(self, folder: Path, user: str | None) -> None:
        self._library = folder / "clock.so"
        self._offset = folder / "redis-clock"
        self._offset.write_bytes(bytes(8))
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(_SOURCE)], check=True
        )
        for path in (self._library, self._offset):
            path.chmod(0o755)
            give(path, user)

    @staticmethod
    def possible() -> bool:
        """Whether this machine can make one."""
        return shutil.which("cc") is not None and os.uname().sysname == "Linux"

    def set(self, seconds: float) -> None:
        """Makes it wrong by so much, from now on."""
        with self._offset.open("r+b") as file:
            file.write(struct.pack("@q", int(seconds * 1e6)))

    @contextlib.contextmanager
    def given(self) -> Iterator[None]:
        """What starts in the block has this clock."""
        with pytest.MonkeyPatch.context() as changed:  # tests.moment may have set LD_PRELOAD
            changed.setenv("LD_PRELOAD", str(self._library))
            changed.setenv("TBG_TEST_CLOCK", str(self._offset))
            yield
