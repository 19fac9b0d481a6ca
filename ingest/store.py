"""Commits batches: rows, offsets and sequence state in one transaction.

Safe to repeat: offsets only move from the very value that the batch was read
from, and events are recognised by instance and seq.
"""

import time
from binascii import unhexlify
from collections import Counter
from datetime import date, timedelta
from typing import Final

import asyncpg
import msgspec
import structlog

from ingest import metrics, presence, tables
from ingest.batch import (
    DeadLetter,
    Item,
    Row,
    parse,
    refuse,
)
from ingest.calendar import DAY, from_micros
from ingest.entry import Entry
from ingest.instances import Instances
from ingest.ledger import Report, Sums
from ingest.miners import Miners
from ingest.offsets import Offsets, Positions
from ingest.presence import Presence
from ingest.weekly import Bests, Weekly

# Errors that say nothing about the data, by the class of their SQLSTATE (PostgreSQL's
# appendix A): connection, transaction state, authorisation, missing catalog or schema,
# rollback by the server, resources, object in use, intervention, system, configuration.
# Every other error is the fault of a row: the batch is halved until it stands alone.
_SERVER_CLASSES: Final = frozenset(
    {"08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "F0"}
)
_SERVER_STATES: Final = frozenset({"XX001", "XX002"})  # corrupted data, corrupted index
_FAILURES: Final = (asyncpg.PostgresError, ValueError, OverflowError)
RECENT_BLOCKS: Final = 10_000

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.store")


class Committed(msgspec.Struct):
    """What one transaction did."""

    positions: Positions
    week_bests: list[tuple[date, str, float]]  # week, user, best difficulty: raised ones


def is_refusal(error: Exception) -> bool:
    """Whether an error is about the data, and not about the connection or the server.

    What cannot be sent at all (asyncpg says so with a ``ValueError``) is about the data.
    """
    if not isinstance(error, asyncpg.PostgresError):
        return isinstance(error, ValueError | OverflowError)
    state = error.sqlstate or ""
    return state[:2] not in _SERVER_CLASSES and state not in _SERVER_STATES


class Store:
    """A database that takes batches.

    Args:
        connection: made by the writer, prepared with :func:`ingest.codecs.prepare`.
        offsets: move with every commit.
        retention: shares and events older than this are refused.
        plain: whether partitions are ours to make (plain PostgreSQL).

    Attributes:
        bests: what is known of the open weeks; :meth:`Leaderboard.reconcile` fills it.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        offsets: Offsets,
        retention: timedelta,
        *,
        plain: bool,
    ) -> None:
        self._db = connection
        self._offsets = offsets
        self._retention = retention
        self._plain = plain
        # As the connection: a database that was restored has other numbers and rows.
        self._presence = Presence()
        self._miners = Miners(self._presence)
        self.bests = Bests()
        self._days: set[int] = set()  # since the epoch
        self._instances = Instances()
        self._blocks: dict[bytes, None] = {}

    async def open(self) -> None:
        """Loads the blocks that were found lately."""
        for row in await self._db.fetch(
            "select block_hash from blocks order by found_at desc limit $1", RECENT_BLOCKS
        ):
            self._blocks[unhexlify(row["block_hash"])] = None

    async def commit(
        self, entries: list[Entry], items: list[Item] | None = None
    ) -> list[Committed]:
        """Commits entries; what the database refuses becomes a dead letter.

        Args:
            entries: in the order of each stream.
            items: what :func:`ingest.batch.parse` made of them, where that was done before.

        Raises:
            OffsetsMovedError: another writer took over.
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: the
                database is away or fails; nothing of the batch is committed
                unless it was halved, and then the offsets tell how far.
        """
        if items is None:
            items = [parse(entry) for entry in entries]
        try:
            return [await self._commit(entries, items)]
        except _FAILURES as error:
            self._instances.drop()
            if not is_refusal(error):
                raise
            # A partition may have been dropped under us: look again.
            self._days.clear()
            if len(entries) > 1:
                half = len(entries) // 2
                return await self.commit(entries[:half]) + await self.commit(entries[half:])
            return [await self._refuse(entries, items, error)]
        except BaseException:
            self._instances.drop()
            raise

    async def _refuse(self, entries: list[Entry], items: list[Item], error: Exception) -> Committed:
        """Makes a dead letter of the one entry that the database refuses."""
        # Once more: what a change of the schema spoils once is not the row's fault.
        try:
            return await self._commit(entries, items)
        except _FAILURES as again:
            self._instances.drop()
            if not is_refusal(again):
                raise
        log.warning("the database refuses an event", error=str(error), stream=entries[0].stream)
        letter = refuse(entries[0], "database", f"{type(error).__name__}: {error}")
        try:
            return await self._commit(entries, [letter])
        except _FAILURES as again:
            self._instances.drop()
            if not is_refusal(again):
                raise
            # Not even under its name and number: the bytes are kept without them.
            letter.instance = letter.seq = None
            return await self._commit(entries, [letter])

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
        plan = self._presence.plan(rows, now)
        weekly = Weekly(self.bests)
        positions = self._offsets.after(entries)
        number = self._instances.number
        async with self._db.transaction():
            await self._offsets.move(positions)
            found = await tables.insert_blocks(self._db, rows)
            await tables.copy_shares(self._db, rows, number, self._blocks, weekly)
            await tables.copy_events(self._db, rows, number)
            await tables.mark_block_shares(self._db, found)
            written = await presence.write(self._db, plan)
            raised = await tables.upsert_weekly(self._db, weekly)
            await tables.insert_network_blocks(self._db, rows)
            await tables.insert_proofs(self._db, rows)
            await tables.note_late_hours(self._db, rows, now)
            await tables.insert_letters(self._db, letters)
            await self._instances.save(self._db)
            await tables.add_to_ledger(self._db, sums, number)
        self._instances.keep()
        self._presence.keep(plan, written)
        for week, user, _, best in raised:
            self.bests.learn(week, user, best)
        self._offsets.keep(positions)
        for row in found:
            self._remember_block(unhexlify(row.data.hash))
        self._count(rows, letters, resent)
        bests = [(week, address, best) for week, _, address, best in raised]
        return Committed(positions, bests)

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
        for day in sorted({row.micros // DAY for row in rows} - self._days):
            await self._db.execute(
                "select ensure_partitions($1, $1)", from_micros(day * DAY).date()
            )
            self._days.add(day)
