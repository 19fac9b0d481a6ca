"""What an engine leaves behind: a page beside the socket, which says how far it has numbered.

The engine writes numbers into a mapped page, so that they outlive a ``kill -9`` and cost it
no system call. It holds a lock on the file for its life. A process that gets the lock knows that
the engine is gone, also from another container, and reports the boot: the receiver of the socket
does, and the next boot of the same engine. Each boot has a file of its own, so that two
engines of one name cannot spoil each other's.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import stat
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import msgspec
import structlog

from tbg_core.events import EARLIEST, MAX_AHEAD, MAX_INSTANCE, SEQ_MAX, STATUS, EngineState

SUFFIX: Final = ".boot"
MOST_PAGES: Final = 1000  # looked at in one go
HEARTBEAT: Final = 10.0  # seconds between two statements of an engine that runs

_SIZE: Final = 4096
_MAGIC: Final = int.from_bytes(b"tbgboot1", sys.byteorder)
# Words of 64 bits in this machine's byte order; the text comes after them.
_LAST_SEQ, _SENT, _MICROS, _CLOSED, _START = range(5)
_WORDS: Final = 8
_TEXT: Final = _WORDS * 8

_BROKEN: Final[set[Path]] = set()  # pages of which it was said that they cannot be read

log: structlog.stdlib.BoundLogger = structlog.get_logger("boots")


STATES: Final[tuple[EngineState, ...]] = ("running", "crashed", "ended")
"""What an engine may say of a boot, the surest last."""
assert set(STATES) == set(get_args(EngineState))


class Status(msgspec.Struct, frozen=True, array_like=True):
    """What vouches for the numbers of an engine boot: see ``engine_status`` in the contract.

    ``micros`` is when the boot gave its last number, or when it said this.
    """

    instance: str
    source: str
    micros: int
    last_seq: int
    unsent: int | None
    state: EngineState

    @property
    def weight(self) -> tuple[int, int]:
        """The heavier of two statements counts."""
        return self.last_seq, STATES.index(self.state)


class _Text(msgspec.Struct):
    """Who writes a page, and in which life of the machine."""

    instance: str
    source: str
    machine: str


def machine_boot() -> str:
    """Names this life of the machine, '' where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class Page:
    """An engine boot's own statement.

    Until :meth:`open` succeeds, and after :meth:`close`, its numbers live in memory alone.

    Args:
        instance: of the boot.
        source: of its events.
    """

    def __init__(self, instance: str, source: str) -> None:
        self.instance = instance
        self.source = source
        self._words = memoryview(array("Q", [0] * _WORDS))
        self._file: int | None = None
        self._warned = False

    def note(self, last_seq: int, micros: int) -> None:
        """A number was given to an event of this time."""
        self._words[_LAST_SEQ] = last_seq
        self._words[_MICROS] = max(micros, 0)

    def sent(self, count: int) -> None:
        """So many numbers were handed to the socket."""
        self._words[_SENT] = count

    @property
    def is_open(self) -> bool:
        """Whether its numbers would outlive the process."""
        return self._file is not None

    def open(self, *sockets: Path) -> None:
        """Makes the file, beside the first of these paths where that is possible."""
        for path in sockets:
            try:
                self._open(path)
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                return
        if not self._warned:
            self._warned = True
            log.warning(
                "what this engine has numbered does not survive a kill of it: the folder of the "
                "socket takes no file",
                folder=str(sockets[0].parent),
                error=reason,
            )

    def _open(self, socket: Path) -> None:
        # Under another name until it is whole and locked.
        opened, fresh = tempfile.mkstemp(prefix=f"{socket.name}.", suffix=".new", dir=socket.parent)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX)
            os.fchmod(opened, 0o644)  # the receiver is another user
            text = msgspec.json.encode(_Text(self.instance, self.source, machine_boot()))
            page = bytearray(_SIZE)
            page[:_TEXT] = self._words.cast("B")
            page[_TEXT : _TEXT + len(text)] = text
            page[_START * 8 : _START * 8 + 8] = _MAGIC.to_bytes(8, sys.byteorder)
            # Written and not only reserved: a store into a page that the disk has no room
            # for would kill the process.
            _fill(opened, page)
            mapped = mmap.mmap(opened, _SIZE)
            os.rename(fresh, f"{fresh.removesuffix('.new')}{SUFFIX}")
        except BaseException:
            os.close(opened)
            os.unlink(fresh)
            raise
        self._mapped = mapped
        self._words = memoryview(mapped)[:_TEXT].cast("Q")
        self._file = opened

    def status(self) -> Status:
        """What the boot says while it runs."""
        return _status(self._words, self.instance, self.source, "running")

    def ended(self) -> Status:
        """What it says last of all."""
        return _status(self._words, self.instance, self.source, "ended")

    def close(self) -> None:
        """The boot is over, and its numbers are final: the receiver may vouch for it."""
        if self._file is None:
            return
        self._words[_CLOSED] = 1
        with contextlib.suppress(OSError):
            self._mapped.flush()  # for a machine that crashes later
        # The mapping stays, which has the file open too: a number that is given yet is noted.
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)
        self._file = None


