"""What accepted events change, apart from the books: shares, events, miners, bests, blocks."""

from binascii import unhexlify
from typing import Final

import asyncpg
import msgspec

from ingest.writer import presence, tables
from ingest.writer.miners import Miners
from ingest.writer.presence import Plan, Presence
from ingest.writer.provisional import ProvisionalBests, Weekly
from ingest.writer.rows import Row
from ingest.writer.tables import Number, Raised
from tbg_core.periods import DAY, from_micros

RECENT_BLOCKS: Final = 10_000


class Written(msgspec.Struct):
    """What one transaction wrote, for :meth:`Effects.keep`."""

    plan: Plan
    workers: list[asyncpg.Record]
    blocks: list[Row]
    raised: list[Raised]


class Effects:
    """Writes accepted events, and remembers what the database holds of their miners.

    What is remembered changes only with :meth:`keep`.

    Args:
        connection: prepared with :func:`ingest.writer.codecs.prepare`.
        plain: whether partitions are ours to make (plain PostgreSQL).

    Attributes:
        bests: what is known of the open weeks; :meth:`Leaderboard.reconcile` fills it.
    """

    def __init__(self, connection: asyncpg.Connection, *, plain: bool) -> None:
        self._db = connection
        self._plain = plain
        self.bests = ProvisionalBests()
        self._blocks: dict[bytes, None] = {}
        self.forget()

    def forget(self) -> None:
        """Forgets what another program may have changed: partitions, miners, bests."""
        self._presence = Presence()
        self._miners = Miners(self._presence)
        self._days: set[int] = set()  # since the epoch
        self.bests.forget()

    async def open(self) -> None:
        """Loads the blocks that were found lately."""
        for row in await self._db.fetch(
            "select block_hash from blocks order by found_at desc limit $1", RECENT_BLOCKS
        ):
            self._blocks[unhexlify(row["block_hash"])] = None

    async def resolve(self, rows: list[Row]) -> None:
        """Sets the numbers of users and workers; best outside a transaction."""
        await self._miners.resolve(self._db, rows)

    async def make_room(self, rows: list[Row]) -> None:
        """Makes the partitions that rows need; best outside a transaction."""
        if not self._plain:
            return
        for day in sorted({row.micros // DAY for row in rows} - self._days):
            await self._db.execute(
                "select ensure_partitions($1, $1)", from_micros(day * DAY).date()
            )
            self._days.add(day)

    async def write(self, rows: list[Row], number: Number, now: int) -> Written:
        """Writes rows in the caller's transaction.

        Args:
            rows: resolved, and there is room for them.
            number: finds the database's number of an instance.
            now: the database's clock, in microseconds.
        """
        plan = self._presence.plan(rows, now)
        weekly = Weekly(self.bests)
        blocks = await tables.insert_blocks(self._db, rows)
        await tables.copy_shares(self._db, rows, number, self._blocks, weekly)
        await tables.copy_events(self._db, rows, number)
        await tables.mark_block_shares(self._db, blocks)
        workers = await presence.write(self._db, plan)
        raised = await tables.upsert_weekly(self._db, weekly)
        await tables.insert_network_blocks(self._db, rows)
        await tables.insert_proofs(self._db, rows)
        await tables.note_late_hours(self._db, rows, now)
        return Written(plan, workers, blocks, raised)

    def keep(self, written: Written) -> None:
        """The transaction of :meth:`write` is committed."""
        self._presence.keep(written.plan, written.workers)
        for week, user, _, best in written.raised:
            self.bests.learn(week, user, best)
        for row in written.blocks:
            self._blocks[unhexlify(row.data.hash)] = None
            if len(self._blocks) > RECENT_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
