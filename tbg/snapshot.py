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

from tbg_core.backlog import Place, find_places, reached, redis_now, slowest, waiting
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
    """What a stream holds in all cells that is not committed yet."""

    entries: int  # counted up to MOST_COUNTED
    seconds: float  # age of the oldest of them


@dataclass(frozen=True)
class EventCounts:
    """One kind of event; ``last`` is the newest by its own time."""

    last: datetime | None
    minute: int
    hour: int
    in_stream: int
    lag: Lag


@dataclass(frozen=True)
class Cell:
    """The streams that one writer serves.

    Attributes:
        committed: when its writer last committed something.
        behind: seconds that its oldest entry has waited.
        reached: whether its streams are in the Redis that was asked. What is in other ones is in
            no other figure; of those, its writer has noted how far it is behind.
    """

    committed: datetime
    behind: float
    reached: bool


@dataclass(frozen=True)
class Snapshot:
    """The state of the data at one moment.

    Attributes:
        cells: by name, '' for one without.
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
    cells: dict[str, Cell] = field(default_factory=dict)


def stream_lags(database: Connection, client: "redis.Redis") -> dict[str, Lag]:
    """Returns what each stream holds past the offset that the slowest writer has committed."""
    places = slowest(find_places(database))
    return _lags(places, client)[0]


def _lags(
    places: Sequence[Place], client: "redis.Redis"
) -> tuple[dict[str, Lag], dict[str, float]]:
    """The lag of each stream, over all cells, and how many seconds each cell is behind."""
    now = redis_now(client)
    lags = dict.fromkeys(STREAMS, Lag(0, 0.0))
    behind = {place.cell: 0.0 for place in places}
    for one in waiting(places, client, MOST_COUNTED):
        known, seconds = lags[one.stream], max(0.0, (now - one.since).total_seconds())
        entries = min(known.entries + one.entries, MOST_COUNTED)
        lags[one.stream] = Lag(entries, max(known.seconds, seconds) if entries else 0.0)
        behind[one.cell] = max(behind[one.cell], seconds)
    return lags, behind


def take(database: Connection, client: "redis.Redis") -> Snapshot:
    """Reads everything that ``tbg status`` shows.

    Raises:
        psycopg.Error, redis.RedisError: when one of the two does not answer.
    """
    with database.transaction():
        # At one moment: what is committed after it is still in the stream, past the offset.
        database.execute("set transaction isolation level repeatable read, read only")
        places = slowest(find_places(database))
        gaps: dict[str, Spans] = dict(
            database.execute(
                """
                select instance, array_agg(array[lower(missing), upper(missing)] order by missing)
                from engine_boots(), unnest(holes) as missing
                group by instance
                """
            ).fetchall()
        )
    here = reached(places, client)
    lags, behind = _lags(places, client)
    others = _other_events(database)
    newest = _newest(database)
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
        keys = [one.key for one in places if one.cell in here and one.stream == stream]
        length, entry = _stream(client, keys)
        # An import adds entries of long ago: the newest event is not the newest entry.
        last = max(filter(None, (entry, newest.get(name))), default=None)
        events[name] = EventCounts(last, minute, hour, length, lags[stream])
    [(letters, letters_hour)] = database.execute(
        "select count(*), count(*) filter (where received_at > now() - interval '1 hour') "
        "from dead_letters where replayed_at is null"
    )
    reasons = database.execute(
        "select stage || '/' || reason, count(*) from dead_letters where replayed_at is null "
        "group by 1 order by 2 desc"
    ).fetchall()
    on_the_way = _on_the_way(client, [one for one in places if one.cell in here], gaps)
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
        cells={
            cell: Cell(
                max(one.updated_at for one in places if one.cell == cell),
                seconds,
                cell in here,
            )
            for cell, seconds in behind.items()
        },
    )


def _on_the_way(
    client: "redis.Redis", places: Sequence[Place], gaps: Mapping[str, Spans]
) -> dict[str, int]:
    """How many numbers of each instance's gaps are in a stream, not committed yet."""
    left = sum(map(_numbers, gaps.values()))
    found: dict[str, set[int]] = {instance: set() for instance in gaps}
    for place in places:
        last = place.last_id
        while left and place.stream in (*EVENT_STREAMS, DEAD_LETTER_STREAM):
            page: Any = client.xrange(place.key, f"({last}", "+", count=PAGE)
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


def _newest(database: Connection) -> dict[str, datetime]:
    """The time of the newest committed event of each kind, by an index."""
    rows = database.execute(
        """
        select name, case name
            when 'share_submitted' then (select max(time) from shares)
            else (select max(time) from mining_events where event = name)
        end
        from unnest(%s::text[]) as name
        """,
        [list(EVENTS)],
    ).fetchall()
    return {event: time.astimezone(UTC) for event, time in rows if time is not None}


def _stream(client: "redis.Redis", keys: Sequence[str]) -> tuple[int, datetime | None]:
    """Length of an event's streams, and the time of the newest event in them."""
    lengths: list[Any] = [client.xlen(key) for key in keys]
    newest: list[Any] = [entry for key in keys for entry in client.xrevrange(key, count=1) or ()]
    times = [int(fields.get(b"timestamp", 0)) for _, fields in newest]
    return sum(lengths), datetime.fromtimestamp(max(times) / 1e6, UTC) if times else None
