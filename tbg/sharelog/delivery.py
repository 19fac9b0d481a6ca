"""Sends datagrams to the receiver, and waits as long as it takes: no miner waits for us.

``devnet.emitter`` and the simulator's outlet never block and know one instance; this one
blocks in the kernel while the receiver's queue is full, which takes one system call an event.
"""

import errno
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tbg_core.events import MAX_DATAGRAM

# Resent to a receiver that takes over: the old one may have died with them in memory, and
# duplicates are recognised. A receiver holds less than 2,048 of them, and the kernel at most
# 700: for so many of the smallest the send buffer below pays.
KEPT: Final = 4096
_LOOK: Final = 0.5  # seconds between two looks at whether to stop
_FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.EINTR})
_GONE: Final = frozenset(
    {errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE}
)


class Stopped(Exception):
    """Shutdown was requested while the receiver accepted nothing."""


class Delivery:
    """A connection to the receiver; a context manager.

    Args:
        path: the receiver's Unix datagram socket; it need not exist yet.
        stopped: returns whether the end was asked for.
        say: is called when the receiver is away, and when it is back.
    """

    def __init__(self, path: Path, stopped: Callable[[], bool], say: Callable[[str], None]) -> None:
        self._path = path
        self._stopped = stopped
        self._say = say
        self._socket: socket.socket | None = None
        self._kept: deque[bytes] = deque(maxlen=KEPT)
        self._away = False
        self.resent = 0

    def __enter__(self) -> "Delivery":
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()

    def send(self, datagram: bytes, *, keep: bool = True) -> None:
        """Sends one datagram, however long it takes.

        Args:
            keep: to be sent again to a receiver that takes over.

        Raises:
            Stopped: if shutdown is requested meanwhile.
            OSError: for what waiting does not cure, such as a missing permission.
        """
        while True:
            if self._socket is None:
                self._connect()
            if self._try(datagram):
                if keep:
                    self._kept.append(datagram)
                return
            if self._stopped():
                raise Stopped

    def _try(self, datagram: bytes) -> bool:
        assert self._socket is not None
        try:
            self._socket.send(datagram)
        except OSError as error:
            if error.errno in _GONE:
                self._disconnect()
            elif error.errno == errno.ENOBUFS:
                time.sleep(0.001)  # macOS says so at once for a full peer
            elif error.errno not in _FULL:
                raise
            return False
        return True

    def _connect(self) -> None:
        while True:
            candidate = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * MAX_DATAGRAM)
            # The kernel's own timeout: Python's would ask before every send.
            whole, rest = divmod(_LOOK, 1)
            timeval = struct.pack("@ll", int(whole), int(rest * 1e6))
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
            try:
                candidate.connect(os.fspath(self._path))
            except OSError as error:
                candidate.close()
                if error.errno not in _GONE:
                    raise
                if not self._away:
                    self._away = True
                    self._say(f"no receiver at {self._path}: waiting")
            else:
                self._socket = candidate
                if self._away:
                    self._away = False
                    self._say("the receiver is there")
                if self._resend():
                    return
            if self._stopped():
                raise Stopped
            time.sleep(0.05)

    def _resend(self) -> bool:
        """Resends what the last receiver may have lost; False if this one is gone as well."""
        for datagram in list(self._kept):
            while not self._try(datagram):
                if self._stopped():
                    raise Stopped
                if self._socket is None:
                    return False
            self.resent += 1
        return True

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
