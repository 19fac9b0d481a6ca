"""Commits batches: rows, offsets and sequence state in one transaction.

Safe to repeat: offsets only move from the very value that the batch was read
from, and events are recognised by instance and seq.
"""

import time
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg
import msgspec
import structlog

from ingest import metrics
from ingest.counts import Report, Sums
from ingest.missing import Spans
from ingest.writer import tables
from ingest.writer.effects import Effects, Written
from ingest.writer.instances import Instances
from ingest.writer.offsets import Offsets, Steps
from ingest.writer.probe import NAME, good_entries
from ingest.writer.provisional import ProvisionalBests
from ingest.writer.refusal import FAILURES, Pace, is_refusal, is_too_much
from ingest.writer.reports import Reports
from ingest.writer.rows import DeadLetter, Item, Row, parse, refuse
from tbg_core.database import AWAY
from tbg_core.database_url import DatabaseError
from tbg_core.entry import NUMBER_REUSED, Entry
from tbg_core.periods import to_micros

MOST_ENTRIES: Final = 100_000

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.store")


async def database_now(connection: asyncpg.Connection) -> int:
    """The clock that decides about data, in microseconds: the writer's own may be wrong."""
    now: datetime = await connection.fetchval("select clock_timestamp()")
    return to_micros(now)


class Committed(msgspec.Struct):
    """What one transaction did."""

    steps: Steps
    week_bests: list[tuple[date, str, float]]  # week, user, best difficulty: raised ones
    missing: dict[str, Spans]  # by instance, where they are others than before


class _Batch(msgspec.Struct):
    """What becomes of a batch's events."""

    rows: list[Row]
    letters: list[DeadLetter]
    reused: list[DeadLetter]
    resent: int
    written: Written
    steps: Steps


