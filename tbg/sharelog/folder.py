"""Finds share logs below the paths that were given, again and again.

ckpool writes ``<logdir>/<height, 8 hex digits>/<work info id, 16 hex digits>.sharelog``: a
folder per block, a file per work base, which is one every 30 seconds. So a folder is looked
at once more only if it changed.
"""

import os
import time
from collections.abc import Iterator
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
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._folders: dict[str, int] = {}  # time of change when last looked at, ns
        self._found: dict[str, int] = {}  # inode that lay there when last looked at

    def fresh(self) -> Iterator[Path]:
        """Yields the logs that no earlier call has found, and new ones in the place of others."""
        known = list(self._folders)
        for path in self._paths:
            if path.is_dir():
                if os.fspath(path) not in self._folders:
                    yield from self._below(os.fspath(path))
            elif path.exists():
                yield from self._once(os.fspath(path), path.stat().st_ino)
        # Their parents need not have changed.
        for folder in known:
            yield from self._below(folder)

    def _below(self, folder: str) -> Iterator[Path]:
        try:
            changed = os.stat(folder).st_mtime_ns
            if self._folders.get(folder) == changed:
                return
            settled = time.time() - changed / 1e9 > _BLUR
            self._folders[folder] = changed if settled else 0
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            self._folders.pop(folder, None)  # removed in the meantime
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in self._folders:
                    yield from self._below(entry.path)
            elif WORD in entry.name.lower() and entry.is_file():
                yield from self._once(entry.path, entry.inode())

    def _once(self, path: str, inode: int) -> Iterator[Path]:
        if self._found.get(path) != inode:
            self._found[path] = inode
            yield Path(path)
