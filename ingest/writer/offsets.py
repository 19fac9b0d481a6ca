"""The writer's position in each stream, and marks of what it committed.

The database holds both, in the transaction of the rows. A position only moves from the value
that it was read from, so two writers never commit the same entries. A position and a mark
know their entry by content: :mod:`ingest.writer.resume` looks it up.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Final, NamedTuple

import asyncpg
import msgspec

from tbg_core.entry import DIGEST, START, Entry, id_key
from tbg_core.names import STREAMS

# Entries between two marks of a stream at least: so many a way back may read again, and so
# exactly are committed entries counted.
GRAIN: Final = 100

_STREAM: Final = attrgetter("stream")


class OffsetsMovedError(RuntimeError):
    """The offsets in the database are not the ones that this writer set."""


class Position(NamedTuple):
    """A place in a stream.

    Attributes:
        last_id: of the last entry before it, :data:`tbg_core.entry.START` at the beginning.
        entries: up to it since the stream began, as far as that is known.
        entry: what :attr:`tbg_core.entry.Entry.mark` says of that entry; None if it is not known.
    """

    last_id: str = START
    entries: int = 0
    entry: str | None = None


Positions = dict[str, Position]  # by stream


class Step(msgspec.Struct):
    """What a commit adds to a stream's position.

    Attributes:
        entries: read.
        fresh: of these, committed for the first time.
        unnumbered: digests of those that cannot be recognised by a number.
    """

    last_id: str
    entry: str
    entries: int
    fresh: int
    unnumbered: bytes = b""


Steps = dict[str, Step]  # by stream


class Marks:
    """The marks of a stream that count, in the order of their ids."""

    def __init__(self) -> None:
        self._marks: list[tuple[tuple[int, int], str, int]] = []
        self.entries = 0

    @property
    def first(self) -> str:
        """Nothing is known to be in Redis of what lies before this id."""
        return self._marks[0][1] if self._marks else START

    def add(self, last_id: str, entries: int) -> None:
        """So many entries were committed up to this one."""
        insort(self._marks, (id_key(last_id), last_id, entries))
        self.entries += entries

    def spare(self, keep: int, committed: str) -> str | None:
        """Forgets what need not be kept.

        Args:
            keep: entries to keep.
            committed: nothing past this id is to spare.

        Returns:
            The id up to which entries may go, itself not included; None if none may.
        """
        upto = 0
        last = id_key(committed)
        while (
            upto < len(self._marks) - 1
            and self._marks[upto][0] <= last
            and self.entries - self._marks[upto][2] >= keep
        ):
            self.entries -= self._marks[upto][2]
            upto += 1
        if not upto:
            return None
        spared = self._marks[upto - 1][1]
        del self._marks[:upto]
        return spared

    def clear(self) -> None:
        """Forgets all of them: nothing is kept."""
        self._marks.clear()
        self.entries = 0


class Reread(NamedTuple):
    """A part of a stream that is read again, because the way back led before it."""

    upto: tuple[int, int]  # the id, as a key
    unnumbered: set[bytes]  # digests of what was committed there without a number


class Offsets:
    """A writer's positions.

    Args:
        connection: the writer's.
        consumer: name that they are kept under.
        keep: committed entries that stay in Redis; marks are as fine as that needs.
        cell: whose streams they are.

    Attributes:
        committed: last committed id by stream.
        entries: what is known of that entry, by stream.
        marks: by stream.
        rereads: what is read again, by stream.
        redis: the identity of the Redis whose streams these are.
    """

    def __init__(
        self, connection: asyncpg.Connection, consumer: str, keep: int = 0, cell: str = ""
    ) -> None:
        self._db = connection
        self._consumer = consumer
        self._cell = cell
        self._grain = max(GRAIN, keep // 64)
        self._unmarked: Counter[str] = Counter()
        self.redis = ""
        self.committed: dict[str, str] = {}
        self.entries: dict[str, str | None] = {}
        self.marks: dict[str, Marks] = {stream: Marks() for stream in STREAMS}
        self.rereads: dict[str, Reread] = {}

    def copy(self) -> "Offsets":
        """The same place, for a transaction that is taken back: nothing is read again there."""
        other = Offsets(self._db, self._consumer, cell=self._cell)
        other.redis, other.committed, other.entries = (
            self.redis,
            {**self.committed},
            {**self.entries},
        )
        return other

    async def load(self) -> Positions:
        """Reads where to continue."""
        await self._db.executemany(
            "insert into stream_offsets (cell, consumer, stream, last_id) "
            "values ($1, $2, $3, $4) on conflict do nothing",
            [(self._cell, self._consumer, stream, START) for stream in STREAMS],
        )
        rows = await self._db.fetch(
            "select stream, last_id, entries, entry, unmarked, redis from stream_offsets "
            "where cell = $1 and consumer = $2",
            self._cell,
            self._consumer,
        )
        self.redis = next((row["redis"] for row in rows if row["redis"]), "")
        self._unmarked = Counter({row["stream"]: row["unmarked"] for row in rows})
        positions = {row["stream"]: _position(row) for row in rows}
        self.committed = {stream: position.last_id for stream, position in positions.items()}
        self.entries = {stream: position.entry for stream, position in positions.items()}
        return positions

    async def confirm(self) -> None:
        """Makes sure that the database still holds what this writer committed.

        Raises:
            OffsetsMovedError: an operator or another writer has moved them.
        """
        rows = await self._db.fetch(
            "select stream, last_id from stream_offsets where cell = $1 and consumer = $2",
            self._cell,
            self._consumer,
        )
        if {row["stream"]: row["last_id"] for row in rows} != self.committed:
            raise OffsetsMovedError("the offsets were moved: reading from where they are now")

    def was_read(self, entry: Entry) -> bool:
        """Whether an entry lies where something is read again."""
        reread = self.rereads.get(entry.stream)
        return reread is not None and id_key(entry.id.decode()) <= reread.upto

    def after(
        self,
        entries: Iterable[Entry],
        unnumbered: Iterable[Entry] = (),
        recognised: Mapping[str, int] | None = None,
    ) -> Steps:
        """What committing these entries does to the positions.

        Args:
            entries: in the order of each stream.
            unnumbered: those of them that are stored and name no number.
            recognised: how many of each stream were committed before.
        """
        counts = Counter(map(_STREAM, entries))
        steps = {}
        for stream, last in {entry.stream: entry for entry in entries}.items():
            fresh = counts[stream] - (recognised or {}).get(stream, 0)
            steps[stream] = Step(last.id.decode(), last.mark, counts[stream], fresh)
        for entry in unnumbered:
            steps[entry.stream].unnumbered += entry.digest
        return steps

    async def move(self, steps: Steps) -> None:
        """Moves the stored positions, in the caller's transaction.

        Raises:
            OffsetsMovedError: another writer took over.
        """
        moved = await self._db.fetch(
            "update stream_offsets o set last_id = g.to_id, entries = o.entries + g.entries, "
            "entry = g.entry, unmarked = g.unmarked, updated_at = now() "
            "from unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[]) "
            "as g(stream, from_id, to_id, entries, entry, unmarked) "
            "where o.consumer = $1 and o.stream = g.stream and o.last_id = g.from_id "
            "and o.cell = $8 returning o.stream",
            self._consumer,
            list(steps),
            [self.committed[stream] for stream in steps],
            [step.last_id for step in steps.values()],
            [step.entries for step in steps.values()],
            [step.entry for step in steps.values()],
            [
                0 if self._marks(stream, step) else self._unmarked[stream] + step.fresh
                for stream, step in steps.items()
            ],
            self._cell,
        )
        if len(moved) != len(steps):
            raise OffsetsMovedError(
                "another writer works on these streams, and one writer serves a cell: stop one "
                "of them (a second one of this version waits as a standby)"
            )
        marked = [(stream, step) for stream, step in steps.items() if self._marks(stream, step)]
        if marked:
            await self._db.executemany(
                "insert into stream_marks as m "
                "(redis, stream, last_id, entry, entries, unnumbered) "
                "values ($1, $2, $3, $4, $5, $6) on conflict (redis, stream, last_id) do update "
                "set entry = excluded.entry, entries = m.entries + excluded.entries, "
                "unnumbered = m.unnumbered || excluded.unnumbered, committed_at = now()",
                [
                    (
                        self.redis,
                        stream,
                        step.last_id,
                        step.entry,
                        self._unmarked[stream] + step.fresh,
                        step.unnumbered,
                    )
                    for stream, step in marked
                ],
            )

    def _marks(self, stream: str, step: Step) -> bool:
        """Whether a step ends with a mark."""
        return bool(step.unnumbered) or self._unmarked[stream] + step.fresh >= self._grain

    def keep(self, steps: Steps) -> None:
        """The transaction of :meth:`move` is committed."""
        for stream, step in steps.items():
            self._unmarked[stream] += step.fresh
            if self._unmarked[stream] >= self._grain or step.unnumbered:
                self.marks[stream].add(step.last_id, self._unmarked[stream])
                self._unmarked[stream] = 0
            self.committed[stream] = step.last_id
            self.entries[stream] = step.entry
            reread = self.rereads.get(stream)
            if reread is not None and id_key(step.last_id) >= reread.upto:
                del self.rereads[stream]

    async def others(self) -> dict[str, tuple[str, Positions]]:
        """Identity of the Redis and positions of every other consumer of this cell."""
        found: dict[str, tuple[str, Positions]] = {}
        for row in await self._db.fetch(
            "select consumer, stream, last_id, entries, entry, coalesce(redis, '') as redis "
            "from stream_offsets where cell = $1 and consumer <> $2",
            self._cell,
            self._consumer,
        ):
            _, positions = found.setdefault(row["consumer"], (row["redis"], {}))
            if row["stream"] in STREAMS:
                positions[row["stream"]] = _position(row)
        return found

    async def other_cells(self) -> dict[str, str]:
        """Identity of the Redis of every other cell."""
        rows = await self._db.fetch(
            "select distinct cell, redis from stream_offsets "
            "where cell <> $1 and redis is not null",
            self._cell,
        )
        return {row["cell"]: row["redis"] for row in rows}

    async def forget(self, consumer: str) -> None:
        """Another consumer's work goes on here."""
        await self._db.execute(
            "delete from stream_offsets where cell = $1 and consumer = $2", self._cell, consumer
        )

    async def note(self, now: int, oldest: Mapping[str, int]) -> None:
        """Notes for other programs, which may not reach this Redis, what waits in it.

        Args:
            now: Redis's clock, in milliseconds.
            oldest: when the oldest entry came that is not committed, by stream, where one waits.
        """
        await self._db.execute(
            "update stream_offsets o set looked_at = to_timestamp($3::bigint / 1000.0), "
            "waits_since = (select to_timestamp(g.since / 1000.0) "
            "from unnest($4::text[], $5::bigint[]) as g(stream, since) where g.stream = o.stream) "
            "where cell = $1 and consumer = $2",
            self._cell,
            self._consumer,
            now,
            list(oldest),
            list(oldest.values()),
        )

    async def place(self, redis: str, positions: Positions, former: Positions) -> None:
        """Sets the positions, and keeps those of another place as marks.

        Args:
            redis: the identity of the Redis whose streams they are.
            positions: where to go on.
            former: what was stored; what is known of another Redis is kept for its return.

        Raises:
            OffsetsMovedError: another writer is at work.
        """
        left = {
            stream: position
            for stream, position in former.items()
            if position != positions[stream] and position.entry is not None
        }
        async with self._db.transaction():
            await self._db.executemany(
                "insert into stream_marks (redis, stream, last_id, entry, entries, unnumbered) "
                "values ($1, $2, $3, $4, 0, '') on conflict do nothing",
                [
                    (self.redis, stream, position.last_id, position.entry)
                    for stream, position in left.items()
                    if self.redis
                ],
            )
            moved = await self._db.fetch(
                "update stream_offsets o set redis = $2, last_id = g.to_id, entries = g.entries, "
                "entry = g.entry, "
                "unmarked = case when o.last_id = g.to_id then o.unmarked else 0 end "
                "from unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[]) "
                "as g(stream, from_id, to_id, entries, entry) "
                "where o.consumer = $1 and o.stream = g.stream and o.last_id = g.from_id "
                "and o.cell = $8 returning o.stream, o.unmarked",
                self._consumer,
                redis,
                list(positions),
                [former[stream].last_id for stream in positions],
                [position.last_id for position in positions.values()],
                [position.entries for position in positions.values()],
                [position.entry for position in positions.values()],
                self._cell,
            )
            if len(moved) != len(positions):
                raise OffsetsMovedError("another writer moved the offsets")
        self.redis = redis
        self._unmarked = Counter({row["stream"]: row["unmarked"] for row in moved})
        self.committed = {stream: position.last_id for stream, position in positions.items()}
        self.entries = {stream: position.entry for stream, position in positions.items()}

    async def find_marks(self, redis: str, stream: str) -> Positions:
        """The marks of a stream by their ids, the newest first."""
        rows = await self._db.fetch(
            "select last_id, entry from stream_marks where redis = $1 and stream = $2",
            redis,
            stream,
        )
        rows.sort(key=lambda row: id_key(row["last_id"]), reverse=True)
        return {row["last_id"]: Position(row["last_id"], 0, row["entry"]) for row in rows}

    async def identities(self) -> list[str]:
        """Every Redis of which something is marked."""
        rows = await self._db.fetch("select distinct redis from stream_marks order by 1")
        return [row["redis"] for row in rows]

    async def lose_marks(self, stream: str) -> None:
        """What was marked past the position is in Redis no more."""
        last = id_key(self.committed[stream])
        ids = [one for one in await self.find_marks(self.redis, stream) if id_key(one) > last]
        await self._db.execute(
            "update stream_marks set entries = 0 "
            "where redis = $1 and stream = $2 and last_id = any($3)",
            self.redis,
            stream,
            ids,
        )

    async def load_marks(self, oldest: Mapping[str, str]) -> None:
        """Reads the marks of the streams, and what of them is read again.

        Args:
            oldest: each stream's oldest id.
        """
        self.rereads.clear()
        for marks in self.marks.values():
            marks.clear()
        rows = await self._db.fetch(
            "select stream, last_id, entries from stream_marks where redis = $1", self.redis
        )
        ahead: dict[str, list[str]] = {}
        for row in rows:
            stream, last_id, entries = row
            if stream not in self.marks:
                continue
            if entries and id_key(last_id) >= id_key(oldest[stream]):
                self.marks[stream].add(last_id, entries)
            if id_key(last_id) > id_key(self.committed[stream]):
                ahead.setdefault(stream, []).append(last_id)
        for stream, ids in ahead.items():
            known = await self._db.fetch(
                "select unnumbered from stream_marks "
                "where redis = $1 and stream = $2 and last_id = any($3) and unnumbered <> ''",
                self.redis,
                stream,
                ids,
            )
            digests = b"".join(row["unnumbered"] for row in known)
            self.rereads[stream] = Reread(
                max(map(id_key, ids)),
                {digests[at : at + DIGEST] for at in range(0, len(digests), DIGEST)},
            )

    async def prune(self) -> None:
        """Forgets marks that no loss of Redis brings back."""
        first = {stream: marks.first.split("-") for stream, marks in self.marks.items()}
        await self._db.execute(
            _PRUNE,
            self.redis,
            list(first),
            [millis for millis, _ in first.values()],
            [number for _, number in first.values()],
        )


def _position(row: asyncpg.Record) -> Position:
    entry = row["entry"]
    if entry is not None and not entry.startswith(f"{row['last_id']} "):
        entry = None  # the offset was moved by hand, or by a version before this one
    return Position(row["last_id"], row["entries"], entry)


_PRUNE: Final = """
delete from stream_marks m using unnest($2::text[], $3::text[], $4::text[])
    as g(stream, millis, number)
where m.stream = g.stream and case
    when m.redis <> $1 then m.committed_at < now() - interval '30 days'
        and m.redis not in (select redis from stream_offsets where redis is not null)
    else m.committed_at < now() - interval '1 hour'
        and (split_part(m.last_id, '-', 1)::numeric, split_part(m.last_id, '-', 2)::numeric)
            < (g.millis::numeric, g.number::numeric)
end
"""
