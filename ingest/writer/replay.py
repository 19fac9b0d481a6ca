"""Stores what was refused after all, once what refused it is mended.

A letter goes into the tables directly, not through Redis: its number is taken in the streams,
in the marks of receivers and in the sequence state, and stays so. The row, the ledger (one
committed more, one dead-lettered less) and the mark on the letter are one transaction, so a
letter that is replayed twice, or by two people at once, gives one row.
"""

from datetime import timedelta
from typing import Final

import asyncpg
import msgspec

from ingest.counts import Sums
from ingest.writer import tables
from ingest.writer.effects import Effects
from ingest.writer.instances import Instances
from ingest.writer.refusal import FAILURES, is_refusal
from ingest.writer.rows import DeadLetter, Row, parse
from ingest.writer.store import database_now
from ingest.writer.tables import Raised
from tbg_core.decode import Refused, decode
from tbg_core.entry import NUMBER_REUSED, START, Entry, event_values
from tbg_core.names import stream_of

_TRIES: Final = 5  # of a transaction that another one got in the way of
_RETRIED: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class Outcome(msgspec.Struct):
    """What became of one letter.

    Attributes:
        result: ``replayed``, ``stored already`` (another copy came), ``replayed already``,
            ``gone``, or ``refused`` again.
        reason: why it was refused, as dead letters say it.
    """

    id: int
    result: str
    reason: str = ""
    detail: str = ""

    @property
    def stored(self) -> bool:
        """Whether the event is in the tables."""
        return self.result not in ("refused", "gone")


class _Again(Exception):
    """Refused again."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class Replay:
    """Replays letters over one connection.

    Args:
        connection: prepared with :func:`ingest.writer.codecs.prepare`.
        retention: older events are refused again.
        plain: whether partitions are ours to make (plain PostgreSQL).
        dry: takes everything back, and says what would become of it.

    Attributes:
        raised: bests that the replayed shares raised, for the leaderboard.
    """

    def __init__(
        self, connection: asyncpg.Connection, retention: timedelta, *, plain: bool, dry: bool
    ) -> None:
        self._db = connection
        self._retention = retention
        self._plain = plain
        self._dry = dry
        self.raised: list[Raised] = []

    async def replay(self, number: int) -> Outcome:
        """Replays one letter.

        Raises:
            *AWAY: the database is away or fails; the letter is as
                it was.
        """
        for last in (*[False] * (_TRIES - 1), True):
            try:
                return await self._once(number)
            except _Again as again:
                return Outcome(number, "refused", again.reason, again.detail)
            except _RETRIED:
                if last:
                    raise
            except FAILURES as error:
                if not is_refusal(error):
                    raise
                return Outcome(number, "refused", "database", f"{type(error).__name__}: {error}")
        raise AssertionError("unreachable")

    async def _once(self, number: int) -> Outcome:
        transaction = self._db.transaction()
        await transaction.start()
        try:
            outcome = await self._replay(number)
            if self._dry:
                await self._db.execute("set constraints all immediate")  # as COMMIT does
        except BaseException:
            await transaction.rollback()
            raise
        await (transaction.rollback() if self._dry else transaction.commit())
        return outcome

    async def _replay(self, number: int) -> Outcome:
        letter = await self._db.fetchrow(_LETTER, number)
        if letter is None:
            return Outcome(number, "gone")
        if letter["replayed_at"] is not None:
            return Outcome(number, "replayed already")
        row = _row(letter)
        now = await database_now(self._db)
        if row.micros < now - self._retention // timedelta(microseconds=1):
            raise _Again("past_retention", f"{row.time.isoformat()} is too old")
        effects = Effects(self._db, plain=self._plain)
        instances = Instances()
        counted = letter["instance"] is not None and letter["seq"] is not None
        if letter["reason"] == NUMBER_REUSED:
            counted = False
            row.instance = row.seq = None  # its number is another event's
        if row.instance is not None:
            await instances.load(self._db, {row.instance: row.source})
            # A letter without a number was not counted: the number may be a hole.
            if not counted and not instances.sift([row], set(), {})[0]:
                instances.drop()
                row.instance = row.seq = None
        await effects.make_room([row])
        await effects.resolve([row])
        stored = row.seq is not None and bool(
            await tables.find_stored(self._db, [row], instances.number, refused=False)
        )
        sums = Sums()
        raised: list[Raised] = []
        if not stored:
            raised = (await effects.write([row], instances.number, now)).raised
            sums.add("committed", [row])
        await instances.save(self._db)
        await tables.add_to_ledger(self._db, sums, instances.number)
        if counted:
            await self._db.execute(
                _ONE_LESS, letter["instance"], letter["counted_in"], letter["received_at"]
            )
        await self._db.execute(
            "update dead_letters set replayed_at = clock_timestamp() where id = $1", number
        )
        self.raised += raised
        return Outcome(number, "stored already" if stored else "replayed")


def _row(letter: asyncpg.Record) -> Row:
    """The event of a letter, through the same checks as when it came.

    Raises:
        _Again: when it does not pass them.
    """
    try:
        entry = _entry(letter)
    except Refused as refused:
        raise _Again(refused.reason, refused.detail) from None
    item = parse(entry)
    if isinstance(item, Row):
        return item
    if isinstance(item, DeadLetter):
        raise _Again(item.reason, item.detail)
    raise _Again("no_event", "a report of a receiver cannot be replayed")


def _entry(letter: asyncpg.Record) -> Entry:
    raw: bytes = letter["raw"]
    if letter["stage"] == "writer":  # the entry, its values by name
        try:
            named = msgspec.json.decode(raw, type=dict[str, str])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused("bad_entry", str(error)) from None
        words = [word.encode() for pair in named.items() for word in pair]
        return Entry(stream_of(named.get("event", "")), START.encode(), words)
    event = decode(raw)
    names = (b"event", b"timestamp", b"source", b"instance", b"seq", b"data")
    words = [word for pair in zip(names, event_values(event), strict=True) for word in pair]
    return Entry(stream_of(event.event), START.encode(), words)


_LETTER: Final = """
select stage, reason, raw, instance, seq, counted_in, received_at, replayed_at
from dead_letters
where id = $1
for update
"""

# Of letters before counted_in, the hour is not known: the last one that has such a number.
_ONE_LESS: Final = """
update ledger set dead_lettered = dead_lettered - 1
where (instance_id, hour) = (
    select l.instance_id, l.hour
    from ledger l
    join engine_instances i on i.id = l.instance_id
    where i.instance = $1 and l.dead_lettered > 0
    order by (l.hour = $2) desc nulls last, l.hour <= $3 desc, l.hour desc
    limit 1
)
"""
