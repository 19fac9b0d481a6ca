"""A connection of ``tbg serve``: what one client may hold is bounded in bytes and in time.

uvicorn bounds neither the head of a request nor the time it takes, so that one client could fill
the memory, and a thousand silent ones the connections. Who takes no answer is let go by the kernel.
"""

import asyncio
import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD: Final = 65_536  # bytes of a request line and its headers
HEAD_SECONDS: Final = 20.0  # that they may take
STALLED_SECONDS: Final = 60  # that a client may leave an answer untaken

_TOO_LARGE: Final = (
    b'{"error":"malformed","reason":"the head of the request is longer than 64 KiB"}'
)
_ANSWER: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_TOO_LARGE), _TOO_LARGE)
)


class Connection(HttpToolsProtocol):
    """One client's connection."""

    _head = 0  # bytes of the head that is arriving
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
            if self._head > MOST_HEAD:
                self.transport.write(_ANSWER)
                self.transport.close()
                return
            self._wait()
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop()
        self._head, self._in_head = 0, False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def let_go_of_the_stalled(listening: socket.socket) -> None:
    """Has the kernel end connections whose client takes nothing; those accepted inherit it."""
    option: Any = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if option is not None:
        listening.setsockopt(socket.IPPROTO_TCP, option, STALLED_SECONDS * 1000)
