"""A mark in the environment, by which processes are found again."""

import contextlib
import time
from typing import Final

import psutil

EXEC_SECONDS: Final = 1.0  # how long a process may take for it on a busy machine


def marked(name: str, value: str) -> list[psutil.Process]:
    """Returns the processes that run and were started with ``name=value``.

    Other users' processes, and those that end while we look, do not count.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if environment(process).get(name) == value:
                found.append(process)
    return found


def environment(process: psutil.Process) -> dict[str, str]:
    """Returns the variables that a process was started with.

    In the middle of execve(2) a process has the new program, and no environment yet: it is
    looked at again.

    Raises:
        psutil.Error: it has ended, or it is another user's.
    """
    deadline = time.monotonic() + EXEC_SECONDS
    while not (found := process.environ()):
        # It has no command line either; a thread of the kernel has no program. Some programs
        # overwrite their environment with a title.
        if process.cmdline() or not process.exe() or time.monotonic() > deadline:
            return process.environ()  # it may have got there since
        time.sleep(0.001)
    return found
