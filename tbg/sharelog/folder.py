"""Finds share logs below the paths that were given, again and again.

ckpool writes ``<logdir>/<height, 8 hex digits>/<work info id, 16 hex digits>.sharelog``: a
folder per block, a file per work base, which is one every 30 seconds. So a folder is looked
at once more only if it changed.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

WORD: Final = "sharelog"
"""What the name of a log in a folder contains: ``x.sharelog``, ``x.sharelog.1.gz``."""
# Seconds in which a folder may change again without a new time of change.
_BLUR: Final = 10.0


class Folder:
    """The paths of an import: files, and folders with what is below them.

    Args:
        paths: a file counts under any name.
        unreadable: receives each path below them that cannot be looked at, and why.
    """

    def __init__(self, paths: tuple[Path, ...], unreadable: Callable[[Path, str], None]) -> None:
        self._paths = paths
        self._unreadable = unreadable
        self._folders: dict[str, int] = {}  # time of change when last looked at, ns
        self._found: dict[str, int] = {}  # inode that lay there when last looked at

    def fresh(self) -> Iterator[Path]:
        """Yields the logs that no earlier call has found, and new ones in the place of others."""
        known = list(self._folders)
        for path in self._paths:
            if path.is_dir():
                if os.fspath(path) not in self._folders:
                    yield from self._below(os.fspath(path))
            else:
                with self._noting(os.fspath(path)):
                    yield from self._once(os.fspath(path), path.stat().st_ino)
        # Their parents need not have changed.
        for folder in known:
            yield from self._below(folder)

    def _below(self, folder: str) -> Iterator[Path]:
        entries: list[os.DirEntry[str]] = []
        with self._noting(folder):
            changed = os.stat(folder).st_mtime_ns
            if self._folders.get(folder) == changed:
                return
            settled = time.time() - changed / 1e9 > _BLUR
            self._folders[folder] = 0
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            self._folders[folder] = changed if settled else 0
        for entry in entries:
            with self._noting(entry.path):
                if entry.is_dir(follow_symlinks=False):
                    if entry.path not in self._folders:
                        yield from self._below(entry.path)
                # What is no file and bears the name of a log is opened, and named.
                elif WORD in entry.name.lower() and not entry.is_dir():
                    yield from self._once(entry.path, entry.stat().st_ino)

    @contextlib.contextmanager
    def _noting(self, path: str) -> Iterator[None]:
        """Says what cannot be looked at; what was removed in the meantime is not missed."""
        try:
            yield
        except FileNotFoundError:
            self._folders.pop(path, None)
        except OSError as error:
            self._unreadable(Path(path), error.strerror or str(error))

    def _once(self, path: str, inode: int) -> Iterator[Path]:
        if self._found.get(path) != inode:
            self._found[path] = inode
            yield Path(path)
