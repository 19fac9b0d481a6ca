"""A server that speaks enough of the Redis protocol to be asked what it is.

It stands for versions that no wheel has. What it cannot show: that such a server works.
"""

import contextlib
import socketserver
import threading
from collections.abc import Iterator, Mapping
from typing import Final

import hiredis

OLD: Final = {"redis_version": "6.2.14", "redis_mode": "standalone", "role": "master"}


@contextlib.contextmanager
def fake_redis(info: Mapping[str, object] | None) -> Iterator[str]:
    """Serves an answer to INFO, and gives its URL.

    Args:
        info: None refuses to answer.
    """

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # it left
                self._serve()

        def _serve(self) -> None:
            reader = hiredis.Reader()
            while data := self.request.recv(65536):
                reader.feed(data)
                while (words := reader.gets()) is not False:
                    name = words[0].upper()
                    self.wfile.write(self._answer(name))

        def _answer(self, name: bytes) -> bytes:
            if name == b"HELLO":
                return b"%3\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n+role\r\n+master\r\n"
            if name == b"INFO":
                if info is None:
                    return b"-NOPERM this user has no permissions to run the 'info' command\r\n"
                text = "".join(f"{key}:{value}\r\n" for key, value in info.items()).encode()
                return b"$%d\r\n%s\r\n" % (len(text), text)
            if name == b"XINFO":  # as before version 7
                return (
                    b"%4\r\n+length\r\n:0\r\n+last-generated-id\r\n+0-0\r\n"
                    b"+first-entry\r\n_\r\n+last-entry\r\n_\r\n"
                )
            if name == b"CLIENT":
                return b"-ERR Unknown subcommand or wrong number of arguments for 'SETINFO'\r\n"
            return b"_\r\n" if name == b"GET" else b"+OK\r\n"

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        finally:
            server.shutdown()
            thread.join()
