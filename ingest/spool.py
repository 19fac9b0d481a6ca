"""Keeps batches on disk while Redis is down, and returns them in order.

A folder of segments, each a row of records: length and CRC-32 of the payload
(two little-endian 32-bit numbers), then the payload. A cursor file says how far
the oldest segment was given back, so that a restart goes on from there. Written
through the page cache: it survives the process, not the machine.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final

import msgspec
import structlog

from ingest.entry import Batch

SEGMENT_BYTES: Final = 16 * 2**20
_HEAD: Final = struct.Struct("<II")
_CURSOR: Final = struct.Struct("<QQ")  # number of the segment, offset in it

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.spool")


class SpoolFullError(RuntimeError):
    """The batch would take the spool past its limit, or the disk is full."""


class Spool:
    """A queue of batches on disk.

    Args:
        folder: made if missing.
        max_bytes: most bytes kept.

    Raises:
        OSError: the folder cannot be made or read.

    Attributes:
        max_bytes: may change at any time.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._segments = sorted(int(path.stem) for path in folder.glob("*.spool"))
        self._sizes = {number: self._path(number).stat().st_size for number in self._segments}
        self._cursor_file = os.open(folder / "cursor", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._offset = 0
        self._last_number = self._segments[-1] if self._segments else 0
        stored = os.pread(self._cursor_file, _CURSOR.size, 0)
        if len(stored) == _CURSOR.size:
            number, offset = _CURSOR.unpack(stored)
            # Numbers are never used twice, so a cursor cannot point into a
            # later segment of the same name.
            self._last_number = max(self._last_number, number)
            if self._segments and number == self._segments[0]:
                self._offset = offset
        self._reader: int | None = None
        # Nothing may follow a record that a crash cut short, so new records go into a
        # new segment.
        self._writer: int | None = None
        self._head: tuple[Batch, int] | None = None
        self.corrupt_bytes = 0

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:010d}.spool"

    @property
    def bytes(self) -> int:
        """Bytes that wait."""
        return sum(self._sizes.values()) - self._offset if self._segments else 0

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._segments

    def append(self, batch: Batch) -> None:
        """Adds a batch at the end.

        Raises:
            SpoolFullError: at the limit, or the disk is full; the spool is as it
                was before.
        """
        payload = msgspec.msgpack.encode(batch)
        record = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        if self.bytes + len(record) > self.max_bytes:
            raise SpoolFullError(f"spool is at its limit of {self.max_bytes} bytes")
        if self._writer is None or self._sizes[self._segments[-1]] >= SEGMENT_BYTES:
            self._new_segment()
        assert self._writer is not None
        number = self._segments[-1]
        before = self._sizes[number]
        try:
            written = 0
            while written < len(record):
                written += os.write(self._writer, record[written:])
        except OSError as error:
            os.ftruncate(self._writer, before)
            if before == 0:
                self._drop_last_segment()
            raise SpoolFullError(f"spool cannot write: {error.strerror}") from error
        self._sizes[number] = before + len(record)

    def _new_segment(self) -> None:
        number = self._last_number + 1
        try:
            opened = os.open(
                self._path(number),
                os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC,
                0o600,
            )
        except OSError as error:
            raise SpoolFullError(f"spool cannot make a file: {error.strerror}") from error
        if self._writer is not None:
            os.close(self._writer)
        self._writer = opened
        self._last_number = number
        self._segments.append(number)
        self._sizes[number] = 0

    def _drop_last_segment(self) -> None:
        number = self._segments.pop()
        del self._sizes[number]
        self._path(number).unlink()
        assert self._writer is not None
        os.close(self._writer)
        self._writer = None

    def peek(self) -> Batch | None:
        """The oldest batch, None when the spool is empty.

        A record that is cut short or damaged ends its segment: the rest of it
        is skipped, logged and counted in ``corrupt_bytes``.
        """
        while self._head is None and self._segments:
            number = self._segments[0]
            if self._reader is None:
                self._reader = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
            if self._offset >= self._sizes[number]:
                self._next_segment()
                continue
            head = os.pread(self._reader, _HEAD.size, self._offset)
            if len(head) == _HEAD.size:
                length, crc = _HEAD.unpack(head)
                payload = os.pread(self._reader, length, self._offset + _HEAD.size)
                if len(payload) == length and zlib.crc32(payload) == crc:
                    batch = msgspec.msgpack.decode(payload, type=Batch)
                    self._head = batch, _HEAD.size + length
                    break
            rest = self._sizes[number] - self._offset
            self.corrupt_bytes += rest
            log.error(
                "the spool holds a damaged record: the rest of its segment is lost",
                file=str(self._path(number)),
                offset=self._offset,
                bytes=rest,
            )
            self._next_segment()
        return self._head[0] if self._head else None

    def pop(self) -> None:
        """Removes the batch that ``peek`` gave."""
        assert self._head is not None
        self._offset += self._head[1]
        self._head = None
        number = self._segments[0]
        if self._offset >= self._sizes[number]:
            self._next_segment()
        else:
            self._save_cursor(number)

    def _save_cursor(self, number: int) -> None:
        try:
            os.pwrite(self._cursor_file, _CURSOR.pack(number, self._offset), 0)
        except OSError as error:
            # A full disk must not keep the spool from being emptied. A restart would
            # return these batches again, and the writer would recognise their events.
            log.warning("the spool cannot note how far it was read", error=error.strerror)

    def _next_segment(self) -> None:
        number = self._segments.pop(0)
        del self._sizes[number]
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None
        if not self._segments and self._writer is not None:
            os.close(self._writer)
            self._writer = None
        self._offset = 0
        self._save_cursor(number)
        self._path(number).unlink()

    def close(self) -> None:
        """Closes the files; what waits stays on disk."""
        for opened in (self._reader, self._writer, self._cursor_file):
            if opened is not None:
                os.close(opened)
        self._reader = self._writer = None
