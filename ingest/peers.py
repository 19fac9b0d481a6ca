"""The writers that share the work, as the database knows them.

A row of stream_offsets says: every entry of this stream up to this id that belongs
to this shard is committed. That stays true when the number of writers changes. So
writers of a new count begin at the highest id up to which all writers of one count
had come, and pass over what a row of another count says is committed; such a row
goes when everybody is past it.
"""

from typing import Final

import asyncpg
import structlog

from ingest.entry import START, Entry, id_key
from ingest.names import STREAMS
from ingest.offsets import Position
from ingest.shard import Shard, shard_of, shards

_BEGINNING: Final[Position] = (START, 0)
_MINE = "select pg_advisory_lock_shared(hashtext('tbg writers ' || $1), $2)"
_STARTING: Final = "select pg_advisory_xact_lock(hashtext('tbg writers ' || $1), 0)"
# Of a lock with two keys, pg_locks shows the first as classid and the second as objid.
_OTHERS: Final = """
select distinct objid::bigint as count from pg_locks
where locktype = 'advisory' and objsubid = 2 and granted
    and database = (select oid from pg_database where datname = current_database())
    and classid = hashtext('tbg writers ' || $1)::oid
    and objid::bigint not in (0, $2)
order by 1
"""

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.peers")


class OtherCountError(RuntimeError):
    """Writers of another count are at work; both would own the same engines."""


class Peers:
    """All writers of one base name.

    Args:
        connection: the writer's; its locks live as long as it does.
        base: the setting CONSUMER, which all of them share.
        shard: which of them this one is.
    """

    def __init__(self, connection: asyncpg.Connection, base: str, shard: Shard) -> None:
        self._db = connection
        self._base = base
        self._shard = shard
        self._joined: dict[Shard, dict[str, Position]] = {}
        # What writers of other counts have committed, where this one is not past it.
        self._before: list[tuple[Shard, dict[str, tuple[int, int]]]] = []

    @property
    def alone(self) -> bool:
        """Whether every entry is this writer's: no need to ask."""
        return self._shard.count == 1 and not self._before

    async def join(self) -> None:
        """Takes this writer's place; makes the offsets of a count that is new.

        Raises:
            OtherCountError: writers of another count are at work.
        """
        count = self._shard.count
        async with self._db.transaction():
            # One after the other: two that start at once must see each other.
            await self._db.execute(_STARTING, self._base)
            others = await self._db.fetch(_OTHERS, self._base, count)
            if others:
                running = ", ".join(f"n/{row['count']}" for row in others)
                raise OtherCountError(
                    f"this writer is {self._shard}, but writers of another count are at work "
                    f"({running}), and the same engines are theirs: stop all of those, and give "
                    "every writer the same count in WRITER_SHARD"
                )
            await self._db.execute(_MINE, self._base, count)
            await self._adopt()

    async def _adopt(self) -> None:
        rows = await self._rows()
        counts = {shard.count for shard in rows}
        floors = [_floor(rows, count) for count in sorted(counts)]
        start = {
            stream: max((floor[stream] for floor in floors), key=_key, default=_BEGINNING)
            for stream in STREAMS
        }
        raised = []
        for shard in shards(self._shard.count):
            offsets = rows.setdefault(shard, {})
            for stream in STREAMS:
                if stream not in offsets or _key(offsets[stream]) < _key(start[stream]):
                    offsets[stream] = start[stream]
                    raised.append((shard.consumer(self._base), stream, *start[stream]))
        await self._db.executemany(
            "insert into stream_offsets (consumer, stream, last_id, entries) "
            "values ($1, $2, $3, $4) on conflict (consumer, stream) do update "
            "set last_id = excluded.last_id, entries = excluded.entries, updated_at = now()",
            raised,
        )
        if raised and counts - {self._shard.count}:
            log.warning(
                "the number of writers has changed",
                now=self._shard.count,
                before=sorted(counts - {self._shard.count}),
            )
        self._joined = rows
        self._remember(rows)

    async def _rows(self) -> dict[Shard, dict[str, Position]]:
        rows: dict[Shard, dict[str, Position]] = {}
        for row in await self._db.fetch(
            "select consumer, stream, last_id, entries from stream_offsets"
        ):
            shard = shard_of(self._base, row["consumer"])
            if shard is not None:
                rows.setdefault(shard, {})[row["stream"]] = row["last_id"], row["entries"]
        return rows

    def _remember(self, rows: dict[Shard, dict[str, Position]]) -> None:
        self._before = [
            (shard, {stream: _key(position) for stream, position in offsets.items()})
            for shard, offsets in rows.items()
            if shard.count != self._shard.count
        ]

    def takes(self, entry: Entry) -> bool:
        """Whether an entry is this writer's to commit."""
        instance = entry.instance
        if not self._shard.owns(instance):
            return False
        if self._before:
            key = id_key(entry.id.decode())
            for shard, committed in self._before:
                if key <= committed.get(entry.stream, (0, 0)) and shard.owns(instance):
                    return False
        return True

    async def floor(self) -> dict[str, str]:
        """How far the slowest writer has come, by stream: nothing past it may be trimmed.

        A writer that never ran holds its streams at the place where its count began.
        """
        rows = await self._rows()
        floor = _floor(rows, self._shard.count)
        for shard in [shard for shard in rows if shard.count != self._shard.count]:
            passed = [
                stream
                for stream, position in rows[shard].items()
                if _key(position) <= _key(floor.get(stream, position))
            ]
            if passed:
                await self._db.execute(
                    "delete from stream_offsets where consumer = $1 and stream = any($2)",
                    shard.consumer(self._base),
                    passed,
                )
                rows[shard] = {
                    stream: position
                    for stream, position in rows[shard].items()
                    if stream not in passed
                }
                if not rows[shard]:
                    del rows[shard]
        self._remember(rows)
        return {stream: last_id for stream, (last_id, _) in floor.items()}

    async def rewind(self, newest: dict[str, str]) -> list[str]:
        """Starts over what Redis lost: streams whose newest id lies before an offset.

        For all writers: what one of them rereads must not be trimmed because
        another seems to have it, nor passed over because an earlier one had it.

        Args:
            newest: each stream's newest id ever, asked for after :meth:`join`; so no
                offset lies after it that a peer has moved in the meantime.

        Returns:
            Streams that this writer reads from their beginning.
        """
        for shard, offsets in self._joined.items():
            for stream in _ahead(offsets, newest):
                await self._db.execute(
                    "update stream_offsets set last_id = $4, entries = 0, updated_at = now() "
                    "where consumer = $1 and stream = $2 and last_id = $3",
                    shard.consumer(self._base),
                    stream,
                    offsets[stream][0],
                    START,
                )
        self._remember(await self._rows())
        return _ahead(self._joined[self._shard], newest)


def _key(position: Position) -> tuple[int, int]:
    return id_key(position[0])


def _ahead(offsets: dict[str, Position], newest: dict[str, str]) -> list[str]:
    return [
        stream
        for stream in STREAMS
        if _key(offsets.get(stream, _BEGINNING)) > id_key(newest[stream])
    ]


def _floor(rows: dict[Shard, dict[str, Position]], count: int) -> dict[str, Position]:
    """The lowest position of a count's writers, by stream."""
    held = [rows.get(shard, {}) for shard in shards(count)]
    return {
        stream: min((offsets.get(stream, _BEGINNING) for offsets in held), key=_key)
        for stream in STREAMS
    }
