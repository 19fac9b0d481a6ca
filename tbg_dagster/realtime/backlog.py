"""Entries of the streams that a writer has not committed yet."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from tbg_core.entry import START
from tbg_core.names import STREAMS
from tbg_dagster.resources.database import Connection


@dataclass(frozen=True)
class Waiting:
    """A stream of which a writer has not committed everything.

    Attributes:
        consumer: the writer's name; '' where none has read the stream.
        since: when its oldest uncommitted entry came to Redis, by Redis's clock.
    """

    consumer: str
    stream: str
    since: datetime

    def __str__(self) -> str:
        return (
            f"the writer {self.consumer or '(none)'} has yet to commit {self.stream} from "
            f"{self.since:%F %T} UTC on"
        )


def waiting(connection: Connection, client: "redis.Redis") -> list[Waiting]:
    """What each writer has yet to commit, the longest wait first.

    A stream in which nothing lies after a writer's position is not here, however old that
    position is: an idle stream keeps nobody waiting.

    Raises:
        redis.RedisError: when Redis does not answer.
    """
    positions: dict[str, list[tuple[str, str]]] = {stream: [] for stream in STREAMS}
    for row in connection.execute("select consumer, stream, last_id from stream_offsets"):
        positions.setdefault(row["stream"], []).append((row["consumer"], row["last_id"]))
    found = []
    for stream, writers in positions.items():
        # A stream that has not been read yet waits from its beginning.
        for consumer, last_id in writers or [("", START)]:
            entries: Any = client.xrange(stream, min=f"({last_id}", count=1)
            if entries:
                millis = int(entries[0][0].partition("-")[0])
                since = datetime.fromtimestamp(millis / 1000, UTC)
                found.append(Waiting(consumer, stream, since))
    return sorted(found, key=lambda one: one.since)
