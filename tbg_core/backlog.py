"""What waits in the streams of every cell, and is not committed yet.

Redis says so where this program reaches it. Of a cell whose streams are in another Redis (in
another region, say) the database says what its writer saw there last.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import psycopg
import redis
from psycopg.rows import tuple_row

from tbg_core.entry import START, id_key
from tbg_core.names import IDENTITY_KEY, STREAMS, in_cell


class Place(NamedTuple):
    """How far a writer has committed a stream.

    Attributes:
        cell: '' where it has no name.
        consumer: the writer's name; '' where none has read the stream.
        redis: the identity of the Redis that it read, where that is known.
        updated_at: when it last committed something of the stream.
        looked_at: until when its writer knows what waits, by that Redis's clock.
        waits_since: since when something has waited there.
    """

    cell: str
    consumer: str
    stream: str
    last_id: str = START
    redis: str | None = None
    updated_at: datetime = datetime.fromtimestamp(0, UTC)
    looked_at: datetime | None = None
    waits_since: datetime | None = None

    @property
    def key(self) -> str:
        """The stream's key in Redis."""
        return in_cell(self.stream, self.cell)


class Waiting(NamedTuple):
    """A stream of which a writer has not committed everything.

    Attributes:
        since: when its oldest uncommitted entry came to Redis, by Redis's clock. In a Redis that
            was not asked: when its writer looked last, if nothing waited then.
        entries: that wait, up to as many as were asked for; 0 where none was seen.
    """

    cell: str
    consumer: str
    stream: str
    since: datetime
    entries: int

    def __str__(self) -> str:
        cell = f" of cell {self.cell}" if self.cell else ""
        return (
            f"the writer {self.consumer or '(none)'}{cell} has yet to commit {self.stream} from "
            f"{self.since:%F %T} UTC on"
        )


def find_places(connection: psycopg.Connection[Any]) -> list[Place]:
    """How far each writer has come; a stream that has not been read is at its beginning."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(_PLACES).fetchall()
    places = [Place(*row) for row in rows if row[2] in STREAMS]
    known = {(place.cell, place.stream) for place in places}
    cells = {place.cell for place in places} or {""}
    unread = ((cell, stream) for cell in sorted(cells) for stream in STREAMS)
    return places + [
        Place(cell, "", stream) for cell, stream in unread if (cell, stream) not in known
    ]


def slowest(places: Iterable[Place]) -> list[Place]:
    """Of several writers of a stream, the one that has committed the least."""
    found: dict[tuple[str, str], Place] = {}
    for place in places:
        known = found.setdefault((place.cell, place.stream), place)
        if id_key(place.last_id) < id_key(known.last_id):
            found[place.cell, place.stream] = place
    return list(found.values())


def reached(places: Iterable[Place], client: "redis.Redis") -> set[str]:
    """The cells whose streams a client reaches.

    Raises:
        redis.RedisError: when Redis does not answer.
    """
    identities = {place.cell: place.redis for place in places if place.redis}
    cells = {""}
    for cell, identity in identities.items():
        found: Any = client.get(in_cell(IDENTITY_KEY, cell))
        if _text(found) == identity:
            cells.add(cell)
    return cells


def waiting(places: Iterable[Place], client: "redis.Redis", most: int = 1) -> list[Waiting]:
    """What the writers have yet to commit, the longest wait first.

    A stream in which nothing lies after a writer's position is not here, however old that
    position is: an idle stream keeps nobody waiting.

    Args:
        places: of :func:`find_places`.
        client: of Redis.
        most: entries of a stream that are counted.

    Raises:
        redis.RedisError: when Redis does not answer.
    """
    places = list(places)
    here = reached(places, client)
    found = []
    for place in places:
        if place.cell not in here:
            since = place.waits_since or place.looked_at or place.updated_at
            entries = int(place.waits_since is not None)
        else:
            page: Any = client.xrange(place.key, min=f"({place.last_id}", count=most)
            if not page:
                continue
            since = datetime.fromtimestamp(id_key(_text(page[0][0]))[0] / 1000, UTC)
            entries = len(page)
        found.append(Waiting(place.cell, place.consumer, place.stream, since, entries))
    return sorted(found, key=lambda one: one.since)


def redis_now(client: "redis.Redis") -> datetime:
    """The clock that ids of entries come from."""
    seconds, micros = client.time()
    return datetime.fromtimestamp(seconds + micros / 1e6, UTC)


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


_PLACES: Final = """
select cell, consumer, stream, last_id, redis, updated_at, looked_at, waits_since
from stream_offsets
order by cell, consumer, stream
"""
