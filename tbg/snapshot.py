"""What flows and what waits, read from the database and Redis.

Nothing here writes. No query reads more than an hour of shares, and streams are read
only past what is committed, so this may run every few seconds.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import redis
from psycopg.rows import TupleRow

from tbg_core.entry import START, id_key
from tbg_core.events import EVENTS
from tbg_core.names import DEAD_LETTER_STREAM, EVENT_STREAMS, STREAMS, stream_of
from tbg_notify.failing import FailingChannel, failing

# Entries that a lag is counted up to; past it, it is "at least".
MOST_COUNTED: Final = 10_000
# Entries in one round trip, when a backlog is searched.
PAGE: Final = 5000

Connection = psycopg.Connection[TupleRow]
Spans = Sequence[tuple[int, int]]  # of sequence numbers: first, and one past the last


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
    """The state of the data at one moment.

    Attributes:
        missing: numbers of engines that are neither in the database nor in a stream.
        on_the_way: numbers that are in a stream, after later ones were committed.
        instances_with_gaps: what is missing, by engine boot.
        failing_channels: targets for alerts that take no messages now.
    """

    events: dict[str, EventCounts]
    accepted_minute: int
    rejected_minute: int
    accepted_hour: int
    rejected_hour: int
    dead_letters: int
    dead_letters_hour: int
    dead_letter_reasons: dict[str, int]
    missing: int
    on_the_way: int
    duplicates: int
    instances_with_gaps: dict[str, int] = field(default_factory=dict)
    failing_channels: list[FailingChannel] = field(default_factory=list)


def stream_lags(database: Connection, client: "redis.Redis") -> dict[str, Lag]:
    """Returns what each stream holds past the offset that the slowest writer has committed."""
    return _lags(client, _offsets(database))


def _offsets(database: Connection) -> dict[str, str]:
    """What the slowest writer has committed of each stream."""
    offsets = dict.fromkeys(STREAMS, START)
    seen = set()
    for stream, last_id in database.execute("select stream, last_id from stream_offsets"):
        known = offsets[stream] if stream in seen else last_id
        offsets[stream] = min(known, last_id, key=id_key)
        seen.add(stream)
    return offsets


def _lags(client: "redis.Redis", offsets: Mapping[str, str]) -> dict[str, Lag]:
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    for stream in STREAMS:
        pipeline.xrange(stream, f"({offsets[stream]}", "+", count=MOST_COUNTED)
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
    with database.transaction():
        # At one moment: what is committed after it is still in the stream, past the offset.
        database.execute("set transaction isolation level repeatable read, read only")
        offsets = _offsets(database)
        gaps: dict[str, Spans] = dict(
            database.execute(
                """
                select instance, array_agg(array[lower(missing), upper(missing)] order by missing)
                from engine_boots(), unnest(holes) as missing
                group by instance
                """
            ).fetchall()
        )
    lags = _lags(client, offsets)
    others = _other_events(database)
    [(accepted_minute, rejected_minute, accepted_hour, rejected_hour)] = database.execute(
        """
        select
            count(*) filter (where is_valid and time > now() - interval '1 minute'),
            count(*) filter (where not is_valid and time > now() - interval '1 minute'),
            count(*) filter (where is_valid),
            count(*) filter (where not is_valid)
        from shares
        where time > now() - interval '1 hour'
        """
    )
    events = {}
    for name in EVENTS:
        stream = stream_of(name)
        minute, hour = others.get(name, (0, 0))
        if name == "share_submitted":
            minute, hour = accepted_minute + rejected_minute, accepted_hour + rejected_hour
        length, last = _stream(client, stream)
        events[name] = EventCounts(last, minute, hour, length, lags[stream])
    [(letters, letters_hour)] = database.execute(
        "select count(*), count(*) filter (where received_at > now() - interval '1 hour') "
        "from dead_letters where replayed_at is null"
    )
    reasons = database.execute(
        "select stage || '/' || reason, count(*) from dead_letters where replayed_at is null "
        "group by 1 order by 2 desc"
    ).fetchall()
    on_the_way = _on_the_way(client, offsets, gaps)
    missing = {instance: _numbers(spans) - on_the_way[instance] for instance, spans in gaps.items()}
    worst_first = sorted(missing.items(), key=lambda item: item[1], reverse=True)
    [(duplicates,)] = database.execute(
        "select coalesce(sum(duplicates), 0)::bigint from engine_instances"
    )
    return Snapshot(
        events,
        accepted_minute=accepted_minute,
        rejected_minute=rejected_minute,
        accepted_hour=accepted_hour,
        rejected_hour=rejected_hour,
        dead_letters=letters,
        dead_letters_hour=letters_hour,
        dead_letter_reasons=dict(reasons),
        missing=sum(missing.values()),
        on_the_way=sum(on_the_way.values()),
        duplicates=duplicates,
        instances_with_gaps={instance: count for instance, count in worst_first if count},
        failing_channels=failing(database),
    )


def _on_the_way(
    client: "redis.Redis", offsets: Mapping[str, str], gaps: Mapping[str, Spans]
) -> dict[str, int]:
    """How many numbers of each instance's gaps are in a stream, not committed yet."""
    left = sum(map(_numbers, gaps.values()))
    found: dict[str, set[int]] = {instance: set() for instance in gaps}
    for stream in (*EVENT_STREAMS, DEAD_LETTER_STREAM):
        last = offsets[stream]
        while left:
            page: Any = client.xrange(stream, f"({last}", "+", count=PAGE)
            if not page:
                break
            last = page[-1][0].decode()
            for _, fields in page:
                instance = fields.get(b"instance", b"").decode(errors="replace")
                numbers = found.get(instance)
                # A dead letter may be of an event without a number.
                seq = fields.get(b"seq", b"")
                if numbers is None or not seq.isdigit() or int(seq) in numbers:
                    continue
                if _within(gaps[instance], int(seq)):
                    numbers.add(int(seq))
                    left -= 1
    return {instance: len(numbers) for instance, numbers in found.items()}


def _numbers(spans: Spans) -> int:
    return sum(end - start for start, end in spans)


def _within(spans: Spans, number: int) -> bool:
    """Whether one of the ascending spans holds a number."""
    position = bisect_right(spans, number, key=lambda span: span[0])
    return position > 0 and number < spans[position - 1][1]


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
