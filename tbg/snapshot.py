"""What flows and what waits, read from the database and Redis.

Nothing here writes, and no query is longer than an hour of shares: it may be asked
every few seconds.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import redis
from psycopg.rows import TupleRow

from ingest.entry import id_key
from ingest.events import EVENTS
from ingest.names import STREAMS, stream_of

# Entries that a lag is counted up to; past it, it is "at least".
MOST_COUNTED: Final = 10_000

Connection = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Lag:
    """What a stream holds that is not committed yet."""

    entries: int  # counted up to MOST_COUNTED
    seconds: float  # age of the oldest of them


@dataclass(frozen=True)
class EventCounts:
    """One kind of event."""

    last: datetime | None
    minute: int
    hour: int
    in_stream: int
    lag: Lag


@dataclass(frozen=True)
class Snapshot:
    """The state of the data at one moment."""

    events: dict[str, EventCounts]
    accepted_minute: int
    rejected_minute: int
    accepted_hour: int
    rejected_hour: int
    dead_letters: int
    dead_letters_hour: int
    dead_letter_reasons: dict[str, int]
    missing: int
    duplicates: int
    instances_with_gaps: dict[str, int] = field(default_factory=dict)


def stream_lags(database: Connection, client: "redis.Redis") -> dict[str, Lag]:
    """Returns what each stream holds past the offset that the slowest writer has committed."""
    offsets: dict[str, str] = {}
    for stream, last_id in database.execute("select stream, last_id from stream_offsets"):
        offsets[stream] = min(offsets.get(stream, last_id), last_id, key=id_key)
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    for stream in STREAMS:
        pipeline.xrange(stream, f"({offsets.get(stream, '0-0')}", "+", count=MOST_COUNTED)
    (seconds, microseconds), *waiting = pipeline.execute()
    now = seconds + microseconds / 1e6
    lags = {}
    for stream, entries in zip(STREAMS, waiting, strict=True):
        oldest = int(entries[0][0].split(b"-")[0]) / 1000 if entries else now
        lags[stream] = Lag(len(entries), max(0.0, now - oldest))
    return lags


def take(database: Connection, client: "redis.Redis") -> Snapshot:
    """Reads everything that ``tbg status`` shows.

    Raises:
        psycopg.Error, redis.RedisError: when one of the two does not answer.
    """
    lags = stream_lags(database, client)
    others = _other_events(database)
    shares = database.execute(
        """
        select
            count(*) filter (where is_valid and time > now() - interval '1 minute'),
            count(*) filter (where not is_valid and time > now() - interval '1 minute'),
            count(*) filter (where is_valid),
            count(*) filter (where not is_valid)
        from shares
        where time > now() - interval '1 hour'
        """
    ).fetchone()
    assert shares is not None
    events = {}
    for name in EVENTS:
        stream = stream_of(name)
        minute, hour = others.get(name, (0, 0))
        if name == "share_submitted":
            minute, hour = shares[0] + shares[1], shares[2] + shares[3]
        length, last = _stream(client, stream)
        events[name] = EventCounts(last, minute, hour, length, lags[stream])
    letters = database.execute(
        "select count(*), count(*) filter (where received_at > now() - interval '1 hour') "
        "from dead_letters"
    ).fetchone()
    assert letters is not None
    reasons = database.execute(
        "select stage || '/' || reason, count(*) from dead_letters group by 1 order by 2 desc"
    ).fetchall()
    gaps = database.execute(
        """
        select instance, sum(upper(missing) - lower(missing))::bigint
        from engine_instances, unnest(seq_missing) as missing
        group by instance
        order by 2 desc
        """
    ).fetchall()
    duplicates = database.execute(
        "select coalesce(sum(duplicates), 0)::bigint from engine_instances"
    ).fetchone()
    assert duplicates is not None
    return Snapshot(
        events,
        accepted_minute=shares[0],
        rejected_minute=shares[1],
        accepted_hour=shares[2],
        rejected_hour=shares[3],
        dead_letters=letters[0],
        dead_letters_hour=letters[1],
        dead_letter_reasons=dict(reasons),
        missing=sum(count for _, count in gaps),
        duplicates=duplicates[0],
        instances_with_gaps=dict(gaps),
    )


def _other_events(database: Connection) -> dict[str, tuple[int, int]]:
    """Counts of the last minute and hour; the names let the index serve."""
    rows = database.execute(
        """
        select event, count(*) filter (where time > now() - interval '1 minute'), count(*)
        from mining_events
        where event = any(%s) and time > now() - interval '1 hour'
        group by event
        """,
        [list(EVENTS)],
    ).fetchall()
    return {event: (minute, hour) for event, minute, hour in rows}


def _stream(client: "redis.Redis", stream: str) -> tuple[int, datetime | None]:
    """Length of a stream, and the time of the newest event in it."""
    length: Any = client.xlen(stream)
    newest: Any = client.xrevrange(stream, count=1)
    if not newest:
        return length, None
    microseconds = int(newest[0][1].get(b"timestamp", 0))
    return length, datetime.fromtimestamp(microseconds / 1e6, UTC)
