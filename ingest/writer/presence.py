"""What is known of miners now, written when it changes.

A share changes a worker's ``last_share`` and its user's ``last_seen``. Written each time,
that is two more rows for every share. So news (another difficulty, a connection, a
hash rate) is written with its batch, and a time alone only now and then. What the rows lag
by is bounded, and the shares themselves say the rest (view ``workers_seen``).
"""

from typing import Final

import asyncpg
import msgspec

from ingest.writer.compact import Column
from ingest.writer.rows import Row
from ingest.writer.updates import Rates, Updates, WorkerUpdate

# A time is written for its own sake at the eighth share, if the row's is ten seconds older,
# and whenever it is an hour older. All by the shares' own times, in seconds.
WRITE_AFTER: Final = 10
EVERY: Final = 8  # shares
AT_LEAST_AFTER: Final = 3600  # workers_seen looks for shares so far
_LATEST: Final = 0xFFFF_FFFF
_MANY: Final = 0xFF

# A state in 64 bits: hashes of the difficulty and the user agent, and whether it is online.
_DIFF: Final = 0xFFFF_FFFF_0000_0000
_AGENT: Final = 0xFFFF_FFFE
_ONLINE: Final = 1


class Plan(msgspec.Struct):
    """What of one batch is written with it.

    Attributes:
        users: when they were last seen, in microseconds, by number.
        workers: by number.
        totals: total hashrates of some of these users, by number of the user.
        since: of workers with news, after which time the newest share is looked for, in
            seconds.
        unwritten: shares since the last write of a worker that is not written.
    """

    users: dict[int, int]
    workers: dict[int, WorkerUpdate]
    totals: dict[int, Rates]
    since: dict[int, int]
    unwritten: dict[int, int]


class Presence:
    """Decides what to write; what it remembers changes only with :meth:`keep`."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forgets all workers."""
        self._states = Column("Q", 0)
        self._unwritten = Column("B", 0)  # shares since the last write
        self._written = Column("I", 0)  # the row's last_share, in seconds; 0 if it has none

    def learn(self, worker: int, row: asyncpg.Record) -> None:
        """Remembers what the database holds of a worker: its state, and ``seen``."""
        self._states[worker] = (
            _hash_diff(row["current_diff"]) | _hash_agent(row["user_agent"]) | row["is_online"]
        )
        self._unwritten[worker] = 0
        self._written[worker] = min(row["seen"] or 0, _LATEST)

    def plan(self, rows: list[Row], now: int) -> Plan:
        """Separates what is written from what the shares say.

        Args:
            rows: of a batch.
            now: in microseconds.
        """
        since: dict[int, int] = {}
        unwritten: dict[int, int] = {}

        def waits(row: Row, shares: int, fresh: int) -> bool:
            worker, data = row.worker_id, row.data
            assert worker is not None
            state, known = _hash_diff(data.difficulty), _DIFF
            if data.user_agent is not None:
                state, known = state | _hash_agent(data.user_agent), known | _AGENT
            if row.micros > fresh:
                state, known = state | _ONLINE, known | _ONLINE
            written = self._written[worker]
            if (state ^ self._states[worker]) & known:
                since[worker] = written
                return False
            shares += self._unwritten[worker]
            lag = row.micros // 1_000_000 - written
            if not written or lag >= AT_LEAST_AFTER or (lag >= WRITE_AFTER and shares >= EVERY):
                return False
            unwritten[worker] = shares if shares < _MANY else _MANY
            return True

        updates = Updates(rows, now, waits)
        for worker, update in updates.workers.items():
            if update.news:
                since[worker] = self._written[worker]
        return Plan(updates.users, updates.workers, updates.totals, since, unwritten)

    def keep(self, plan: Plan, written: list[asyncpg.Record]) -> None:
        """The plan's transaction is committed.

        Args:
            plan: of the batch.
            written: what :func:`write` returned.
        """
        for worker, unwritten in plan.unwritten.items():
            self._unwritten[worker] = unwritten
        for row in written:
            worker = row["id"]
            unwritten = self._unwritten[worker]
            self.learn(worker, row)
            if plan.workers[worker].last_share is None and worker not in plan.since:
                self._unwritten[worker] = unwritten  # a hash rate alone says no time


