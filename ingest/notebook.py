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
            alone, and a warning says so once.
    """

    def __init__(self, path: Path) -> None:
        self._turn = 0
        self.text = b""
        self._file: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            self._grow(self._file)
        except OSError as error:
            log.warning(
                "counts of lost events do not survive a kill of this process",
                file=str(path),
                error=error.strerror or str(error),
            )
            self.close()
            return
        for slot in range(2):
            turn, text = self._read(slot)
            if turn > self._turn:
                self._turn, self.text = turn, text

    @staticmethod
    def _grow(file: int) -> None:
        missing = 2 * SLOT_BYTES - os.fstat(file).st_size
        # Written and not only reserved: the blocks are there.
        if missing > 0 and os.pwrite(file, bytes(missing), 2 * SLOT_BYTES - missing) < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _read(self, slot: int) -> tuple[int, bytes]:
        assert self._file is not None
        raw = os.pread(self._file, SLOT_BYTES, slot * SLOT_BYTES)
        if len(raw) < _HEAD.size:
            return 0, b""
        turn, length, crc = _HEAD.unpack_from(raw)
        text = raw[_HEAD.size : _HEAD.size + length]
        return (turn, text) if crc == _crc(turn, text) and len(text) == length else (0, b"")

    def write(self, text: bytes) -> bool:
        """Replaces the text; says whether it fitted. One that is too long changes nothing."""
        if len(text) > SLOT_BYTES - _HEAD.size:
            return False
        self.text = text
        if self._file is not None:
            self._turn += 1
            record = _HEAD.pack(self._turn, len(text), _crc(self._turn, text)) + text
            try:
                os.pwrite(self._file, record, self._turn % 2 * SLOT_BYTES)
            except OSError as error:
                log.warning("the counts of lost events cannot be kept", error=error.strerror)
        return True

    def close(self) -> None:
        """Closes the file; the text stays in it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _crc(turn: int, text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(_NUMBERS.pack(turn, len(text))))
