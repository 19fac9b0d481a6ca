"""Whatever a channel does with its connection, a text has its end in time."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tbg_notify import channel
from tbg_notify.channel import Undelivered, send, targets
from tbg_notify.routes import Route
from tbg_notify.text import Text

Serve = Callable[[socket.socket], None]
PAUSE = 0.05


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """A port on which every connection is served until it ends."""

    def run(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=run, args=[connection], daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def dripping(start: bytes, drop: bytes) -> Serve:
    """Sends a beginning, and then never stops, a little at a time."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(start)
        while not threading.Event().wait(PAUSE):
            connection.sendall(drop)

    return serve


def answering(answer: bytes, then: bytes = b"") -> Serve:
    """Reads a request and answers; then sends without an end, if it is told to."""

    def serve(connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65_536)
        connection.sendall(answer)
        while then:
            connection.sendall(then)

    return serve


def tell(url: str) -> None:
    [target] = targets(Route(to=url))
    send(target, Text("a block was found"))


@pytest.mark.parametrize(
    ("scheme", "serve"),
    [
        ("http", dripping(b"", b"H")),  # the line of the status
        ("http", dripping(b"HTTP/1.1 503 No\r\n", b"A: b\r\n")),
        ("http", dripping(b"HTTP/1.1 503 No\r\nContent-Length: 9999\r\n\r\n", b"x")),
        ("https", dripping(b"\x16\x03\x03\x20\x00", b"\x02")),  # a handshake
        ("mailto", dripping(b"", b"220-later\r\n")),
    ],
)
def test_a_server_that_answers_a_little_at_a_time_has_so_much_time_in_all(
    scheme: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than the four seconds that Apprise waits for a single read.
    monkeypatch.setattr(channel, "SECONDS", 0.3)
    with serving(serve) as port:
        url = f"{scheme}://127.0.0.1:{port}/hook"
        if scheme == "mailto":
            url = f"mailto://127.0.0.1:{port}/?from=a@example.org&to=b@example.org&mode=insecure"
        with pytest.raises(Undelivered, match=r"it took longer than 0\.3 s") as caught:
            tell(url)
    assert not caught.value.permanent


def test_a_body_without_an_end_is_read_no_further_than_anybody_needs() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with serving(answering(head, b"x" * 65_536)) as port:
        tell(f"http://127.0.0.1:{port}/hook")


def test_an_answer_that_leads_elsewhere_has_taken_nothing() -> None:
    taken = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with serving(answering(taken)) as page:
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{page}/\r\n\r\n".encode()
        with serving(answering(moved, b"x" * 65_536)) as port, pytest.raises(Undelivered) as caught:
            tell(f"http://127.0.0.1:{port}/hook")
    assert "302" in str(caught.value)
    assert not caught.value.permanent
