"""Commits batches: rows, offsets and sequence state in one transaction.

Safe to repeat: offsets only move from the very value that the batch was read
from, and events are recognised by instance and seq.
"""

import ipaddress
import time
from binascii import unhexlify
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from ingest import metrics, presence
from ingest.batch import (
    DeadLetter,
    Item,
    Row,
    StreamEntry,
    from_micros,
    parse,
    refuse,
)
from ingest.instances import Instances
from ingest.ledger import Report, Sums
from ingest.miners import Miners
from ingest.presence import Presence
from ingest.streams import START
from ingest.updates import Updates
from ingest.weekly import Weekly

# Faults of the data: the batch is halved until the row that the database refuses
# stands alone.
REFUSALS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.UntranslatableCharacterError,
)
# Microseconds: the hourly rollup runs two minutes past the hour.
LATE_AFTER: Final = 120_000_000
_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR
RECENT_BLOCKS: Final = 10_000
SHARE_COLUMNS: Final = (
    "time", "share_diff", "difficulty", "seq", "user_id", "worker_id", "instance_id",
    "is_valid", "is_block", "source", "nonce", "nonce2", "share_hash", "job_id",
    "ip_address", "reject_reason",
)  # fmt: skip
_STREAM: Final = attrgetter("stream")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_POSTGRES_EPOCH: Final = 946_684_800_000_000  # 2000-01-01, in microseconds since 1970
EVENT_COLUMNS: Final = ("time", "seq", "instance_id", "event", "source", "payload")

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.store")


class OffsetsMovedError(RuntimeError):
    """Another writer committed under the same consumer name."""


class Committed(msgspec.Struct):
    """What one transaction did."""

    offsets: dict[str, tuple[str, int]]
    week_bests: list[tuple[date, str, float]]  # week, user, best difficulty: raised ones
    entries: int = 0  # that were this writer's


@lru_cache(maxsize=65_536)
def pack_inet(text: str) -> bytes:
    """An IP address in PostgreSQL's binary form of inet (src/backend network.c)."""
    address = ipaddress.ip_address(text)
    family = 2 if address.version == 4 else 3
    return bytes((family, address.max_prefixlen, 0, len(address.packed))) + address.packed


def pack_time(moment: int | datetime) -> tuple[int]:
    """A time, or microseconds since the epoch, as PostgreSQL counts: from the year 2000."""
    if isinstance(moment, datetime):
        moment = (moment - _EPOCH) // timedelta(microseconds=1)
    return (moment - _POSTGRES_EPOCH,)


async def prepare(connection: asyncpg.Connection) -> None:
    """Sets the connection's codecs; it takes times in microseconds, too."""
    # asyncpg's own codecs parse the address of every share anew, and shift every time
    # to UTC.
    await connection.set_type_codec(
        "inet", schema="pg_catalog", encoder=pack_inet, decoder=bytes, format="binary"
    )
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=pack_time,
        decoder=lambda counted: from_micros(counted[0] + _POSTGRES_EPOCH),
        format="tuple",
    )


