"""The data directory, and the lock that keeps a second node out of it."""

import fcntl
import os
from pathlib import Path


class DataDirectoryInUse(Exception):
    """Another process holds the data directory."""


class DataDirectory:
    """``path``, created if it is missing, and ours alone until ``release``.

    The lock ends with the process, however that ends.

    Raises:
        DataDirectoryInUse: another node has it.
        OSError: it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise DataDirectoryInUse(
                f"another node (process {holder or 'unknown'}) is using {path}:"
                " stop it, or choose another --datadir"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets another node in."""
        os.close(self._lock)
