"""A short text in a file that a killed process leaves whole, also on a full disk.

The file has its full size from the beginning, and two slots that are written in turn. So a
write needs no room that the disk may not have, and one that was cut short leaves the text
before it. Written through the page cache: it survives the process, not the machine.
"""

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Final

import structlog

SLOT_BYTES: Final = 256 * 1024
_HEAD: Final = struct.Struct("<QII")  # turn, length, CRC-32 of both numbers and the text
_NUMBERS: Final = struct.Struct("<QI")

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.notebook")


class Notebook:
    """One text, replaced as a whole.

    Args:
        path: of the file; made if missing. Where it cannot be, the text lives in memory
            alone, until :meth:`reopen` succeeds; a warning says so once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = 0
        self.text = b""
        self._file: int | None = None
        self._warned = False
        self._open()

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            missing = 2 * SLOT_BYTES - os.fstat(self._file).st_size
            if missing > 0:
                # Written and not only reserved: the blocks are there.
                _write(self._file, bytes(missing), 2 * SLOT_BYTES - missing)
            for slot in range(2):
                turn, text = self._read(self._file, slot)
                if turn > self._turn:
                    self._turn, self.text = turn, text
        except OSError as error:
            self._warn(error)
            self.close()

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "counts of lost events do not survive a kill of this process",
                file=str(self._path),
                error=error.strerror or str(error),
            )

    @staticmethod
    def _read(file: int, slot: int) -> tuple[int, bytes]:
        raw = os.pread(file, SLOT_BYTES, slot * SLOT_BYTES)
        if len(raw) < _HEAD.size:
            return 0, b""
        turn, length, crc = _HEAD.unpack_from(raw)
        text = raw[_HEAD.size : _HEAD.size + length]
        return (turn, text) if crc == _crc(turn, text) and len(text) == length else (0, b"")

    def reopen(self) -> bytes:
        """Tries again to make or read a file that could not be.

        Returns:
            What a process before this one left there and is not known yet.
        """
        if self._file is not None:
            return b""
        kept, self.text = self.text, b""
        self._open()
        left, self.text = self.text, kept
        return left

    def write(self, text: bytes) -> bool:
        """Replaces the text; says whether it fitted. One that is too long changes nothing."""
        if len(text) > SLOT_BYTES - _HEAD.size:
            return False
        self.text = text
        if self._file is not None:
            turn = self._turn + 1
            record = _HEAD.pack(turn, len(text), _crc(turn, text)) + text
            try:
                _write(self._file, record, turn % 2 * SLOT_BYTES)
            except OSError as error:
                self._warn(error)
            else:
                # Only now: what comes next goes where nothing whole is.
                self._turn, self._warned = turn, False
        return True

    def close(self) -> None:
        """Closes the file; the text stays in it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _write(file: int, data: bytes, offset: int) -> None:
    if os.pwrite(file, data, offset) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _crc(turn: int, text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(_NUMBERS.pack(turn, len(text))))
