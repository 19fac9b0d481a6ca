"""One share log: its lines as they come, and the number of each share."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from tbg.sharelog.event import instance_of, log_name
from tbg.sharelog.line import MAX_LINE, BadLine, Share, parse
from tbg.sharelog.packed import BYTE_ORDER_MARK, GZIP, DamagedError, foreign, unpacked
from tbg.sharelog.summary import Summary
from tbg.sharelog.torn import TAIL, whole_shares
from tbg_core.periods import HOUR

CHUNK: Final = 1 << 18  # bytes
_HEAD: Final = 4096  # bytes that show whether a file is still the one it was
# How a share on a line that is not one share is numbered: apart, so that the numbers of the
# lines stay what they were.
_TORN: Final = "torn"


class NumberedShare(NamedTuple):
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
        # Opening a pipe waits for its other end.
        self._raw: BinaryIO = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
        status = os.fstat(self._raw.fileno())
        if not stat.S_ISREG(status.st_mode):
            self._raw.close()
            raise DamagedError("a pipe or a device: write it to a file first")
        self.inode = status.st_dev, status.st_ino
        self._packed = self._raw.read(len(GZIP)) == GZIP
        self._raw.seek(0)
        self._unpacked = unpacked(self._raw)
        self._begun = False
        self._head = b""
        self._rest = b""  # the line that has no end yet; its last bytes, if it is too long
        self._too_long = False  # the line that has no end yet
        self.lines = 0
        self.count = 0
        """Shares among the lines."""
        self._name = ""
        self._numbers: dict[int, int] = {}  # shares by hour

    @property
    def position(self) -> int:
        """Bytes of the file that were read."""
        return self._raw.tell()

    @property
    def begins_as_before(self) -> bool:
        """Whether the first line is still there, in a file that was cut."""
        first = self._head.partition(b"\n")[0]
        return bool(first) and os.pread(self._raw.fileno(), len(first), 0) == first

    @property
    def instances(self) -> list[str]:
        """Those of its shares so far, but for shares on torn lines."""
        return [instance_of(self._name, hour) for hour in self._numbers]

    def close(self) -> None:
        """Closes the file."""
        self._raw.close()

    def is_cut(self) -> bool:
        """Whether the open file was truncated, or written over from its beginning."""
        if self._packed:
            return False
        if os.fstat(self._raw.fileno()).st_size < self.position:
            return True
        return os.pread(self._raw.fileno(), len(self._head), 0) != self._head

    def shares(self, *, final: bool) -> Iterator[NumberedShare]:
        """Yields the shares of the lines that came since the last call.

        Args:
            final: whether a last line without an end counts: nothing will follow it.

        Raises:
            OSError: if the file cannot be read.
        """
        for line in self._lines():
            yield from self._numbered(line, whole=True)
        if final and self._rest:
            line, self._rest = self._rest.removesuffix(b"\r"), b""
            yield from self._numbered(line, whole=False)
            self._too_long = False

    def _numbered(self, line: bytes, *, whole: bool) -> Iterator[NumberedShare]:
        self.lines += 1
        self._summary.lines += 1
        try:
            share = parse(line, too_long=self._too_long)
        except BadLine as error:
            cut = not whole and error.reason == "not_json"
            yield from self._torn(line, "cut_short" if cut else error.reason)
            return
        if not self._name:
            self._name = log_name(line)
        hour = self._hour(share)
        number = self._numbers.get(hour, 0) + 1
        self._numbers[hour] = number
        yield NumberedShare(share, instance_of(self._name, hour), number)

    def _torn(self, line: bytes, reason: str) -> Iterator[NumberedShare]:
        """The whole shares of a line that is not one share."""
        pieces = whole_shares(line) if reason in ("not_json", "cut_short", "too_long") else []
        if not pieces:
            self._summary.skip(reason)
            return
        self._summary.lines += len(pieces) - 1  # one each, however they stand
        self._summary.recovered += len(pieces)
        for piece, share in pieces:
            yield NumberedShare(
                share, f"{instance_of(log_name(piece), self._hour(share))}/{_TORN}", 1
            )

    def _hour(self, share: Share) -> int:
        self.count += 1
        if share.unknown:
            self._summary.see_unknown(share.unknown)
        return share.micros - share.micros % HOUR

    def _lines(self) -> Iterator[bytes]:
        while chunk := self._chunk():
            text = self._rest + chunk
            # A carriage return ends a line as well; the newline behind it may be yet to come.
            held = b"\r" if text.endswith(b"\r") else b""
            text = text.removesuffix(held)
            if b"\r" in text:
                text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            *lines, rest = text.split(b"\n")
            self._rest = b""
            for line in lines:
                # By the line alone, however it came in.
                self._too_long = self._too_long or len(line) > MAX_LINE
                yield self._end_of(line) if self._too_long else line
                self._too_long = False
            if self._too_long or len(rest) > MAX_LINE:
                # Only its end is kept: a line may be as long as the disk.
                self._too_long, rest = True, self._end_of(rest)
            self._rest = rest + held

    def _end_of(self, line: bytes) -> bytes:
        """What is kept of a line that is too long; says so if shares may be in the rest of it."""
        if b"{" in line[:-TAIL]:
            self._summary.damage(
                self.path,
                f"a line is longer than {MAX_LINE:,} bytes: of it the last {TAIL:,} were read alone",
            )
        return line[-TAIL:]

    def _chunk(self) -> bytes:
        try:
            chunk = next(self._unpacked, b"") if self._packed else self._raw.read(CHUNK)
        except DamagedError as error:
            self._summary.damage(self.path, str(error))
            return b""
        if not self._packed and len(self._head) < _HEAD:
            self._head += chunk[: _HEAD - len(self._head)]
        if not self._begun and chunk:
            self._begun = True
            if what := foreign(chunk):
                self._packed, self._unpacked = True, iter(())
                raise DamagedError(what)
            chunk = chunk.removeprefix(BYTE_ORDER_MARK)
        return chunk