class Store:
    """A database that takes batches.

    Args:
        connection: made by the writer, prepared with :func:`ingest.writer.codecs.prepare`.
        offsets: move with every commit.
        retention: shares and events older than this are refused.
        plain: whether partitions are ours to make (plain PostgreSQL).
        pace: how many entries a transaction takes; outlives the connection.
        cell: whose engines' events they are.
    """

    def __init__(
        self,
        connection: asyncpg.Connection,
        offsets: Offsets,
        retention: timedelta,
        *,
        plain: bool,
        pace: Pace | None = None,
        cell: str = "",
    ) -> None:
        self._db = connection
        self._offsets = offsets
        self._retention = retention
        self._plain = plain
        self._cell = cell
        self._pace = pace or Pace(MOST_ENTRIES)
        # As the connection: a database that was restored has other numbers and rows.
        self._effects = Effects(connection, plain=plain)
        self._instances = Instances(cell)
        self._reports = Reports()

    @property
    def bests(self) -> ProvisionalBests:
        """What is known of the open weeks; :meth:`Leaderboard.reconcile` fills it."""
        return self._effects.bests

    async def open(self) -> None:
        """Loads the blocks that were found lately."""
        await self._effects.open()

    async def commit(
        self, entries: list[Entry], items: list[Item] | None = None
    ) -> list[Committed]:
        """Commits entries; what the database refuses becomes a dead letter.

        Args:
            entries: in the order of each stream.
            items: what :func:`ingest.writer.rows.parse` made of them, where that was done before.

        Raises:
            OffsetsMovedError: another writer took over.
            DatabaseError, *AWAY: the database is away or fails; nothing of the batch is
                committed unless it was halved, and then the offsets say how far.
        """
        if items is None:
            items = [parse(entry) for entry in entries]
        done: list[Committed] = []
        at = 0
        while at < len(entries):
            upto = at + self._pace.take(len(entries) - at)
            done += await self._commit_all(entries[at:upto], items[at:upto])
            at = upto
        return done

    async def _commit_all(self, entries: list[Entry], items: list[Item]) -> list[Committed]:
        try:
            committed = await self._commit(entries, items)
        except FAILURES as error:
            self._drop()
            refused = is_refusal(error)
            if not refused:
                self._pace.failed(len(entries))
                if not is_too_much(error) or len(entries) == 1:
                    raise
            if len(entries) > 1:
                half = len(entries) // 2
                # Rows are resolved again: what is remembered may be what is wrong.
                return await self.commit(entries[:half]) + await self.commit(entries[half:])
            try:
                return [await self._refuse(entries, error)]
            except (ValueError, OverflowError) as again:  # not of the event: waited for
                raise DatabaseError(str(again)) from again
        except BaseException as error:
            self._drop()
            # A limit of the server may end the connection (idle_in_transaction_session_timeout).
            if isinstance(error, AWAY):
                self._pace.failed(len(entries))
            raise
        self._pace.committed(len(entries))
        return [committed]

    def _drop(self) -> None:
        self._instances.drop()
        self._reports.drop()

    async def _refuse(self, entries: list[Entry], error: Exception) -> Committed:
        """Makes a dead letter of the one entry that the database refuses.

        Only if it is refused with nothing remembered, and again after the same server has
        taken a good event in its place: otherwise the server is at fault, and is waited for.

        Raises:
            asyncpg.PostgresError, ValueError: the good event is refused as well.
        """
        # A partition, a user or a worker may have been dropped under us.
        self._effects.forget()
        self._instances = Instances(self._cell)
        for prove in (False, True):
            if prove:
                await self._prove(entries[0], error)
            try:
                return await self._commit(entries, [parse(entries[0])])
            except FAILURES as again:
                self._drop()
                if not is_refusal(again):
                    raise
        log.warning("the database refuses an event", error=str(error), stream=entries[0].stream)
        letter = refuse(entries[0], "database", f"{type(error).__name__}: {error}")
        try:
            return await self._commit(entries, [letter])
        except FAILURES as again:
            self._drop()
            if not is_refusal(again):
                raise
            # Not even under its name and number: the bytes are kept without them.
            letter.instance = letter.seq = None
            return await self._commit(entries, [letter])

    async def _prove(self, entry: Entry, error: Exception) -> None:
        """Commits good events in the place of an entry, and takes them back.

        If our own names are refused, a constraint of the operator's may be why: a new miner whose
        names are like those of one that the database holds will do.
        """
        item = parse(entry)
        micros = item.micros if isinstance(item, Row) else entry.micros
        miners = [(NAME, NAME)]
        if isinstance(item, Row) and (user := getattr(item.data, "user", None)):
            miners += [tuple(row) for row in await self._db.fetch(_LIKE_A_MINER, user)]
        for miner in miners:
            try:
                await self._take(good_entries(entry, micros, miner))
            except FAILURES as refused:
                if not is_refusal(refused):
                    raise
                if miner == miners[-1]:
                    log.error(
                        "the database refuses a good event as well: no event is refused for it",
                        stream=entry.stream,
                        error=str(error),
                        good_event=str(refused),
                    )
                    raise
            else:
                return

    async def _take(self, entries: list[Entry]) -> None:
        """Writes entries as far as COMMIT, and takes them back."""
        probe = Store(
            self._db, self._offsets.copy(), self._retention, plain=self._plain, cell=self._cell
        )
        transaction = self._db.transaction()
        await transaction.start()
        try:
            for good in entries:
                probe._keep(await probe._write([good], [parse(good)]))
            # What it would refuse at COMMIT, it refuses now.
            await self._db.execute("set constraints all immediate")
        finally:
            await transaction.rollback()

    async def _commit(self, entries: list[Entry], items: list[Item]) -> Committed:
        batch = await self._write(entries, items)
        missing = self._keep(batch)
        self._count(batch)
        bests = [(week, address, best) for week, _, address, best in batch.written.raised]
        return Committed(batch.steps, bests, missing)

    def _keep(self, batch: _Batch) -> dict[str, Spans]:
        """A batch is committed; returns what is missing where that has changed."""
        self._reports.keep()
        self._effects.keep(batch.written)
        self._offsets.keep(batch.steps)
        return self._instances.keep()

    async def _write(self, entries: list[Entry], items: list[Item]) -> _Batch:
        all_entries = entries
        recognised: Counter[str] = Counter()  # committed before, by stream
        again: dict[int, str] = {}  # stream of each item whose entry may have been read before
        if self._offsets.rereads:
            entries, items, again = self._leave_out_known(entries, items, recognised)
        events = [item for item in items if not isinstance(item, Report)]
        reports = [item for item in items if isinstance(item, Report)]
        sums = Sums()
        for report in await self._reports.fresh(self._db, reports):
            sums.report(report)
        sources: dict[str, str | None] = dict.fromkeys(sums.instances())
        sources |= {status.instance: status.source for status in sums.statuses.values()}
        for event in events:
            if event.instance is not None:
                known = sources.get(event.instance)
                sources[event.instance] = event.source if isinstance(event, Row) else known
        await self._instances.load(self._db, sources)
        stored = {
            (event.instance or "", event.seq or 0)
            for event in await self._stored(self._instances.doubtful(events))
        }
        new, resent = self._instances.sift(events, stored, again)
        now = await database_now(self._db)
        oldest = now - self._retention // timedelta(microseconds=1)
        reused, others = await self._reused(new, resent, oldest)
        recognised.update(again[id(item)] for item in resent if id(item) in again)
        resent = [item for item in resent if id(item) not in again]
        rows: list[Row] = []
        letters: list[DeadLetter] = []
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
        await self._effects.make_room(rows)
        await self._effects.resolve(rows)
        nameless = [
            entry
            for entry, item in zip(entries, items, strict=True)
            if (not item.id if isinstance(item, Report) else item.seq is None)
        ]
        steps = self._offsets.after(all_entries, nameless + others, recognised)
        number = self._instances.number
        async with self._db.transaction():
            await self._offsets.move(steps)
            written = await self._effects.write(rows, number, now)
            await tables.insert_letters(self._db, letters, counted=True)
            await tables.insert_letters(self._db, reused, counted=False)
            await self._instances.save(self._db)
            await self._reports.save(self._db)
            await tables.add_to_ledger(self._db, sums, number)
        return _Batch(rows, letters, reused, max(0, len(resent) - len(reused)), written, steps)

    def _leave_out_known(
        self, entries: list[Entry], items: list[Item], recognised: Counter[str]
    ) -> tuple[list[Entry], list[Item], dict[int, str]]:
        """Leaves out what no number tells apart and was committed when its entry was read before.

        Returns:
            The other entries, what they say, and the streams of those items that may have
            been read before: their numbers decide.
        """
        left, kept, again = [], [], {}
        for entry, item in zip(entries, items, strict=True):
            if self._offsets.was_read(entry):
                if entry.digest in self._offsets.rereads[entry.stream].unnumbered:
                    recognised[entry.stream] += 1
                    continue
                again[id(item)] = entry.stream
            left.append(entry)
            kept.append(item)
        return left, kept, again

    async def _stored(self, events: list[Row | DeadLetter]) -> list[Row | DeadLetter]:
        """Those of the events that the database holds, by their content."""
        await self._effects.resolve([event for event in events if isinstance(event, Row)])
        return await tables.find_stored(self._db, events, self._instances.number)

    async def _reused(
        self, new: list[Row | DeadLetter], resent: list[Row | DeadLetter], oldest: int
    ) -> tuple[list[DeadLetter], list[Entry]]:
        """Dead letters for events whose number another event has, and the entries of these.

        What was refused under such a number is kept as it is.

        A number is no identity: an engine that begins again under an old name (a snapshot of
        a machine, a fixed name) uses its numbers for other events. A copy of what is stored
        is in the database with its time and hash; of anything else, nothing is.
        """
        # What is past retention may be gone.
        copies = [item for item in resent if item.micros >= oldest]
        if not copies:
            return [], []
        entries: list[Entry] = []
        known = {id(item) for item in await self._stored(copies)}
        firsts = {(item.instance, item.seq): item for item in new}
        letters: dict[tuple[str | None, int | None, int, bytes], DeadLetter] = {}
        for item in copies:
            first = firsts.get((item.instance, item.seq))
            if id(item) in known or (first is not None and _is_copy(item, first)):
                continue
            if isinstance(item, DeadLetter):
                letters.setdefault((item.instance, item.seq, 0, item.raw), item)
                continue
            entries.append(item.entry)
            letters.setdefault(
                (item.instance, item.seq, item.micros, item.raw_data),
                refuse(
                    item.entry,
                    NUMBER_REUSED,
                    f"number {item.seq} of {item.instance!r} is another event's",
                ),
            )
        return list(letters.values()), entries

    def _count(self, batch: _Batch) -> None:
        for event, count in Counter(row.event for row in batch.rows).items():
            metrics.COMMITTED.labels(event).inc(count)
        refused = [one for one in batch.letters + batch.reused if one.stage == "writer"]
        for reason, count in Counter(letter.reason for letter in refused).items():
            metrics.DEAD_LETTERED.labels("writer", reason).inc(count)
            if reason in _LOUD:
                one = next(letter for letter in refused if letter.reason == reason)
                log.error(
                    _LOUD[reason],
                    reason=reason,
                    events=count,
                    instance=one.instance,
                    seq=one.seq,
                    detail=one.detail,
                )
        metrics.DUPLICATES.inc(batch.resent)
        times = [row.micros for row in batch.rows if row.event == "share_submitted"]
        if times:
            metrics.SHARE_LATENCY.observe(max(0.0, time.time() - min(times) / 1e6))


def _is_copy(item: Row | DeadLetter, first: Row | DeadLetter) -> bool:
    """Whether an event is a copy of one of its batch that has its number."""
    if isinstance(item, DeadLetter):
        return isinstance(first, DeadLetter)
    if isinstance(first, Row):
        return (first.event, first.micros, first.raw_data) == (
            item.event, item.micros, item.raw_data,
        )  # fmt: skip
    return str(item.micros).encode() in first.raw  # as find_stored() judges letters


# Another address of the same length and letters, of a user who is not there; rather not like
# the one that is refused.
_LIKE_A_MINER: Final = """
select g.address, w.worker_name
from (select * from workers order by id desc limit 10) w
join users u on u.id = w.user_id
cross join lateral (
    select left(u.btc_address, -6) || reverse(right(u.btc_address, 6)) as address
) g
where not exists (select from users o where o.btc_address = g.address)
order by u.btc_address = $1, w.id desc
limit 1
"""

_LOUD: Final = {
    "past_retention": "events are older than RETENTION_DAYS: they are dead letters",
    NUMBER_REUSED: "an engine uses numbers again for other events: they are dead letters",
}
