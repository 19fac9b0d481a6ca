"""The event socket: binds it, guards it, and reads it without a pause.

The kernel queues only ``net.unix.max_dgram_qlen`` datagrams (10 by default)
and takes that limit when the socket is made; a sender that does not block
loses what does not fit. So one thread does nothing but read, and the limit is
raised first where this process may.

What was read and is not yet in Redis or on disk dies with this process, and so does the
kernel's queue. Engines send their last events again to a receiver that comes back, so
no more than that is taken from them: see :func:`most_held`.
"""

import contextlib
import errno
import os
import shutil
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from ingest.lock import InUseError, Lock

QUEUE_LENGTH_FILE: Final = Path("/proc/sys/net/unix/max_dgram_qlen")
LOW_QUEUE_LENGTH: Final = 512
RESENT: Final = 2048  # events that each of our engines sends again to the next receiver
# Datagrams that one engine can have in the kernel's queue: its send buffer of 212,992 bytes
# pays for them, 768 for the smallest.
_IN_KERNEL: Final = 277
# Bytes read of a datagram: more than may be, for the number may stand behind what is too long.
LONGEST: Final = 2**16
_OLD_SOCKETS: Final = 8
# Seconds between two looks at a long queue. An engine with the kernel's default send
# buffer has room for 167 shares, more than come in this time.
NAP: Final = 0.001

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.socket")


class SocketInUseError(InUseError):
    """Another receiver listens on the path."""


def most_held(wanted: int, queue_length: int | None) -> int:
    """Datagrams that a receiver may hold: what an engine sends again, less the kernel's part."""
    in_kernel = _IN_KERNEL if queue_length is None else min(queue_length + 1, _IN_KERNEL)
    # The reader has one in its hand, and an engine keeps one that it has not sent.
    return min(wanted, RESENT - in_kernel - 2)


def hold_path(path: Path) -> Lock:
    """Decides between two receivers that want one path.

    Raises:
        SocketInUseError: the other one has it.
        OSError: the lock file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return Lock(path.with_name(f"{path.name}.lock"))
    except InUseError:
        raise SocketInUseError(
            f"another receiver listens on {path}: stop it first, or set SOCKET_PATH"
        ) from None


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


class _Listening:
    """One bound socket; a peer, connected while its path was there, wakes its reader."""

    def __init__(self, path: Path, mode: int, group: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.thread: threading.Thread | None = None
        try:
            _bind(self.socket, path, mode, group)
            self.peer.connect(str(path))
            info = os.lstat(path)
        except BaseException:
            self.close()
            raise
        self.identity = info.st_dev, info.st_ino

    def at(self, path: Path) -> bool:
        """Whether the file at a path is this socket's."""
        try:
            info = os.lstat(path)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self.identity

    def close(self) -> None:
        """Closes both sockets."""
        self.peer.close()
        self.socket.close()


def _bind(made: socket.socket, path: Path, mode: int, group: str) -> None:
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(
                errno.EEXIST, "is no socket: remove it, or set SOCKET_PATH", str(path)
            )
        probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # stale: no process has it open
        else:
            raise SocketInUseError(f"something else listens on {path}")
        finally:
            probe.close()
    before = os.umask(0o777)  # no access before the permissions are set
    try:
        made.bind(str(path))
    finally:
        os.umask(before)
    if group:
        shutil.chown(path, group=group)
    path.chmod(mode)


