"""How much room a disk has left."""

import math
import shutil
from pathlib import Path
from typing import Final

LEAST_FREE: Final = 0.05  # of the disk; below it, people must make room


def free_ratio(folder: Path) -> float:
    """The free part of a folder's disk, 0 to 1; NaN if it cannot be read."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return math.nan
    return disk.free / disk.total


def disk_trouble(folder: Path) -> str | None:
    """What is wrong with the disk of a folder, or None."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError as error:
        return f"the disk of {folder} cannot be read: {error.strerror}"
    if disk.free >= LEAST_FREE * disk.total:
        return None
    return (
        f"only {disk.free / 1e9:.1f} GB of the disk of {folder} are free "
        f"({disk.free / disk.total:.1%}): make room, before the database and Redis stop"
    )
