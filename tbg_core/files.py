"""Files that only their owner may read, written whole or not at all."""

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Puts the names in a folder on the disk.

    Raises:
        OSError: when the folder cannot be opened or the disk takes no more.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_private(path: Path, text: str) -> None:
    """Writes ``path`` in one step, with mode 600.

    A reader, or a crash, finds the old file or the new one, never half of one.

    Raises:
        OSError: when the folder cannot be written; the old file is then unchanged.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
