"""Counts every event at each hop, and times each share: what ``tbg smoke`` compares.

The three counts are independent of each other: the pool's own log, the entries of
the streams, the rows of the database.
"""

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import psycopg
import redis
from psycopg.rows import TupleRow

from tbg_core.database import connect
from tbg_core.events import EVENTS
from tbg_core.names import stream_of

ACCEPTED: Final = "share_submitted, accepted"
REJECTED: Final = "share_submitted, rejected"
# One row of the comparison each; shares in two, because their fate differs.
KINDS: Final = (ACCEPTED, REJECTED, *(name for name in EVENTS if name != "share_submitted"))
POLL_SECONDS: Final = 0.01
# Rows older than this were seen by an earlier look.
POLL_WINDOW: Final = "10 seconds"


@dataclass(frozen=True)
class Hops:
    """How many events of each kind were seen at each hop."""

    emitted: Counter[str]
    redis: Counter[str]
    database: Counter[str]
    # What no hop may hold, by name.
    faults: dict[str, int] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, tuple[int, int, int]]]:
        """Each kind with its counts at the pool, in Redis and in the database."""
        for kind in KINDS:
            yield kind, (self.emitted[kind], self.redis[kind], self.database[kind])

    def differences(self) -> list[str]:
        """Names each hop that differs; empty if all agree."""
        found = []
        for kind, (emitted, published, stored) in self.rows():
            if published != emitted:
                found.append(
                    f"{kind}: the pool emitted {emitted} and Redis holds {published}: "
                    "look between pool and receiver (logs/pool.log, logs/receiver.log)"
                )
            if stored != published:
                found.append(
                    f"{kind}: Redis holds {published} and the database {stored}: "
                    "look at the writer (logs/writer.log)"
                )
        found += [
            f"{what}: {count}, and it should be 0" for what, count in self.faults.items() if count
        ]
        return found


@dataclass(frozen=True)
class Latency:
    """Milliseconds from a share's timestamp, given when the pool had judged it."""

    shares: int
    median: float
    p99: float
    longest: float

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Self:
        """Summarises; p99 is the nearest rank, so the longest one below 100 shares."""
        values = sorted(milliseconds)
        if not values:
            return cls(0, 0.0, 0.0, 0.0)
        rank = -(-len(values) * 99 // 100)
        return cls(len(values), statistics.median(values), values[rank - 1], values[-1])


def kind_of(event: str, valid: bool | None) -> str:
    if event != "share_submitted":
        return event
    return ACCEPTED if valid else REJECTED


def emitted(log: Path) -> tuple[Counter[str], set[int]]:
    """Counts the events that a pool's log reports as emitted (JSON, level DEBUG).

    Returns:
        How many events of each kind, and their numbers.
    """
    found: Counter[str] = Counter()
    numbers = set()
    for line in log.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a warning of the interpreter, say
        if isinstance(record, dict) and record.get("event") in EVENTS and "seq" in record:
            found[kind_of(record["event"], record["data"].get("valid"))] += 1
            numbers.add(record["seq"])
    return found, numbers


def published(client: "redis.Redis") -> tuple[Counter[str], list[float]]:
    """Counts the entries of all streams, and times those of shares.

    An entry's id is the server's clock, cut to whole milliseconds: the latency counts
    to the end of that millisecond, and so is never too short.
    """
    found: Counter[str] = Counter()
    latencies = []
    for event in EVENTS:
        entries: Any = client.xrange(stream_of(event))
        for entry, fields in entries:
            valid = None
            if event == "share_submitted":
                valid = json.loads(fields[b"data"])["valid"]
                until = int(entry.split(b"-")[0]) + 1
                latencies.append(until - int(fields[b"timestamp"]) / 1000)
            found[kind_of(event, valid)] += 1
    return found, latencies


def stored(database: psycopg.Connection[TupleRow]) -> Counter[str]:
    """Counts the rows of the database."""
    rows = database.execute(
        "select 'share_submitted', is_valid, count(*) from shares group by 2 "
        "union all select event, null, count(*) from mining_events group by 1"
    )
    return Counter({kind_of(event, valid): count for event, valid, count in rows})


def stored_numbers(database: psycopg.Connection[TupleRow]) -> Counter[int]:
    """Counts the rows of each number; for a database that one engine boot has filled."""
    rows = database.execute(
        "select seq from shares where seq is not null "
        "union all select seq from mining_events where seq is not null"
    )
    return Counter(seq for (seq,) in rows)


class CommitWatch:
    """Notes when each share becomes visible to another connection.

    It looks every :data:`POLL_SECONDS`, so a latency is up to that (and the time of a
    query) longer than it was: never too short.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._seen: dict[tuple[int, int], float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="commits", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def shares(self) -> int:
        return len(self._seen)

    def latencies(self) -> list[float]:
        """Milliseconds of every share seen."""
        return list(self._seen.values())

    def _watch(self) -> None:
        # If the database goes away, this thread ends with its message on the screen,
        # and the shares that it did not see are shown as a difference.
        with connect(self._url) as connection:
            while not self._end.wait(POLL_SECONDS):
                rows = connection.execute(
                    "select instance_id, seq, extract(epoch from time)::float8 from shares "
                    "where time > now() - %s::interval",
                    [POLL_WINDOW],
                ).fetchall()
                now = time.time()
                for instance, seq, moment in rows:
                    self._seen.setdefault((instance, seq), (now - moment) * 1000)