def _hash_diff(difficulty: float | None) -> int:
    # Of a tuple: the hash of a float has few bits that differ.
    return (hash((difficulty,)) << 32) & _DIFF


def _hash_agent(agent: str | None) -> int:
    return hash(agent) & _AGENT


async def write(connection: asyncpg.Connection, plan: Plan) -> list[asyncpg.Record]:
    """Writes what a plan says, in the caller's transaction, after the batch's shares.

    Args:
        connection: prepared with :func:`ingest.writer.codecs.prepare`, so that it takes times
            in microseconds.
        plan: of this batch.

    Returns:
        What the rows of the plan's workers say now, for :meth:`Presence.keep`.
    """
    if plan.users:
        # In an event, worker '' is the user's total. The row '' is a worker without a name.
        users = sorted(plan.users.items())
        totals = [plan.totals.get(user) for user, _ in users]
        await connection.execute(
            _UPDATE_USERS,
            [user for user, _ in users],
            [seen for _, seen in users],
            *([rates and rates[index] for rates in totals] for index in range(4)),
        )
    if not plan.workers:
        return []
    workers = sorted(plan.workers.items())
    updates = [update for _, update in workers]
    written: list[asyncpg.Record] = await connection.fetch(
        _UPDATE_WORKERS,
        [number for number, _ in workers],
        [update.micros for update in updates],
        [update.last_share for update in updates],
        [update.current_diff for update in updates],
        [update.is_online for update in updates],
        [update.user_agent for update in updates],
        *(
            [None if update.rates is None else update.rates[index] for update in updates]
            for index in range(4)
        ),
        # A worker whose row has no time yet has no share but the batch's.
        [since * 1_000_000 if (since := plan.since.get(number)) else None for number, _ in workers],
    )
    return written


_UPDATE_USERS: Final = """
update users u set
    last_seen = greatest(u.last_seen, g.seen),
    hashrate_1m = coalesce(g.hashrate_1m, u.hashrate_1m),
    hashrate_5m = coalesce(g.hashrate_5m, u.hashrate_5m),
    hashrate_1h = coalesce(g.hashrate_1h, u.hashrate_1h),
    hashrate_24h = coalesce(g.hashrate_24h, u.hashrate_24h)
from unnest(
    $1::integer[], $2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[]
) as g(id, seen, hashrate_1m, hashrate_5m, hashrate_1h, hashrate_24h)
where u.id = g.id
"""

# Where there is news, last_share is brought up to the newest share. So a row that says
# offline has the newest share of that moment, and a later share means that the worker is back.
_UPDATE_WORKERS: Final = """
with given as materialized (
    select *, (
        select s.time from shares s
        where s.worker_id = g.id and s.time > g.since
        order by s.time desc limit 1
    ) as newest
    from unnest(
        $1::integer[], $2::timestamptz[], $3::timestamptz[], $4::float8[], $5::boolean[],
        $6::text[], $7::float8[], $8::float8[], $9::float8[], $10::float8[], $11::timestamptz[]
    ) as g(
        id, at, last_share, current_diff, is_online, user_agent,
        hashrate_1m, hashrate_5m, hashrate_1h, hashrate_24h, since
    )
)
update workers w set
    last_share = greatest(w.last_share, g.last_share, g.newest),
    user_agent = coalesce(g.user_agent, w.user_agent),
    -- What an old event says of the present is old.
    current_diff = case when g.at >= coalesce(greatest(w.last_share, g.newest), '-infinity')
        then coalesce(g.current_diff, w.current_diff) else w.current_diff end,
    is_online = case when g.at >= coalesce(greatest(w.last_share, g.newest), '-infinity')
        then coalesce(g.is_online, w.is_online) else w.is_online end,
    hashrate_1m = coalesce(g.hashrate_1m, w.hashrate_1m),
    hashrate_5m = coalesce(g.hashrate_5m, w.hashrate_5m),
    hashrate_1h = coalesce(g.hashrate_1h, w.hashrate_1h),
    hashrate_24h = coalesce(g.hashrate_24h, w.hashrate_24h)
from given g
where w.id = g.id
returning w.id, w.current_diff, w.is_online, w.user_agent,
    floor(extract(epoch from w.last_share))::bigint as seen
"""
