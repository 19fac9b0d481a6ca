"""Commits batches: rows, offsets and sequence state in one transaction.

Safe to repeat: offsets only move from the very value that the batch was read
from, and events are recognised by instance and seq.
"""

import time
from binascii import unhexlify
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from operator import attrgetter
from typing import Final

import asyncpg
import msgspec
import structlog

from ingest import metrics, presence, tables
from ingest.batch import (
    DeadLetter,
    Item,
    Row,
    from_micros,
    parse,
    refuse,
)
from ingest.entry import START, Entry
from ingest.instances import Instances
from ingest.ledger import Report, Sums
from ingest.miners import Miners
from ingest.presence import Presence
from ingest.updates import Updates

# Faults of the data: the batch is halved until the row that the database refuses
# stands alone.
REFUSALS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.UntranslatableCharacterError,
)
_DAY: Final = 86_400_000_000  # microseconds
RECENT_BLOCKS: Final = 10_000
_STREAM: Final = attrgetter("stream")

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.store")


class OffsetsMovedError(RuntimeError):
    """Another writer committed under the same consumer name."""


class Committed(msgspec.Struct):
    """What one transaction did."""

    offsets: dict[str, tuple[str, int]]
    week_bests: list[tuple[date, str, float]]  # week, user, best difficulty: raised ones
    entries: int = 0  # that were this writer's


