"""The port of /metrics, /healthz and /readyz, the same for every daemon."""

import contextlib
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.registry import Collector

RETRY_SECONDS: Final = 5.0  # between two tries to get the port

log: structlog.stdlib.BoundLogger = structlog.get_logger("metrics")

Health = Callable[[], tuple[bool, str]]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each client: one that is silent delays neither others nor the end."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds that a client may be silent

    def handle(self) -> None:
        """Answers one request; a client that leaves early is not worth a traceback."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Says nothing: a probe every few seconds is not logged."""


class _OfCell(Collector):
    def __init__(self, cell: str) -> None:
        self._cell = cell

    def collect(self) -> Iterable[Metric]:
        for family in REGISTRY.collect():
            family.samples = [
                one._replace(labels={"cell": self._cell, **one.labels}) for one in family.samples
            ]
            yield family


def _of_cell(cell: str) -> CollectorRegistry:
    """All metrics with the label ``cell``: one Prometheus asks the daemons of all cells."""
    registry = CollectorRegistry()
    registry.register(_OfCell(cell))
    return registry


class MetricsServer:
    """Serves /metrics, /healthz and /readyz from a thread of its own.

    A port that cannot be had is asked for again every few seconds: events go on without it.

    Args:
        host: address to listen on.
        port: 0 for none at all.
        ready: returns whether the stage does its work, and what is missing.
        cell: a label of all metrics, where it has a name.
    """

    def __init__(self, host: str, port: int, ready: Health, cell: str = "") -> None:
        self._address = host, port
        self._ready = ready
        self._metrics = make_wsgi_app(_of_cell(cell) if cell else REGISTRY)
        self._server: WSGIServer | None = None
        self._closed = threading.Event()
        if port and not self._listen():
            threading.Thread(target=self._listen_later, name="metrics port", daemon=True).start()

    def _listen(self, *, again: bool = False) -> bool:
        try:
            server = make_server(
                *self._address, self._app, server_class=_Server, handler_class=_Quiet
            )
        except OSError as error:
            if not again:
                host, port = self._address
                log.error(
                    "no metrics: the port cannot be had; trying again",
                    host=host,
                    port=port,
                    error=str(error),
                )
            return False
        self._server = server
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        return True

    def _listen_later(self) -> None:
        while not self._closed.wait(RETRY_SECONDS):
            if self._listen(again=True):
                log.info("metrics are served", port=self._address[1])
                return

    def _app(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            body: Iterable[bytes] = self._metrics(environ, start_response)
            return body
        if path == "/healthz":
            good, text = True, "alive"
        elif path == "/readyz":
            good, text = self._ready()
        else:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"/metrics, /healthz, /readyz\n"]
        status = "200 OK" if good else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [text.encode() + b"\n"]

    def close(self) -> None:
        """Stops listening."""
        self._closed.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
