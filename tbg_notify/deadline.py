"""The time that a send has in all: when it is over, its connections are ended.

The timeouts of Apprise's services hold for one read. A server that sends a byte now and then,
or never stops, would keep a route for good.
"""

import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import urllib3.util.connection

_deadline: Final[ContextVar["Deadline | None"]] = ContextVar("deadline", default=None)


class Deadline:
    """Ends what was connected in its block.

    Attributes:
        over: whether the time was over before the block ended.
    """

    def __init__(self) -> None:
        self.over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def watch(self, made: socket.socket) -> socket.socket:
        """Takes a connection that was just made.

        Raises:
            TimeoutError: the time is over.
        """
        with self._lock:
            if self.over:
                made.close()
                raise TimeoutError("no time is left")
            # TLS takes the socket itself over.
            self._sockets.append(made.dup())
        return made

    def end(self) -> None:
        """Ends the connections: what reads or writes there fails at once."""
        with self._lock:
            self.over = True
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Lets the connections go."""
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[Deadline]:
    """Gives the block, in this thread, so many seconds for all that it sends and reads."""
    deadline = Deadline()
    timer = threading.Timer(seconds, deadline.end)
    timer.daemon = True
    timer.start()
    token = _deadline.set(deadline)
    try:
        yield deadline
    finally:
        _deadline.reset(token)
        timer.cancel()
        deadline.close()


def _watched(connect: Callable[..., socket.socket]) -> Any:
    @functools.wraps(connect)
    def watched(*arguments: Any, **options: Any) -> socket.socket:
        made = connect(*arguments, **options)
        deadline = _deadline.get()
        return made if deadline is None else deadline.watch(made)

    return watched


# For requests, and for smtplib.
urllib3.util.connection.create_connection = _watched(urllib3.util.connection.create_connection)
socket.create_connection = _watched(socket.create_connection)