def _fill(opened: int, page: bytearray) -> None:
    if os.write(opened, page) < len(page):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def name_of(instance: str) -> str:
    """The engine's name: what comes before the boot."""
    return instance.rpartition("/")[0]


def left_behind(*sockets: Path) -> Iterator[tuple[Path, Status]]:
    """The pages beside these sockets whose process is gone, and what they say.

    A page that cannot be read says nothing, and is left out; that is logged once.
    """
    machine = machine_boot()
    for socket in dict.fromkeys(sockets):
        try:
            with os.scandir(socket.parent) as found:
                names = [
                    entry.name
                    for entry in found
                    if entry.name.startswith(f"{socket.name}.") and entry.name.endswith(SUFFIX)
                ]
        except OSError:
            continue  # no folder, no engine
        for name in sorted(names)[:MOST_PAGES]:
            path = socket.parent / name
            try:
                status = _read(path, machine)
            except OSError:
                continue  # another process removed it, or another machine keeps it
            except ValueError as error:
                if path not in _BROKEN:
                    _BROKEN.add(path)
                    log.warning(
                        "the page of an engine cannot be read: the end of its boot may stay unknown;"
                        " remove the file",
                        file=str(path),
                        error=str(error),
                    )
                continue
            if status is not None:
                yield path, status


def _read(path: Path, machine: str) -> Status | None:
    """What a page says; None while its process lives.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is no page.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        try:
            # Shared, so that two readers do not take each other for the engine.
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        raw = os.pread(opened, _SIZE, 0)
    finally:
        os.close(opened)
    if len(raw) < _SIZE:
        raise ValueError("too short for a page")
    words = memoryview(raw)[:_TEXT].cast("Q")
    if words[_START] != _MAGIC:
        raise ValueError("not a page")
    text = msgspec.json.decode(raw[_TEXT:].rstrip(b"\0"), type=_Text)
    if not 0 < len(text.instance) <= MAX_INSTANCE or not 0 < len(text.source) <= 16:
        raise ValueError("the names are out of bounds")
    if words[_LAST_SEQ] > SEQ_MAX or "\0" in text.instance + text.source:
        raise ValueError("the numbers are out of bounds")
    # The kernel has every store of a process that only died. A machine that crashed may have
    # lost some.
    whole = words[_CLOSED] == 1 or (machine != "" and text.machine == machine)
    return _status(words, text.instance, text.source, "ended" if whole else "crashed")


def _status(words: memoryview, instance: str, source: str, state: str) -> Status:
    # A clock that was never set must not cost what is said with it.
    now = max(time.time_ns() // 1000, EARLIEST)
    last_seq, micros = words[_LAST_SEQ], words[_MICROS]
    return msgspec.convert(
        (
            instance,
            source,
            micros if EARLIEST <= micros <= now + MAX_AHEAD and state != "running" else now,
            last_seq,
            max(0, last_seq - words[_SENT]),
            state,
        ),
        Status,
    )


def datagram(status: Status) -> bytes:
    """The ``engine_status`` of the contract."""
    return msgspec.json.encode(
        {
            "event": STATUS,
            "timestamp": status.micros,
            "source": status.source,
            "instance": status.instance,
            "data": {
                "last_seq": status.last_seq,
                "unsent": status.unsent,
                "state": status.state,
            },
        }
    )
