"""The way into the receiver's datagram socket for events that are datagrams already."""

import contextlib
import errno
import os
import select
import socket
import time
from pathlib import Path
from typing import Final, Self

from devnet.emitter import FULL, connected
from tbg_core.boots import HEARTBEAT, Page, Status, datagram

_GONE: Final = frozenset(
    {errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE}
)
_LOOK_AGAIN: Final = 0.001  # seconds; for a system that does not wake us when there is room


class Outlet:
    """A connected Unix datagram socket that never blocks; a context manager.

    ``devnet.emitter`` is what an engine uses: it numbers, stamps and encodes event by event. The
    simulator does all of that in bulk, and decides by itself what to do when the receiver is slow.
    As the emitter does, it vouches for the boots whose events it sends.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = os.fspath(path)
        self._socket: socket.socket | None = None
        self._page: Page | None = None  # of the boot that sends
        self._numbered = self._sent = 0
        self._beat = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._disconnect()

    def connect(self) -> OSError | None:
        """Connects; returns the error if no receiver listens.

        Raises:
            OSError: for what waiting does not cure, such as a missing permission.
        """
        self._disconnect()
        try:
            self._socket = connected(self._path)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return error
        return None

    def offer(self, datagram: bytes) -> str | None:
        """Sends one datagram if that is possible at once; otherwise returns the reason.

        The reasons are those of ``devnet.emitter``: ``receiver_slow`` and ``receiver_absent``.
        """
        if self._socket is None and self.connect() is not None:
            return "receiver_absent"
        assert self._socket is not None
        try:
            self._socket.send(datagram)
        except OSError as error:
            if error.errno in FULL:
                return "receiver_slow"
            if error.errno in _GONE:
                self._disconnect()
                return "receiver_absent"
            raise
        self._sent += 1
        if self._page is not None:
            self._page.sent(self._sent)
        return None

    def boot(self, instance: str) -> None:
        """What comes now is of this boot; one before it is over."""
        if self._page is None or self._page.instance != instance:
            self._end()
            self._page = Page(instance, "simulated")
            self._page.open(Path(self._path))
            self._numbered = self._sent = 0
            self._beat = time.monotonic()

    def number(self, micros: int) -> None:
        """The boot has given its next number, to an event of this time."""
        if self._page is not None:
            self._numbered += 1
            self._page.note(self._numbered, micros)

    def vouch(self) -> None:
        """Says now and then how far the boot is; to be called when a batch is through."""
        if self._page is None:
            return
        if time.monotonic() - self._beat >= HEARTBEAT:
            self._beat = time.monotonic()
            if not self._page.is_open:
                self._page.open(Path(self._path))  # the disk may have room again
            self._say(self._page.status())

    def _end(self) -> None:
        """The boot is over."""
        if self._page is not None:
            self._say(self._page.ended())
            self._page.close()
            self._page = None

    def _say(self, status: Status) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the page says it as well
                self._socket.send(datagram(status))

    def wait(self, seconds: float) -> None:
        """Returns when the receiver may have room again, at the latest after ``seconds``."""
        if self._socket is None:
            time.sleep(min(seconds, 0.05))
            return
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        before = time.monotonic()
        poller.poll(seconds * 1000)
        if time.monotonic() - before < _LOOK_AGAIN / 10:
            # macOS calls a socket writable whose peer is full; do not spin there.
            time.sleep(min(seconds, _LOOK_AGAIN / 10))

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
