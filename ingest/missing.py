"""Which numbers of an engine boot are missing: what receivers let in once more.

A number that was published is left out when it comes again, so that it is in the streams
once. But an entry may vanish before it is committed: Redis lost its last moments, or a key was
deleted or evicted. Then the database misses the number, and only its engine can send it
again. The writer says so under a key of each boot; a receiver looks there before it leaves
out a copy.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import redis.asyncio as redis

from tbg_core.names import in_cell

if TYPE_CHECKING:  # a receiver needs no driver of the database
    import asyncpg

Spans = list[tuple[int, int]]  # half-open ranges of sequence numbers, in order

REMEMBERED: Final = 604_800  # seconds: a week, as the marks of what was published
MOST_SPANS: Final = 1000  # of a boot, the newest
MOST_BOOTS: Final = 1000


def missing_key(instance: str, cell: str = "") -> str:
    """The key that says which numbers of an engine boot are missing."""
    return in_cell(f"mining:missing:{instance}", cell)


def packed(spans: Spans) -> bytes:
    """What the key holds."""
    return msgspec.json.encode(spans[-MOST_SPANS:])


def is_missing(stored: bytes | None, number: int) -> bool:
    """Whether a number is one of those that a key holds."""
    if not stored:
        return False
    try:
        spans = msgspec.json.decode(stored, type=Spans)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    position = bisect_right(spans, number, key=lambda span: span[0])
    return position > 0 and number < spans[position - 1][1]


class Missing:
    """Says in Redis what is missing.

    Args:
        client: of Redis.
        cell: whose receivers shall know.
    """

    def __init__(self, client: redis.Redis, cell: str = "") -> None:
        self._client = client
        self._cell = cell
        self._unsaid: dict[str, Spans] = {}

    async def say_all(self, connection: "asyncpg.Connection") -> None:
        """Says what is missing of the boots of the last week."""
        found: dict[str, Spans] = {}
        for row in await connection.fetch(
            "select instance, seq_missing from engine_instances "
            "where seq_missing <> '{}' and last_seen > now() - make_interval(secs => $1) "
            "and cell = $3 order by last_seen desc limit $2",
            REMEMBERED,
            MOST_BOOTS,
            self._cell,
        ):
            found[row["instance"]] = [(span.lower, span.upper) for span in row["seq_missing"]]
        await self.say(found)

    async def say(self, missing: Mapping[str, Spans]) -> None:
        """Says what is missing of these boots now, and what could not be said before."""
        self._unsaid |= missing
        if not self._unsaid:
            return
        pipeline = self._client.pipeline(transaction=False)
        for instance, spans in self._unsaid.items():
            key = missing_key(instance, self._cell)
            if spans:
                pipeline.set(key, packed(spans), ex=REMEMBERED)
            else:
                pipeline.delete(key)
        await pipeline.execute()
        self._unsaid.clear()
