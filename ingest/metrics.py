"""Counters of the daemon, and the port that shows them.

Every drop has a stage and a reason; retries are not drops. docs/operations.md
lists the names.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, make_wsgi_app

RECEIVED: Final = Counter("tbg_received_total", "Datagrams read from the event socket")
PUBLISHED: Final = Counter("tbg_published_total", "Events written to a Redis stream", ["event"])
COMMITTED: Final = Counter("tbg_committed_total", "Events committed to the database", ["event"])
DEAD_LETTERED: Final = Counter(
    "tbg_dead_lettered_total", "Events refused and kept as dead letters", ["stage", "reason"]
)
DROPPED: Final = Counter(
    "tbg_dropped_total", "Events lost, by stage and reason", ["stage", "reason"]
)
DUPLICATES: Final = Counter(
    "tbg_duplicates_total", "Resent events, recognised by instance and seq and not stored again"
)
GAP_EVENTS: Final = Counter(
    "tbg_sequence_gap_events_total",
    "Events missing between two sequence numbers of an instance, as the socket saw them",
)
FILLED_EVENTS: Final = Counter(
    "tbg_sequence_filled_events_total", "Missing events that came late after all"
)
SPOOL_BYTES: Final = Gauge("tbg_spool_bytes", "Bytes waiting on disk for Redis")
SPOOLED: Final = Counter("tbg_spooled_total", "Events that went through the spool")
QUEUE_EVENTS: Final = Gauge("tbg_queue_events", "Events in memory between socket and Redis")
LAG_ENTRIES: Final = Gauge(
    "tbg_stream_lag_entries", "Entries of a stream not yet committed", ["stream"]
)
LAG_SECONDS: Final = Gauge(
    "tbg_stream_lag_seconds", "Age of a stream's oldest entry not yet committed", ["stream"]
)
SIDE_FAILURES: Final = Counter(
    "tbg_side_job_failures_total",
    "Failures of jobs beside the rows: leaderboard, trimming, memory, lag",
    ["job"],
)
EVICTED_KEYS: Final = Gauge(
    "tbg_redis_evicted_keys", "Keys that Redis has evicted since its start; 0 is right"
)
_LATENCY: Final = (
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    1.5,
    2.5,
    5,
    10,
    30,
)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)
PUBLISH_SECONDS: Final = Histogram(
    "tbg_publish_seconds", "One round trip to Redis with a batch", buckets=_LATENCY
)
PUBLISH_EVENTS: Final = Histogram("tbg_publish_events", "Events in one batch", buckets=_SIZES)
COMMIT_SECONDS: Final = Histogram(
    "tbg_commit_seconds", "One transaction with a batch", buckets=_LATENCY
)
COMMIT_EVENTS: Final = Histogram("tbg_commit_events", "Events in one transaction", buckets=_SIZES)
SHARE_LATENCY: Final = Histogram(
    "tbg_share_latency_seconds",
    "From a share's timestamp until its row is committed",
    buckets=_LATENCY,
)

RETRY_SECONDS: Final = 5.0  # between two tries to get the port

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.metrics")

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


class MetricsServer:
    """Serves /metrics, /healthz and /readyz from a thread of its own.

    A port that cannot be had is asked for again every few seconds: events go on without it.

    Args:
        host: address to listen on.
        port: 0 for none at all.
        ready: tells whether the stage does its work, and what is missing.
    """

    def __init__(self, host: str, port: int, ready: Health) -> None:
        self._address = host, port
        self._ready = ready
        self._metrics = make_wsgi_app(REGISTRY)
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
