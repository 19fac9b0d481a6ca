"""SIGTERM and SIGINT: held until the daemon can act on them, so that none is lost.

A signal that comes while modules are imported would end the process on the spot, and
leave behind what it has started. Held, it waits in the kernel.
"""

import signal
from typing import Final

STOP: Final = frozenset({signal.SIGTERM, signal.SIGINT})


def hold() -> None:
    """Holds both signals back, in this thread and in the processes that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


def held() -> bool:
    """Whether one of them has come and waits."""
    return bool(STOP & signal.sigpending())


def release() -> None:
    """Lets them through: handlers are in place."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)
