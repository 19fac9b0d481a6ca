"""What is known of miners now, written at a limited rate.

A share changes a worker's ``last_share`` and its user's ``last_seen``, and with
thousands of workers nearly every share would touch a row of each. So news (a new
worker, another difficulty, a connection) is written with its batch. Last-seen times of
workers that go on as before are written together every few seconds.
"""

from typing import Final

import asyncpg
import msgspec

from ingest.updates import Rates, Updates, WorkerUpdate

WRITE_EVERY: Final = 10.0  # seconds between two times that are written for their own sake
MOST_WAITING: Final = 50_000  # workers; past it, all are written
MOST_KNOWN: Final = 200_000  # workers, about 30 MB; past it, the oldest half is forgotten


class Plan(msgspec.Struct):
    """What of one batch is written with it, and what waits.

    Attributes:
        users: when they were last seen, in microseconds, by number.
        workers: by number.
        totals: users' total hashrates, by number of the user.
    """

    users: dict[int, int]
    workers: dict[int, WorkerUpdate]
    totals: dict[int, Rates]
    waiting_users: dict[int, int]
    waiting_workers: dict[int, WorkerUpdate]
    all_written: bool


class Presence:
    """Decides what to write; what it remembers changes only with :meth:`keep`."""

    def __init__(self) -> None:
        self._waiting_users: dict[int, int] = {}
        self._waiting_workers: dict[int, WorkerUpdate] = {}
        # What was last written of a worker besides times, and which users were seen.
        self._known: dict[int, int] = {}
        self._known_users: dict[int, None] = {}
        self._next = 0.0

    def due(self, now: float) -> bool:
        """Whether times wait that should be written now (``now`` as of time.monotonic)."""
        return bool(self._waiting_workers or self._waiting_users) and now >= self._next

    def plan(self, updates: Updates, now: float, *, everything: bool = False) -> Plan:
        """Separates urgent from deferrable writes.

        Args:
            updates: the batch's.
            now: as of time.monotonic.
            everything: nothing waits any longer.
        """
        everything |= now >= self._next or len(self._waiting_workers) > MOST_WAITING
        users = dict(self._waiting_users) if everything else {}
        workers = dict(self._waiting_workers) if everything else {}
        waiting_users: dict[int, int] = {}
        waiting_workers: dict[int, WorkerUpdate] = {}
        for user, seen in updates.users.items():
            latest = max(seen, self._waiting_users.get(user, seen))
            if everything or user not in self._known_users:
                users[user] = latest
            else:
                waiting_users[user] = latest
        for worker, update in updates.workers.items():
            before = self._waiting_workers.get(worker)
            if before is not None:
                update = before.followed_by(update)
            if everything or update.rates or self._known.get(worker) != update.state():
                workers[worker] = update
            else:
                waiting_workers[worker] = update
        return Plan(users, workers, updates.totals, waiting_users, waiting_workers, everything)

    def keep(self, plan: Plan, now: float) -> None:
        """The plan's transaction is committed."""
        if plan.all_written:
            self._waiting_users.clear()
            self._waiting_workers.clear()
            self._next = now + WRITE_EVERY
        self._waiting_users.update(plan.waiting_users)
        self._waiting_workers.update(plan.waiting_workers)
        for worker, update in plan.workers.items():
            self._waiting_workers.pop(worker, None)
            self._known[worker] = update.state()
        for user in plan.users:
            self._waiting_users.pop(user, None)
            self._known_users[user] = None
        for cache in (self._known, self._known_users):
            if len(cache) > MOST_KNOWN:
                for number in list(cache)[: len(cache) // 2]:
                    del cache[number]


async def lock(connection: asyncpg.Connection, plan: Plan, users: set[int]) -> None:
    """Locks the users of a batch and its plan in the order of their numbers.

    Writers may have the same miners. An update locks rows in the order that its plan
    finds them; one order avoids deadlocks. A writer touches rows of workers and weeks only
    while it holds the lock of their user.
    """
    await connection.execute(
        # One array, because an OR would make it read every user there is.
        "select from users where id = any(array("
        "select unnest($1::integer[]) union select user_id from workers where id = any($2))) "
        "order by id for no key update",
        sorted(users | plan.users.keys() | plan.totals.keys()),
        sorted(plan.workers),
    )


async def write(connection: asyncpg.Connection, plan: Plan) -> None:
    """Writes what a plan says, in the caller's transaction.

    Args:
        connection: prepared with :func:`ingest.codecs.prepare`, so that it takes times
            in microseconds.
        plan: of this batch.
    """
    if plan.users:
        users = sorted(plan.users.items())
        await connection.execute(
            "update users u set last_seen = greatest(u.last_seen, g.seen) "
            "from unnest($1::integer[], $2::timestamptz[]) as g(id, seen) where u.id = g.id",
            [user for user, _ in users],
            [seen for _, seen in users],
        )
    if plan.workers:
        workers = sorted(plan.workers.items())
        updates = [update for _, update in workers]
        await connection.execute(
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
        )
    if plan.totals:
        # In an event, worker '' is the user's total. The row '' is a worker without a name.
        totals = sorted(plan.totals.items())
        await connection.execute(
            "update users u set hashrate_1m = g.a, hashrate_5m = g.b, hashrate_1h = g.c, "
            "hashrate_24h = g.d from unnest($1::integer[], $2::float8[], $3::float8[], "
            "$4::float8[], $5::float8[]) as g(id, a, b, c, d) "
            "where u.id = g.id",
            [user for user, _ in totals],
            *([rates[index] for _, rates in totals] for index in range(4)),
        )


_UPDATE_WORKERS: Final = """
update workers w set
    last_share = greatest(w.last_share, g.last_share),
    user_agent = coalesce(g.user_agent, w.user_agent),
    -- What an old event says of the present is old.
    current_diff = case when g.at >= coalesce(w.last_share, '-infinity')
        then coalesce(g.current_diff, w.current_diff) else w.current_diff end,
    is_online = case when g.at >= coalesce(w.last_share, '-infinity')
        then coalesce(g.is_online, w.is_online) else w.is_online end,
    hashrate_1m = coalesce(g.hashrate_1m, w.hashrate_1m),
    hashrate_5m = coalesce(g.hashrate_5m, w.hashrate_5m),
    hashrate_1h = coalesce(g.hashrate_1h, w.hashrate_1h),
    hashrate_24h = coalesce(g.hashrate_24h, w.hashrate_24h)
from unnest(
    $1::integer[], $2::timestamptz[], $3::timestamptz[], $4::float8[], $5::boolean[], $6::text[],
    $7::float8[], $8::float8[], $9::float8[], $10::float8[]
) as g(
    id, at, last_share, current_diff, is_online, user_agent,
    hashrate_1m, hashrate_5m, hashrate_1h, hashrate_24h
)
where w.id = g.id
"""
