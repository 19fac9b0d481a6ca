"""The writer's position in each stream.

The database holds what is committed, in the transaction of the rows. A position only
moves from the value that it was read from, so two writers never commit the same entries.
"""

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

import asyncpg

from ingest.entry import START, Entry
from ingest.names import STREAMS

Position = tuple[str, int]  # last entry id, and a number of entries
Positions = dict[str, Position]  # by stream

_STREAM: Final = attrgetter("stream")


class OffsetsMovedError(RuntimeError):
    """The offsets in the database are not the ones that this writer set."""


class Offsets:
    """A writer's positions.

    Args:
        connection: the writer's.
        consumer: name that they are kept under.

    Attributes:
        committed: last committed id by stream.
    """

    def __init__(self, connection: asyncpg.Connection, consumer: str) -> None:
        self._db = connection
        self._consumer = consumer
        self.committed: dict[str, str] = {}

    async def load(self) -> Positions:
        """Reads where to continue: last id, and entries up to it since the stream began."""
        await self._db.executemany(
            "insert into stream_offsets (consumer, stream, last_id) values ($1, $2, $3) "
            "on conflict do nothing",
            [(self._consumer, stream, START) for stream in STREAMS],
        )
        rows = await self._db.fetch(
            "select stream, last_id, entries from stream_offsets where consumer = $1",
            self._consumer,
        )
        self.committed = {row["stream"]: row["last_id"] for row in rows}
        return {row["stream"]: (row["last_id"], row["entries"]) for row in rows}

    async def confirm(self) -> None:
        """Makes sure that the database still holds what this writer committed.

        Raises:
            OffsetsMovedError: an operator or another writer has moved them.
        """
        rows = await self._db.fetch(
            "select stream, last_id from stream_offsets where consumer = $1", self._consumer
        )
        if {row["stream"]: row["last_id"] for row in rows} != self.committed:
            raise OffsetsMovedError("the offsets were moved: reading from where they are now")

    def after(self, entries: Iterable[Entry]) -> Positions:
        """Last id and number of these entries by stream."""
        counts = Counter(map(_STREAM, entries))
        last = {entry.stream: entry for entry in entries}
        return {stream: (entry.id.decode(), counts[stream]) for stream, entry in last.items()}

    async def rewind(self, stream: str) -> None:
        """Goes back to the beginning of a stream."""
        await self._db.execute(
            "update stream_offsets set last_id = $3, entries = 0, updated_at = now() "
            "where consumer = $1 and stream = $2",
            self._consumer,
            stream,
            START,
        )
        self.committed[stream] = START

    async def move(self, positions: Positions) -> None:
        """Moves the stored positions, in the caller's transaction.

        Raises:
            OffsetsMovedError: another writer took over.
        """
        moved = await self._db.fetch(
            "update stream_offsets o set last_id = g.to_id, entries = o.entries + g.entries, "
            "updated_at = now() "
            "from unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) "
            "as g(stream, from_id, to_id, entries) "
            "where o.consumer = $1 and o.stream = g.stream and o.last_id = g.from_id "
            "returning o.stream",
            self._consumer,
            list(positions),
            [self.committed[stream] for stream in positions],
            [last for last, _ in positions.values()],
            [count for _, count in positions.values()],
        )
        if len(moved) != len(positions):
            raise OffsetsMovedError(
                f"another writer commits as {self._consumer!r}: stop it, or set CONSUMER"
            )

    def keep(self, positions: Positions) -> None:
        """The transaction of :meth:`move` is committed."""
        self.committed.update((stream, last) for stream, (last, _) in positions.items())
