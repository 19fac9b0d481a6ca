"""The event socket: binds it, guards it, and reads it without a pause.

The kernel queues only ``net.unix.max_dgram_qlen`` datagrams (10 by default)
and takes that limit when the socket is made; a sender that does not block
loses what does not fit. So one thread does nothing but read, and the limit is
raised first where this process may.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from ingest.events import MAX_DATAGRAM

QUEUE_LENGTH_FILE: Final = Path("/proc/sys/net/unix/max_dgram_qlen")
LOW_QUEUE_LENGTH: Final = 512
# Seconds between two looks at a long queue. An engine with the kernel's default send
# buffer has room for 167 shares, more than come in this time.
NAP: Final = 0.001

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.socket")


class SocketInUseError(RuntimeError):
    """Another receiver listens on the path."""


def raise_queue_length(wanted: int) -> int | None:
    """Raises ``net.unix.max_dgram_qlen`` of this network namespace to ``wanted``.

    Returns:
        The value in force, None if the system has no such limit (macOS).
    """
    try:
        value = int(QUEUE_LENGTH_FILE.read_text())
    except OSError:
        return None
    if value >= wanted:
        return value
    try:
        QUEUE_LENGTH_FILE.write_text(str(wanted))
    except OSError as error:
        if value < LOW_QUEUE_LENGTH:
            log.warning(
                "the kernel queues few datagrams: a burst can be lost before it is read",
                max_dgram_qlen=value,
                wanted=wanted,
                error=str(error),
                do=f"as root: sysctl -w net.unix.max_dgram_qlen={wanted}",
            )
        return value
    return wanted


class EventSocket:
    """A bound Unix datagram socket with a thread that empties it.

    Args:
        path: where engines send to. A stale socket file there is replaced, a
            live one never.
        mode: permissions of the socket file.
        group: group that owns it, '' to leave it.
        queue_length: ``net.unix.max_dgram_qlen`` to ask for.
        limit: datagrams held before reading pauses, so that the engine's own
            queue holds the rest.

    Raises:
        SocketInUseError: another receiver listens there.
        OSError: the path cannot be made or bound.
    """

    def __init__(self, path: Path, *, mode: int, group: str, queue_length: int, limit: int) -> None:
        self.path = path
        self.queue: deque[bytes] = deque()
        self.queue_length = raise_queue_length(queue_length)
        self._limit = limit
        roomy = self.queue_length is not None and self.queue_length >= LOW_QUEUE_LENGTH
        self._nap = NAP if roomy else 0.0
        self._room = threading.Event()
        self._stopping = False
        self._waiting = False
        self._wake: Callable[[], object] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        # The lock decides between two receivers that start at once; it is
        # released by the kernel however this process ends.
        self._lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise SocketInUseError(
                f"another receiver listens on {path}: stop it first, or set SOCKET_PATH"
            ) from None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Connected while the path is there, used when it is gone: see stop().
        self._peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._bind(mode, group)
            self._peer.connect(str(path))
        except BaseException:
            self._peer.close()
            self._socket.close()
            os.close(self._lock)
            raise
        self._identity = self._stat_identity()
        self._thread = threading.Thread(target=self._read, name="event-socket", daemon=True)

    def _bind(self, mode: int, group: str) -> None:
        if self.path.exists() or self.path.is_symlink():
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise FileExistsError(
                    errno.EEXIST, "is no socket: remove it, or set SOCKET_PATH", str(self.path)
                )
            probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                self.path.unlink()  # stale: no process has it open
            else:
                raise SocketInUseError(f"something else listens on {self.path}")
            finally:
                probe.close()
        before = os.umask(0o777)  # no access before the permissions are set
        try:
            self._socket.bind(str(self.path))
        finally:
            os.umask(before)
        if group:
            shutil.chown(self.path, group=group)
        self.path.chmod(mode)

    def _stat_identity(self) -> tuple[int, int]:
        info = os.stat(self.path)
        return info.st_dev, info.st_ino

    def start(self, wake: Callable[[], object]) -> None:
        """Starts reading; ``wake`` is called from the thread when one waits."""
        self._wake = wake
        self._thread.start()

    def _read(self) -> None:
        receive = self._socket.recv
        queue = self.queue
        while True:
            datagram = receive(MAX_DATAGRAM + 1)
            if self._stopping and not datagram:
                return
            queue.append(datagram)
            self._tell()
            if self._nap:
                # Waking up for every datagram would cost more than reading it: what
                # arrives until then waits in the kernel, which has room for it.
                time.sleep(self._nap)
                if self._drain():
                    return
                self._tell()  # the first may have been taken in the meantime
            if len(queue) >= self._limit:
                self._room.clear()
                while len(queue) >= self._limit and not self._stopping:
                    self._room.wait(0.1)

    def _tell(self) -> None:
        if self._waiting and self.queue:
            self._waiting = False
            assert self._wake is not None
            self._wake()

    def _drain(self) -> bool:
        """Takes what the kernel holds; says whether the last datagram was :meth:`stop`'s."""
        receive = self._socket.recv
        queue = self.queue
        with contextlib.suppress(BlockingIOError):
            while len(queue) < self._limit or self._stopping:
                datagram = receive(MAX_DATAGRAM + 1, socket.MSG_DONTWAIT)
                if self._stopping and not datagram:
                    return True
                queue.append(datagram)
        return False

    def wait(self) -> bool:
        """Asks for a wake-up at the next datagram.

        Returns:
            False when there is one already.
        """
        self._waiting = True
        if self.queue:
            self._waiting = False
            return False
        return True

    def take(self, most: int) -> list[bytes]:
        """Takes up to ``most`` datagrams, oldest first."""
        queue = self.queue
        count = min(most, len(queue))
        taken = [queue.popleft() for _ in range(count)]
        if not self._room.is_set():
            self._room.set()
        return taken

    def stop(self) -> None:
        """Takes the socket away, then reads what the kernel still holds.

        Engines find no socket from here on and keep their events.
        """
        if self.path.exists() and self._stat_identity() == self._identity:
            self.path.unlink()
        self._stopping = True
        if self._thread.is_alive():
            self._peer.send(b"")  # wakes the reading thread
            self._thread.join()
        while self._drain():
            pass  # an empty datagram from elsewhere
        self._peer.close()
        self._socket.close()
        os.close(self._lock)
