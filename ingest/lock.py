"""A file that one process holds, and a line in it for the process that holds it next."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

# A disk that takes no more: what can go on without a lock does, and says so.
DISK_TROUBLE: Final = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})
_LONGEST: Final = 4096  # bytes of the note


class InUseError(RuntimeError):
    """Another process holds the file."""


class Lock:
    """An advisory lock (flock): the kernel releases it however its process ends.

    Args:
        path: made if missing.

    Raises:
        InUseError: another process holds it.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _held(path)

    @property
    def there(self) -> bool:
        """Whether the file is still where another process would look for it."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(found, os.fstat(self._file))

    def renew(self) -> None:
        """Makes the file again, if it was removed.

        Raises:
            InUseError: another process made it first.
            OSError: it cannot be made.
        """
        if not self.there:
            note = self.read()
            fresh = _held(self.path)
            os.close(self._file)
            self._file = fresh
            if note:
                self.write(note)

    def read(self) -> str:
        """What was noted last, also by the process that held it before."""
        return os.pread(self._file, _LONGEST, 0).decode(errors="replace")

    def write(self, note: str) -> None:
        """Notes a line.

        Raises:
            OSError: the disk does not take it.
        """
        os.pwrite(self._file, note.encode(), 0)
        os.ftruncate(self._file, len(note.encode()))

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._file)


def _held(path: Path) -> int:
    try:
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in DISK_TROUBLE or not path.exists():
            raise
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise InUseError(f"another process holds {path}") from None
    return file
