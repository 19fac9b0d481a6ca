"""Keeps batches on disk while Redis is down, and returns them in order.

A folder of segments (:mod:`ingest.receiver.segment`). A cursor file says how far the oldest one was
given back, so that a restart goes on from there. Written through the page cache: it survives
the process, not the machine.

Nothing that happens to the disk ends the receiver. What cannot be written is refused, for the
caller to count; what cannot be read any more is set aside in the folder ``damaged`` and
counted in :meth:`Spool.take_losses`, and the rest comes back. Files stay open, so that a
folder that is removed by hand costs nothing that was in it.
"""

import contextlib
import errno
import os
import re
import stat
import struct
import zlib
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from ingest.lock import DISK_TROUBLE, InUseError, Lock
from ingest.receiver import segment
from tbg_core.entry import Batch

SEGMENT_BYTES: Final = 16 * 2**20
MOST_OPEN: Final = 200  # files; older ones are opened when their turn comes
DAMAGED_BYTES: Final = 64 * 2**20  # kept of what could not be read
_NAME: Final = re.compile(r"[0-9]{1,18}\.spool")
# Number of the segment, offset in it, and events up to there by their own count, or -1.
_CURSOR: Final = struct.Struct("<QQq")
_READ: Final = 2**64 - 1  # the offset of a segment that was read to its end
_OLD_CURSOR: Final = struct.Struct("<QQ")  # before version 2
_CRC: Final = struct.Struct("<I")

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.receiver.spool")


Record = bytes


class SpoolInUseError(InUseError):
    """Another receiver has this folder."""


class SpoolFullError(RuntimeError):
    """The spool does not take the batch.

    Attributes:
        reason: ``full``, the limit or the disk; or ``unwritable``.
    """

    def __init__(self, message: str, reason: str = "full") -> None:
        super().__init__(message)
        self.reason = reason


class Loss(NamedTuple):
    """Events that were in the spool and cannot be read.

    Attributes:
        events: how many; where nothing says so, one.
        numbers: those of them that are known, by engine boot, as half-open ranges.
    """

    reason: str
    events: int
    numbers: segment.ByInstance