class Store:
    """A database that takes batches.

    Args:
        connection: made by the writer, prepared with :func:`prepare`.
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
        takes: Callable[[StreamEntry], bool] | None = None,
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

    def parse(self, entries: list[StreamEntry]) -> list[Item]:
        """What those of the entries say that are this writer's."""
        if self._takes is None:
            return [parse(entry) for entry in entries]
        return [parse(entry) for entry in entries if self._takes(entry)]

    async def commit(
        self, entries: list[StreamEntry], items: list[Item] | None = None
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

    def _offsets(self, entries: list[StreamEntry]) -> dict[str, tuple[str, int]]:
        """Last id and number of entries by stream, those passed over before included."""
        offsets = dict(self._passed)
        counts = Counter(map(_STREAM, entries))
        for stream, last in {entry.stream: entry for entry in entries}.items():
            offsets[stream] = last.id.decode(), counts[stream]
        for stream, (_, count) in self._passed.items():
            if stream in counts:
                offsets[stream] = offsets[stream][0], counts[stream] + count
        return offsets

    async def _commit(self, entries: list[StreamEntry], items: list[Item]) -> Committed:
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
        new, resent = self._instances.sift(events)
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
        async with self._db.transaction():
            await self._move_offsets(offsets)
            found = await self._insert_blocks(rows)
            weekly = await self._copy_shares(rows)
            await self._copy_events(rows)
            await self._mark_block_shares(found)
            if self._takes is not None:
                await presence.lock(self._db, plan, {row.user_id for row in rows})
            await presence.write(self._db, plan)
            bests = await self._upsert_weekly(weekly)
            await self._insert_network_blocks(rows)
            await self._note_late_hours(rows, now)
            await self._insert_letters(letters)
            await self._instances.save(self._db)
            await self._add_to_ledger(sums)
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

    async def _insert_blocks(self, rows: list[Row]) -> list[Row]:
        found = [row for row in rows if row.event == "block_found"]
        if found:
            # A winning share that is sent again fires again: the hash is the block.
            await self._db.executemany(
                "insert into blocks (block_height, block_hash, prev_hash, user_id, worker_id, "
                "reward_sats, fees_sats, difficulty, network_difficulty, coinbase_sig, found_at, "
                "source) values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12) "
                "on conflict (block_hash) do nothing",
                [
                    (
                        row.data.height,
                        row.data.hash.lower(),
                        row.data.prev_hash.lower() if row.data.prev_hash else None,
                        row.user_id,
                        row.worker_id,
                        row.data.reward_sats,
                        row.data.fees_sats,
                        row.data.difficulty,
                        row.data.network_difficulty,
                        row.data.coinbase_sig,
                        row.time,
                        row.source,
                    )
                    for row in found
                ],
            )
        return found

    async def _copy_shares(self, rows: list[Row]) -> Weekly:
        solved = self._blocks | {
            unhexlify(row.data.hash): None for row in rows if row.event == "block_found"
        }
        weekly = Weekly()
        records: list[tuple[Any, ...]] = []
        number = self._instances.number
        for row in rows:
            if row.event != "share_submitted":
                continue
            data = row.data
            share_hash = unhexlify(data.hash) if data.hash else None
            records.append(
                (
                    row.micros,
                    data.share_diff,
                    data.difficulty,
                    row.seq,
                    row.user_id,
                    row.worker_id,
                    number(row.instance),
                    data.valid,
                    share_hash in solved,
                    row.source,
                    unhexlify(data.nonce) if data.nonce else None,
                    unhexlify(data.nonce2) if data.nonce2 else None,
                    share_hash,
                    data.job_id,
                    data.ip,
                    data.reject_reason,
                )
            )
            if data.valid:
                weekly.add(row, share_hash)
        if records:
            await self._db.copy_records_to_table("shares", records=records, columns=SHARE_COLUMNS)
        return weekly

    async def _copy_events(self, rows: list[Row]) -> None:
        number = self._instances.number
        records = [
            (
                row.micros,
                row.seq,
                number(row.instance),
                row.event,
                row.source,
                row.raw_data.decode(),
            )
            for row in rows
            if row.event != "share_submitted"
        ]
        if records:
            await self._db.copy_records_to_table(
                "mining_events", records=records, columns=EVENT_COLUMNS
            )

    async def _mark_block_shares(self, found: list[Row]) -> None:
        # The share may be in an earlier batch; its time is the block's, nearly.
        for row in found:
            await self._db.execute(
                "update shares set is_block = true where user_id = $1 and share_hash = $2 "
                "and time between $3 and $4 and not is_block",
                row.user_id,
                unhexlify(row.data.hash),
                row.micros - _HOUR,
                row.micros + _HOUR,
            )

    async def _upsert_weekly(self, weekly: Weekly) -> list[tuple[date, str, float]]:
        bests: list[tuple[date, str, float]] = []
        for week, sums in sorted(weekly.weeks.items()):
            items = sorted(sums.items())
            written = await self._db.fetch(
                _UPSERT_WEEKLY,
                week,
                [user for user, _ in items],
                [sum_.best for _, sum_ in items],
                [sum_.micros for _, sum_ in items],
                [sum_.worker_id for _, sum_ in items],
                [sum_.share_hash for _, sum_ in items],
                [sum_.shares for _, sum_ in items],
                [sum_.work for _, sum_ in items],
            )
            # Who had a better one before has it in the leaderboard, too.
            bests += [
                (week, sum_.user, sum_.best)
                for row in written
                if (sum_ := sums[row["user_id"]]).best == row["best_difficulty"]
            ]
        return bests

    async def _insert_network_blocks(self, rows: list[Row]) -> None:
        # In one order, because the engines of all writers see the same blocks.
        tips = sorted(
            (row for row in rows if row.event == "new_block_network"),
            key=lambda row: row.data.hash.lower(),
        )
        if tips:
            await self._db.executemany(
                "insert into network_blocks (hash, height, network_difficulty, prev_hash, "
                "seen_at, source) values ($1, $2, $3, $4, $5, $6) on conflict (hash) do nothing",
                [
                    (
                        row.data.hash.lower(),
                        row.data.height,
                        row.data.network_difficulty,
                        row.data.prev_hash.lower() if row.data.prev_hash else None,
                        row.time,
                        row.source,
                    )
                    for row in tips
                ],
            )

    async def _note_late_hours(self, rows: list[Row], now: int) -> None:
        closed = now - LATE_AFTER
        closed -= closed % _HOUR
        late = Counter(
            row.micros - row.micros % _HOUR
            for row in rows
            if row.micros < closed and row.event == "share_submitted"
        )
        if late:
            hours = sorted(late)
            await self._db.execute(
                "insert into late_share_hours as l (hour, shares) "
                "select * from unnest($1::timestamptz[], $2::bigint[]) "
                "on conflict (hour) do update set shares = l.shares + excluded.shares, "
                "last_recorded_at = now()",
                hours,
                [late[hour] for hour in hours],
            )

    async def _add_to_ledger(self, sums: Sums) -> None:
        number = self._instances.number
        keys = sorted(sums.lines.keys() | sums.received.keys())
        if keys:
            lines = [sums.lines.get(key) for key in keys]
            await self._db.execute(
                _UPSERT_LEDGER,
                [number(instance) for instance, _ in keys],
                [from_micros(hour) for _, hour in keys],
                [sums.received[key] for key in keys],
                [line.first_seq if line else None for line in lines],
                [line.last_seq if line else None for line in lines],
                [line.committed if line else 0 for line in lines],
                [line.dead_lettered if line else 0 for line in lines],
                [line.duplicates if line else 0 for line in lines],
            )
        if sums.dropped:
            # Ranges are united: a drop that is reported twice is one.
            await self._db.executemany(
                "insert into ledger_drops as l (instance_id, cause, numbers) values ($1, $2, $3) "
                "on conflict (instance_id, cause) do update "
                "set numbers = l.numbers + excluded.numbers",
                [
                    (number(instance), cause, [asyncpg.Range(*span) for span in lost])
                    for instance, cause, lost in sums.dropped
                ],
            )

    async def _insert_letters(self, letters: list[DeadLetter]) -> None:
        if letters:
            await self._db.executemany(
                "insert into dead_letters (stage, reason, detail, raw, instance, seq) "
                "values ($1, $2, $3, $4, $5, $6)",
                [
                    (item.stage, item.reason, item.detail, item.raw, item.instance, item.seq)
                    for item in letters
                ],
            )


_UPSERT_LEDGER: Final = """
insert into ledger as l (
    instance_id, hour, received, first_seq, last_seq, committed, dead_lettered, duplicates
)
select * from unnest(
    $1::integer[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[],
    $6::bigint[], $7::bigint[], $8::bigint[]
)
on conflict (instance_id, hour) do update set
    received = l.received + excluded.received,
    first_seq = least(l.first_seq, excluded.first_seq),
    last_seq = greatest(l.last_seq, excluded.last_seq),
    committed = l.committed + excluded.committed,
    dead_lettered = l.dead_lettered + excluded.dead_lettered,
    duplicates = l.duplicates + excluded.duplicates
"""

# A finalised week belongs to the batch side: late_share_hours tells it to compute
# the week again.
_UPSERT_WEEKLY: Final = """
insert into weekly_best_diff as w (
    user_id, week_start, best_difficulty, best_share_time, best_worker_id, best_share_hash,
    total_shares, total_work
)
select g.user_id, $1::date, best, at, worker, hash, shares, work from unnest(
    $2::integer[], $3::float8[], $4::timestamptz[], $5::integer[], $6::bytea[], $7::bigint[],
    $8::float8[]
) as g(user_id, best, at, worker, hash, shares, work)
on conflict (user_id, week_start) do update set
    total_shares = w.total_shares + excluded.total_shares,
    total_work = w.total_work + excluded.total_work,
    -- The higher one, of equal ones the earlier one.
    best_difficulty = greatest(w.best_difficulty, excluded.best_difficulty),
    best_share_time = case
        when (excluded.best_difficulty, w.best_share_time)
            > (w.best_difficulty, excluded.best_share_time)
        then excluded.best_share_time else w.best_share_time end,
    best_worker_id = case
        when (excluded.best_difficulty, w.best_share_time)
            > (w.best_difficulty, excluded.best_share_time)
        then excluded.best_worker_id else w.best_worker_id end,
    best_share_hash = case
        when (excluded.best_difficulty, w.best_share_time)
            > (w.best_difficulty, excluded.best_share_time)
        then excluded.best_share_hash else w.best_share_hash end
where w.finalized_at is null
returning w.user_id, w.best_difficulty
"""