class Store:
    """A database that takes batches.

    Args:
        connection: made by the writer, prepared with :func:`ingest.codecs.prepare`.
        consumer: name that offsets are kept under.
        retention: shares and events older than this are refused.
        plain: whether partitions are ours to make (plain PostgreSQL).
        known: what is known of miners; outlives the connection.
        takes: tells which entries are this writer's where several share the work;
            offsets move over the others. None where it is alone.

    Attributes:
        offsets: last committed id by stream.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        consumer: str,
        retention: timedelta,
        *,
        plain: bool,
        known: Presence | None = None,
        takes: Callable[[Entry], bool] | None = None,
    ) -> None:
        self._db = connection
        self._consumer = consumer
        self._retention = retention
        self._plain = plain
        self._presence = known or Presence()
        self._takes = takes
        # Last id and number of the entries that came since the last commit and are
        # another writer's, by stream.
        self._passed: dict[str, tuple[str, int]] = {}
        self._days: set[int] = set()  # since the epoch
        self._miners = Miners()
        self._instances = Instances()
        self._blocks: dict[bytes, None] = {}
        self.offsets: dict[str, str] = {}

    async def confirm(self) -> None:
        """Makes sure that the stored offsets are still the ones that this writer set.

        Raises:
            OffsetsMovedError: they were moved meanwhile, by an operator or another writer.
        """
        rows = await self._db.fetch(
            "select stream, last_id from stream_offsets where consumer = $1", self._consumer
        )
        if {row["stream"]: row["last_id"] for row in rows} != self.offsets:
            raise OffsetsMovedError("the offsets were moved: reading from where they are now")

    async def open(self, streams: tuple[str, ...]) -> dict[str, tuple[str, int]]:
        """Loads where to go on reading: last id and entries read, by stream."""
        await self._db.executemany(
            "insert into stream_offsets (consumer, stream, last_id) values ($1, $2, $3) "
            "on conflict do nothing",
            [(self._consumer, stream, START) for stream in streams],
        )
        rows = await self._db.fetch(
            "select stream, last_id, entries from stream_offsets where consumer = $1",
            self._consumer,
        )
        self.offsets = {row["stream"]: row["last_id"] for row in rows}
        for row in await self._db.fetch(
            "select block_hash from blocks order by found_at desc limit $1", RECENT_BLOCKS
        ):
            self._blocks[unhexlify(row["block_hash"])] = None
        return {row["stream"]: (row["last_id"], row["entries"]) for row in rows}

    def parse(self, entries: list[Entry]) -> list[Item]:
        """What those of the entries say that are this writer's."""
        if self._takes is None:
            return [parse(entry) for entry in entries]
        return [parse(entry) for entry in entries if self._takes(entry)]

    async def commit(
        self, entries: list[Entry], items: list[Item] | None = None
    ) -> list[Committed]:
        """Commits entries; what the database refuses becomes a dead letter.

        Where all of them are another writer's, nothing is committed, and their
        offsets move with the next commit or :meth:`settle`.

        Args:
            entries: in the order of each stream.
            items: what :meth:`parse` made of them, where that was done before.

        Raises:
            OffsetsMovedError: another writer took over.
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: the
                database is away or fails; nothing of the batch is committed
                unless it was halved, and then the offsets tell how far.
        """
        if items is None:
            items = self.parse(entries)
        if not items:
            self._passed = self._offsets(entries)
            return []
        try:
            return [await self._commit(entries, items)]
        except REFUSALS as error:
            self._instances.drop()
            # A partition may have been dropped under us: look again.
            self._days.clear()
            if len(entries) > 1:
                half = len(entries) // 2
                return await self.commit(entries[:half]) + await self.commit(entries[half:])
            log.warning("the database refuses an event", error=str(error), stream=entries[0].stream)
            letter = refuse(entries[0], "database", f"{type(error).__name__}: {error}")
            return [await self._commit(entries, [letter])]
        except BaseException:
            self._instances.drop()
            raise

    async def settle(self) -> dict[str, tuple[str, int]]:
        """Moves the offsets over entries that were another writer's.

        Returns:
            Last id and number of these entries, by stream.

        Raises:
            OffsetsMovedError: another writer took over.
        """
        passed, self._passed = self._passed, {}
        if passed:
            async with self._db.transaction():
                await self._move_offsets(passed)
            self.offsets.update((stream, last) for stream, (last, _) in passed.items())
        return passed

    def _offsets(self, entries: list[Entry]) -> dict[str, tuple[str, int]]:
        """Last id and number of entries by stream, those passed over before included."""
        offsets = dict(self._passed)
        counts = Counter(map(_STREAM, entries))
        for stream, last in {entry.stream: entry for entry in entries}.items():
            offsets[stream] = last.id.decode(), counts[stream]
        for stream, (_, count) in self._passed.items():
            if stream in counts:
                offsets[stream] = offsets[stream][0], counts[stream] + count
        return offsets

    async def _commit(self, entries: list[Entry], items: list[Item]) -> Committed:
        events = [item for item in items if not isinstance(item, Report)]
        sums = Sums()
        for item in items:
            if isinstance(item, Report):
                sums.report(item)
        sources: dict[str, str | None] = dict.fromkeys(sums.instances())
        for event in events:
            if event.instance is not None:
                known = sources.get(event.instance)
                sources[event.instance] = event.source if isinstance(event, Row) else known
        await self._instances.load(self._db, sources)
        doubtful = self._instances.doubtful(events)
        await self._miners.resolve(
            self._db, [event for event in doubtful if isinstance(event, Row)]
        )
        stored = await tables.find_stored(self._db, doubtful, self._instances.number)
        new, resent = self._instances.sift(events, stored)
        rows: list[Row] = []
        letters: list[DeadLetter] = []
        now = time.time_ns() // 1000
        oldest = now - self._retention // timedelta(microseconds=1)
        for item in new:
            if isinstance(item, DeadLetter):
                letters.append(item)
            elif item.micros < oldest:
                letters.append(
                    refuse(item.entry, "past_retention", f"{item.time.isoformat()} is too old")
                )
            else:
                rows.append(item)
        sums.add("committed", rows)
        sums.add("dead_lettered", letters)
        sums.add("duplicates", resent)
        if self._plain:
            await self._ensure_days(rows)
        await self._miners.resolve(self._db, rows)
        plan = self._presence.plan(Updates(rows, now), time.monotonic())
        offsets = self._offsets(entries)
        number = self._instances.number
        async with self._db.transaction():
            await self._move_offsets(offsets)
            found = await tables.insert_blocks(self._db, rows)
            weekly = await tables.copy_shares(self._db, rows, number, self._blocks)
            await tables.copy_events(self._db, rows, number)
            await tables.mark_block_shares(self._db, found)
            if self._takes is not None:
                await presence.lock(self._db, plan, {row.user_id for row in rows})
            await presence.write(self._db, plan)
            bests = await tables.upsert_weekly(self._db, weekly)
            await tables.insert_network_blocks(self._db, rows)
            await tables.note_late_hours(self._db, rows, now)
            await tables.insert_letters(self._db, letters)
            await self._instances.save(self._db)
            await tables.add_to_ledger(self._db, sums, number)
        self._instances.keep()
        self._presence.keep(plan, time.monotonic())
        self._passed.clear()
        self.offsets.update((stream, last) for stream, (last, _) in offsets.items())
        for row in found:
            self._remember_block(unhexlify(row.data.hash))
        self._count(rows, letters, resent)
        return Committed(offsets, bests, len(items))

    async def tell(self, *, everything: bool = False) -> None:
        """Writes when miners were last seen, where that waits and is due.

        Args:
            everything: also what is not due yet.
        """
        now = time.monotonic()
        if everything or self._presence.due(now):
            plan = self._presence.plan(Updates([], 0), now, everything=everything)
            async with self._db.transaction():
                if self._takes is not None:
                    await presence.lock(self._db, plan, set())
                await presence.write(self._db, plan)
            self._presence.keep(plan, now)

    def _count(
        self,
        rows: list[Row],
        letters: list[DeadLetter],
        resent: list[Row | DeadLetter],
    ) -> None:
        for event, count in Counter(row.event for row in rows).items():
            metrics.COMMITTED.labels(event).inc(count)
        for letter in letters:
            if letter.stage == "writer":
                metrics.DEAD_LETTERED.labels("writer", letter.reason).inc()
        metrics.DUPLICATES.inc(len(resent))
        times = [row.micros for row in rows if row.event == "share_submitted"]
        if times:
            metrics.SHARE_LATENCY.observe(max(0.0, time.time() - min(times) / 1e6))

    def _remember_block(self, block_hash: bytes) -> None:
        self._blocks[block_hash] = None
        if len(self._blocks) > RECENT_BLOCKS:
            del self._blocks[next(iter(self._blocks))]

    async def _ensure_days(self, rows: list[Row]) -> None:
        for day in sorted({row.micros // _DAY for row in rows} - self._days):
            await self._db.execute(
                "select ensure_partitions($1, $1)", from_micros(day * _DAY).date()
            )
            self._days.add(day)

    async def _move_offsets(self, offsets: dict[str, tuple[str, int]]) -> None:
        moved = await self._db.fetch(
            "update stream_offsets o set last_id = g.to_id, entries = o.entries + g.entries, "
            "updated_at = now() "
            "from unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) "
            "as g(stream, from_id, to_id, entries) "
            "where o.consumer = $1 and o.stream = g.stream and o.last_id = g.from_id "
            "returning o.stream",
            self._consumer,
            list(offsets),
            [self.offsets[stream] for stream in offsets],
            [last for last, _ in offsets.values()],
            [count for _, count in offsets.values()],
        )
        if len(moved) != len(offsets):
            raise OffsetsMovedError(
                f"another writer commits as {self._consumer!r}: stop it, or set CONSUMER"
            )
