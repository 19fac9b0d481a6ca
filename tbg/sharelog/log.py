"""One share log: its lines as they come, and the number of each share."""

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from ingest.calendar import HOUR
from tbg.sharelog.event import instance_of, log_name
from tbg.sharelog.line import MAX_LINE, BadLine, Share, parse
from tbg.sharelog.summary import Summary

CHUNK: Final = 1 << 18  # bytes
_HEAD: Final = 4096  # bytes that tell whether a file is still the one it was
_GZIP: Final = b"\x1f\x8b"

DAMAGED: Final = (EOFError, gzip.BadGzipFile, zlib.error)


class Numbered(NamedTuple):
    """A share and its number."""

    share: Share
    instance: str
    seq: int


class Log:
    """A share log that is read from its beginning, and on as it grows.

    Plain or gzip. The file stays open between two reads, so that one that was renamed is read
    to its end.

    Args:
        path: where it lies now.
        summary: counts every line and what was wrong with it.

    Raises:
        OSError: if it cannot be opened.
    """

    def __init__(self, path: Path, summary: Summary) -> None:
        self.path = path
        self._summary = summary
        self._raw: BinaryIO = path.open("rb", buffering=0)
        status = os.fstat(self._raw.fileno())
        self.inode = status.st_dev, status.st_ino
        packed = self._raw.read(len(_GZIP)) == _GZIP
        self._raw.seek(0)
        self._file: BinaryIO | gzip.GzipFile = (
            gzip.GzipFile(fileobj=self._raw) if packed else self._raw
        )
        self._packed = packed
        self._head = b""
        self._rest = b""  # the line that has no end yet
        self._skipping = False  # the line that has no end yet is too long already
        self._name = ""
        self._numbers: dict[int, int] = {}  # shares by hour

    @property
    def position(self) -> int:
        """Bytes of the file that were read."""
        return self._raw.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        self._raw.close()

    def is_cut(self) -> bool:
        """Whether the open file was truncated, or written over from its beginning."""
        if self._packed:
            return False
        if os.fstat(self._raw.fileno()).st_size < self.position:
            return True
        return os.pread(self._raw.fileno(), len(self._head), 0) != self._head

    def shares(self, *, final: bool) -> Iterator[Numbered]:
        """Yields the shares of the lines that came since the last call.

        Args:
            final: whether a last line without an end counts: nothing will follow it.

        Raises:
            OSError: if the file cannot be read.
        """
        for line in self._lines():
            numbered = self._number(line, whole=True)
            if numbered is not None:
                yield numbered
        if final and self._rest:
            line, self._rest = self._rest, b""
            numbered = self._number(line, whole=False)
            if numbered is not None:
                yield numbered

    def _number(self, line: bytes, *, whole: bool) -> Numbered | None:
        self._summary.lines += 1
        try:
            share = parse(line)
        except BadLine as error:
            cut = not whole and error.reason == "not_json"
            self._summary.skip("cut_short" if cut else error.reason)
            return None
        if share.unknown:
            self._summary.see_unknown(share.unknown)
        if not self._name:
            self._name = log_name(line)
        hour = share.micros - share.micros % HOUR
        number = self._numbers.get(hour, 0) + 1
        self._numbers[hour] = number
        return Numbered(share, instance_of(self._name, hour), number)

    def _lines(self) -> Iterator[bytes]:
        while chunk := self._chunk():
            *lines, rest = (self._rest + chunk).split(b"\n")
            self._rest = b""
            for line in lines:
                if self._skipping:
                    self._skipping = False
                else:
                    yield line
            if self._skipping:
                continue
            if len(rest) > MAX_LINE:
                # Counted now, and skipped up to its end: a line may be as long as the disk.
                self._skipping = True
                yield rest
            else:
                self._rest = rest

    def _chunk(self) -> bytes:
        try:
            chunk = self._file.read(CHUNK)
        except DAMAGED as error:
            self._summary.damage(self.path, str(error))
            return b""
        if len(self._head) < _HEAD:
            self._head += chunk[: _HEAD - len(self._head)]
        return chunk
