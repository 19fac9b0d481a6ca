"""Counters of the daemon.

Every drop has a stage and a reason; retries are not drops. docs/operations.md
lists the names.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

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
