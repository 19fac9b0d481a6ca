"""Users and workers by number, created on first sight."""

from datetime import datetime
from operator import attrgetter
from typing import Final

import asyncpg

from ingest.writer.compact import Column, Directory
from ingest.writer.presence import Presence
from ingest.writer.refusal import NotKeptError
from ingest.writer.rows import Row

# Past one of these everything is forgotten and looked up again: 130 MB and 260 MB of names,
# or of ids that are far apart.
MOST_NAMES: Final = 4_000_000
MOST_PAGES: Final = 60_000

Name = tuple[str, str | None]  # user, worker; None for the user itself
_BY_TIME: Final = attrgetter("micros")

# One look into the index for each name, however many are asked for: a plan for the average
# would read the whole table. (A subquery with a limit is not merged into a join.)
_FIND: Final = """
select
    g.address, g.name, u.id as user_id, w.id as worker_id,
    w.current_diff, w.is_online, w.user_agent,
    floor(extract(epoch from w.last_share))::bigint as seen
from unnest($1::text[], $2::text[]) as g(address, name)
cross join lateral (select id from users where btc_address = g.address limit 1) u
left join lateral (
    select * from workers where user_id = u.id and worker_name = g.name limit 1
) w on true
"""

_MAKE_USERS: Final = """
insert into users (btc_address, created_at)
select * from unnest($1::text[], $2::timestamptz[]) as g(address, seen)
-- A conflict would cost a number of the sequence.
where not exists (select from users where btc_address = g.address)
order by address  -- a hash join would hand them over in an order of its own
on conflict (btc_address) do nothing
"""

_MAKE_WORKERS: Final = """
insert into workers (user_id, worker_name, first_seen, source)
select u.id, g.name, g.seen, g.source
from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) as g(address, name, seen, source)
cross join lateral (select id from users where btc_address = g.address limit 1) u
order by 1, 2
on conflict (user_id, worker_name) do nothing
"""


class Miners:
    """Finds numbers for names, and remembers them.

    Args:
        presence: learns what the database holds of a worker when its name is looked up.
    """

    def __init__(self, presence: Presence) -> None:
        self._presence = presence
        self._forget()

    def _forget(self) -> None:
        self._numbers = Directory()
        self._users = Column("i", 0)  # by number of the worker
        self._presence.forget()

    async def resolve(self, connection: asyncpg.Connection, rows: list[Row]) -> None:
        """Sets ``user_id`` and ``worker_id`` of every row about a miner.

        Who is new gets a number outside the batch's transaction, so that what is remembered
        is there whatever becomes of the batch. Inserting in one order keeps two writers
        from waiting for each other.
        """
        unknown = [
            row for row in rows if row.event != "new_block_network" and not self._resolved(row)
        ]
        if not unknown:
            return
        if len(self._numbers) > MOST_NAMES or self._users.pages > MOST_PAGES:
            self._forget()
            unknown = [row for row in rows if row.event != "new_block_network"]
        await self._look_up(connection, unknown)
        for row in unknown:
            self._resolved(row)

    def _resolved(self, row: Row) -> bool:
        user, worker = _name(row)
        number = self._numbers.get(user, worker)
        if not number:
            return False
        if worker is None:
            row.user_id = number
        else:
            row.user_id, row.worker_id = self._users[number], number
        return True

    async def _look_up(self, connection: asyncpg.Connection, rows: list[Row]) -> None:
        first: dict[Name, Row] = {}
        for row in sorted(rows, key=_BY_TIME):
            first.setdefault(_name(row), row)
        missing = await self._find(connection, list(first))
        if not missing:
            return
        created: dict[str, datetime] = {}
        for user, worker in missing:
            time = first[user, worker].time
            created[user] = min(time, created.get(user, time))
        await connection.execute(
            _MAKE_USERS, sorted(created), [created[user] for user in sorted(created)]
        )
        workers = sorted((user, worker) for user, worker in missing if worker is not None)
        await connection.execute(
            _MAKE_WORKERS,
            [user for user, _ in workers],
            [worker for _, worker in workers],
            [first[name].time for name in workers],
            [first[name].source for name in workers],
        )
        if left := await self._find(connection, missing):
            raise NotKeptError(f"users or workers such as {left[0]}")

    async def _find(self, connection: asyncpg.Connection, names: list[Name]) -> list[Name]:
        """Remembers those that are in the database, and returns the others."""
        missing = set(names)
        found = await connection.fetch(
            _FIND, [user for user, _ in names], [worker for _, worker in names]
        )
        for record in found:
            user, worker = record["address"], record["name"]
            number = record["user_id"] if worker is None else record["worker_id"]
            if number is None:
                continue
            missing.discard((user, worker))
            self._numbers.put(user, worker, number)
            if worker is not None:
                self._users[number] = record["user_id"]
                self._presence.learn(number, record)
        return [name for name in names if name in missing]


def _name(row: Row) -> Name:
    # The total of a user has worker '', which is also a miner without a name.
    worker = row.data.worker
    return row.data.user, worker if worker or row.event != "hashrate_update" else None