class Spool:
    """A queue of batches on disk.

    Args:
        folder: made if missing.
        max_bytes: most bytes kept.

    Raises:
        SpoolInUseError: another receiver has it.
        OSError: the folder cannot be made or read, other than for a disk that is full,
            read-only or broken: then it holds nothing until the disk is better.

    Attributes:
        max_bytes: may change at any time.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._lock: Lock | None = None
        self._sizes: dict[int, int] = {}  # by the number of a segment, in order
        self._events: dict[int, int] = {}  # that this process appended, and still there
        self._files: dict[int, int] = {}
        self._writer: int | None = None  # number of the segment that is written
        self._appended = 0
        self._offset = 0
        self._before: int | None = None  # events up to the offset, by their own count
        self._head: segment.Found | None = None
        self._losses: list[Loss] = []
        try:
            self._claim()
            self._find()
        except OSError as error:
            if error.errno not in DISK_TROUBLE:
                raise
            log.error("no spool until the disk is better", folder=str(folder), error=str(error))
        number, offset = self._load_cursor()
        # Numbers are never used twice, so a cursor cannot point into a later segment of
        # the same name.
        self._last_number = max(number, *self._sizes, 0)
        if next(iter(self._sizes), None) == number:
            self._offset = min(offset, self._sizes[number])
        elif offset not in (_READ, 0):  # versions before this one noted 0 at the end
            self._before = None  # the cursor is older than what was read last

    def _claim(self) -> None:
        """Makes the folder if it is missing, and holds it against other receivers."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            if self._lock is None:
                self._lock = Lock(self.folder / "lock")
            else:
                self._lock.renew()
        except InUseError:
            raise SpoolInUseError(
                f"another receiver keeps its events in {self.folder}: give each receiver its own"
                " folder with SPOOL_DIR"
            ) from None

    def _find(self) -> None:
        found: dict[int, int] = {}
        for path in self.folder.iterdir():
            if path.suffix != ".spool":
                continue
            info = path.lstat()
            if _NAME.fullmatch(path.name) and stat.S_ISREG(info.st_mode):
                if info.st_size:
                    found[int(path.stem)] = info.st_size
                else:  # it was read, and could not be removed
                    with contextlib.suppress(OSError):
                        path.unlink()
            else:
                log.warning("no spool file, left alone", path=str(path))
        self._sizes = dict(sorted(found.items()))
        for number in list(self._sizes)[:MOST_OPEN]:
            with contextlib.suppress(OSError):
                self._files[number] = os.open(self._path(number), os.O_RDWR | os.O_CLOEXEC)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:010d}.spool"

    @property
    def bytes(self) -> int:
        """Bytes that wait."""
        return max(0, sum(self._sizes.values()) - self._offset)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._sizes

    def append(self, batch: Batch) -> None:
        """Adds a batch at the end.

        Raises:
            SpoolFullError: at the limit, or the disk takes nothing; the spool is as it
                was before.
        """
        if self.empty:
            self._before = self._appended
        record = segment.record(batch, self._appended)
        if self.bytes + len(record) > self.max_bytes:
            raise SpoolFullError(f"spool is at its limit of {self.max_bytes} bytes")
        try:
            number = self._writable()
            self._write(number, record)
        except SpoolInUseError as error:
            raise SpoolFullError(str(error), "unwritable") from None
        except OSError as error:
            reason = "full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unwritable"
            raise SpoolFullError(f"spool cannot write: {error.strerror}", reason) from error
        self._sizes[number] += len(record)
        self._events[number] += batch.events
        self._appended += batch.events

    def _writable(self) -> int:
        """The number of the segment to write to, perhaps a new one.

        Nothing may follow a record that a crash cut short, nor go where a restart would not
        find it.
        """
        number = self._writer
        if (
            number is None
            or self._sizes[number] >= SEGMENT_BYTES
            or not os.fstat(self._files[number]).st_nlink
        ):
            self._claim()
            number = self._new_file()
            self._sizes[number] = self._events[number] = 0
            self._writer = number
            if len(self._files) > MOST_OPEN:
                self._close_one(next(one for one in reversed(self._files) if one != number))
        return number

    def _new_file(self) -> int:
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        while True:
            self._last_number += 1
            with contextlib.suppress(FileExistsError):  # something of that name, not ours
                self._files[self._last_number] = os.open(
                    self._path(self._last_number), flags, 0o600
                )
                return self._last_number

    def _write(self, number: int, record: Record) -> None:
        before = self._sizes[number]
        file = self._files[number]
        try:
            written = 0
            while written < len(record):
                written += os.write(file, record[written:])
        except OSError:
            try:
                os.ftruncate(file, before)
            except OSError:
                self._writer = None  # half a record is there: it is the file's last
            if before == 0:
                self._remove(number)
            raise

    def peek(self) -> Batch | None:
        """The oldest batch, None when the spool is empty.

        What cannot be read on the way to it is skipped, set aside and counted.
        """
        while self._head is None and self._sizes:
            number, size = next(iter(self._sizes.items()))
            if self._offset >= size:
                self._end(number)
                continue
            try:
                file = self._open(number)
            except OSError as error:
                events = max(self._events.get(number, 0), 1)
                self._lose(number, size - self._offset, "gone", events, {}, error)
                self._before = None if self._before is None else self._before + events
                self._end(number)
                continue
            found = segment.read(file, self._offset, size, self._before)
            if found.after is not None and self._before is not None:
                # The end of the file before this one was damaged.
                more = found.after - found.events - self._before
                if more > 0 and self._offset == 0:
                    self._lose(number, 0, "damaged", more, {})
            if found.batch is not None:
                self._head = found
                break
            self._set_aside(file, number, found.length)
            self._lose(number, found.length, found.reason, found.events, found.numbers or {})
            self._pass(number, found)
        return self._head.batch if self._head else None

    def pop(self) -> None:
        """Removes the batch that ``peek`` gave."""
        assert self._head is not None
        found, self._head = self._head, None
        self._pass(next(iter(self._sizes)), found)

    def take_losses(self) -> list[Loss]:
        """What was found to be lost since this was asked last."""
        losses, self._losses = self._losses, []
        return losses

    def _pass(self, number: int, found: segment.Found) -> None:
        self._offset += found.length
        self._before = found.after
        if number in self._events:
            self._events[number] -= found.events
        if self._offset >= self._sizes[number]:
            self._end(number)
        else:
            self._save_cursor(number, self._offset)

    def _lose(
        self,
        number: int,
        length: int,
        reason: str,
        events: int,
        numbers: segment.ByInstance,
        error: OSError | None = None,
    ) -> None:
        self._losses.append(Loss(reason, events, numbers))
        log.error(
            "events lost: the spool cannot read them",
            stage="spool",
            reason=reason,
            events=events,
            file=str(self._path(number)),
            offset=self._offset,
            bytes=length,
            error=error.strerror if error else None,
        )

    def _set_aside(self, file: int, number: int, length: int) -> None:
        """Keeps the bytes for people, up to a limit."""
        aside = self.folder / "damaged"
        try:
            aside.mkdir(exist_ok=True, mode=0o700)
            kept = sum(path.stat().st_size for path in aside.iterdir())
            if kept + length > DAMAGED_BYTES:
                raise OSError(errno.EFBIG, f"{aside} holds {kept} bytes already")  # noqa: TRY301  one way to say so
            data = segment.pread(file, length, self._offset)
            (aside / f"{number:010d}-{self._offset}").write_bytes(data)
        except OSError as error:
            log.warning("cannot set the damaged bytes aside", error=error.strerror)

    def _open(self, number: int) -> int:
        if number not in self._files:
            self._files[number] = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        return self._files[number]

    def _close_one(self, number: int) -> None:
        if (file := self._files.pop(number, None)) is not None:
            os.close(file)

    def _load_cursor(self) -> tuple[int, int]:
        try:
            stored = (self.folder / "cursor").read_bytes()
        except OSError:
            return 0, 0
        if len(stored) == _OLD_CURSOR.size:
            number, offset = _OLD_CURSOR.unpack(stored)
            return number, offset
        data = stored[: _CURSOR.size]
        if len(data) == _CURSOR.size and stored[_CURSOR.size :] == _CRC.pack(zlib.crc32(data)):
            number, offset, before = _CURSOR.unpack(data)
            self._before = before if before >= 0 else None
            return number, offset
        log.warning("the spool does not know how far it was read: it begins again")
        return 0, 0

    def _save_cursor(self, number: int, offset: int) -> None:
        before = -1 if self._before is None else self._before
        cursor = _CURSOR.pack(number, offset, before)
        try:
            file = os.open(self.folder / "cursor", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(file, cursor + _CRC.pack(zlib.crc32(cursor)), 0)
            finally:
                os.close(file)
        except OSError as error:
            # A full disk must not keep the spool from being emptied. A restart would
            # return these batches again, and the writer would recognise their events.
            log.warning("the spool cannot note how far it was read", error=error.strerror)

    def _end(self, number: int) -> None:
        self._offset = 0
        self._save_cursor(number, _READ)
        self._remove(number)

    def _remove(self, number: int) -> None:
        del self._sizes[number]
        self._events.pop(number, None)
        if self._writer == number:
            self._writer = None
        with contextlib.suppress(KeyError, OSError):
            # A file that cannot be removed gives nothing back a second time.
            os.ftruncate(self._files[number], 0)
        self._close_one(number)
        try:
            self._path(number).unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove a spool file that was read", error=str(error))

    def close(self) -> None:
        """Closes the files; what waits stays on disk."""
        for number in list(self._files):
            self._close_one(number)
        self._writer = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
