"""A bucket on this machine that answers as S3 does, and that fails when it is asked to."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, quote

import requests
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET = "testing", "s3cret"  # moto takes any
# Not one that a client repeats.
REFUSED = (
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>"
    b"<Message>refused by the test</Message></Error>"
)


class Request:
    """What of a request a test looks at.

    Attributes:
        key: of the object, below the bucket.
        part: number of a part of a multipart upload; 0 otherwise.
        copies: the object is made of another one.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        asked = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        self.method = str(environ["REQUEST_METHOD"])
        self.key = str(environ["PATH_INFO"]).lstrip("/").partition("/")[2]
        self.part = int(asked.get("partNumber", ["0"])[0])
        self.copies = "HTTP_X_AMZ_COPY_SOURCE" in environ


class Bucket:
    """A running server with one bucket.

    Attributes:
        seen: every request since the last :meth:`forget`.
        fails: is asked of each request whether it is refused; may wait.
    """

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.seen: list[Request] = []
        self.fails: Callable[[Request], bool] = lambda _: False
        self.address = ""

    def __call__(self, environ: dict[str, Any], answer: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        with self._lock:
            self.seen.append(request)
        if self.fails(request):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            answer("403 Forbidden", [("Content-Length", str(len(REFUSED)))])
            return [REFUSED]
        found: Iterable[bytes] = self._application(environ, answer)
        return found

    def forget(self) -> None:
        """Forgets the requests, and fails no more."""
        self.fails = lambda _: False
        with self._lock:
            self.seen.clear()

    def url(self, path: str = "main", bucket: str = "bucket") -> str:
        """ARCHIVE_URL of a folder in the bucket."""
        return (
            f"s3://{KEY}:{SECRET}@{bucket}/{path}?scheme=http&region=us-east-1"
            f"&endpoint_override={quote(self.address, safe='')}"
        )


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # its own name
        """Says nothing of each request."""


@contextmanager
def serving() -> Iterator[Bucket]:
    """Runs a server during the block."""
    bucket = Bucket()
    server = make_server("127.0.0.1", 0, bucket, threaded=True, request_handler=_Quiet)
    bucket.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        requests.put(f"http://{bucket.address}/bucket", timeout=60).raise_for_status()
        bucket.forget()
        yield bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