class EventSocket:
    """A bound Unix datagram socket with a thread that empties it.

    Args:
        path: where engines send to. A stale socket file there is replaced, a
            live one never.
        mode: permissions of the socket file.
        group: group that owns it, '' to leave it.
        queue_length: ``net.unix.max_dgram_qlen`` to ask for.
        limit: datagrams held, those that were taken and not released included, before
            reading pauses, so that the engine's own queue holds the rest.
        lock: of :func:`hold_path`, if it is held already.

    Raises:
        SocketInUseError: another receiver listens there.
        OSError: the path cannot be made or bound.

    Attributes:
        limit: may change until :meth:`start`.
        trouble: why engines cannot reach the socket, empty if they can.
    """

    def __init__(
        self,
        path: Path,
        *,
        mode: int,
        group: str,
        queue_length: int,
        limit: int,
        lock: Lock | None = None,
    ) -> None:
        self.path = path
        self.queue: deque[bytes] = deque()
        self.queue_length = raise_queue_length(queue_length)
        self.limit = limit
        self.trouble = ""
        self._mode, self._group = mode, group
        roomy = self.queue_length is not None and self.queue_length >= LOW_QUEUE_LENGTH
        self._nap = NAP if roomy else 0.0
        self._taken = 0
        self._room = threading.Event()
        self._stopping = False
        self._left: set[socket.socket] = set()  # they are read to their end
        self._waiting = False
        self._wake: Callable[[], object] | None = None
        self.lock = lock or hold_path(path)  # before the path is looked at
        try:
            self._listening = [_Listening(path, mode, group)]
        except BaseException:
            self.lock.close()
            raise

    def start(self, wake: Callable[[], object]) -> None:
        """Starts reading; ``wake`` is called from the thread when one waits."""
        self._wake = wake
        self._start(self._listening[-1])

    def _start(self, listening: _Listening) -> None:
        listening.thread = threading.Thread(
            target=self._read, args=(listening.socket,), name="event-socket", daemon=True
        )
        listening.thread.start()

    def check(self) -> None:
        """Binds the path again if its file is gone; what the old socket gets is still read."""
        if self._stopping or (self._listening[-1].at(self.path) and self.lock.there):
            self.trouble = ""
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.lock.renew()
            if self._listening[-1].at(self.path):
                self.trouble = ""
                return
            fresh = _Listening(self.path, self._mode, self._group)
        except (InUseError, OSError) as error:
            if self.trouble != str(error):
                self.trouble = str(error)
                log.error("engines cannot reach the socket", path=str(self.path), error=str(error))
            return
        self.trouble = ""
        self._listening.append(fresh)
        self._start(fresh)
        log.warning(
            "the socket's file was removed: it is bound again",
            path=str(self.path),
            do="keep cleaners of temporary files away from it",
        )
        if len(self._listening) > _OLD_SOCKETS:
            # Not here: it waits for a reader, which may wait for a release.
            old = self._listening.pop(0)
            threading.Thread(target=self._leave, args=(old,), daemon=True).start()

    def _read(self, source: socket.socket) -> None:
        receive = source.recv
        queue = self.queue
        while True:
            datagram = receive(LONGEST)
            if not datagram and (self._stopping or source in self._left):
                return
            queue.append(datagram)
            self._tell()
            if self._nap:
                # Waking up for every datagram would cost more than reading it: what
                # arrives until then waits in the kernel, which has room for it.
                time.sleep(self._nap)
            while True:
                if self._drain(source):
                    return
                self._tell()  # the first may have been taken in the meantime
                if not self._full(source):
                    break
                self._room.clear()
                if self._full(source):
                    self._room.wait(0.1)

    def _full(self, source: socket.socket) -> bool:
        full = len(self.queue) + self._taken >= self.limit
        return full and not self._stopping and source not in self._left

    def _tell(self) -> None:
        if self._waiting and self.queue:
            self._waiting = False
            assert self._wake is not None
            self._wake()

    def _drain(self, source: socket.socket) -> bool:
        """Takes what the kernel holds; says whether the last datagram was :meth:`stop`'s."""
        receive = source.recv
        queue = self.queue
        with contextlib.suppress(BlockingIOError):
            while not self._full(source):
                datagram = receive(LONGEST, socket.MSG_DONTWAIT)
                if not datagram and (self._stopping or source in self._left):
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
        """Takes up to ``most`` datagrams, oldest first; they are held until their release."""
        queue = self.queue
        count = min(most, len(queue))
        self._taken += count
        return [queue.popleft() for _ in range(count)]

    def release(self, count: int) -> None:
        """So many that were taken are safe: they make room for others."""
        self._taken -= count
        self._room.set()

    def _leave(self, listening: _Listening) -> None:
        """Reads what a socket still holds, and closes it."""
        self._left.add(listening.socket)
        if sys.platform == "linux":
            # Nobody can add to what waits there: an engine that sends now keeps its event.
            # (Elsewhere this would discard what waits.)
            listening.socket.shutdown(socket.SHUT_RD)
        elif listening.thread is not None:
            listening.peer.send(b"")
        if listening.thread is not None:
            listening.thread.join()
        # An empty datagram from elsewhere looks like the end.
        for _ in range(2 + (self.queue_length or _IN_KERNEL)):
            if not self._drain(listening.socket):
                break
        self._left.discard(listening.socket)
        listening.close()

    def stop(self) -> None:
        """Takes the socket away, then reads what the kernel still holds.

        Engines find no socket from here on and keep their events.
        """
        if self._listening[-1].at(self.path):
            self.path.unlink()
        self._stopping = True
        for listening in self._listening:
            self._leave(listening)
        self.lock.close()
