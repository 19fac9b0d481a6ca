"""Users and workers by number, created on first sight."""

from datetime import datetime
from operator import attrgetter
from typing import Final, TypeVar

import asyncpg

from ingest.batch import Row

# About 60 MB when full; then the oldest half goes and is looked up again.
MAX_CACHED: Final = 200_000

Worker = tuple[str, str]  # user, worker
Name = TypeVar("Name", str, Worker)
Number = TypeVar("Number", int, tuple[int, int])
_BY_TIME: Final = attrgetter("micros")

_USERS: Final = """
with given as (select * from unnest($1::text[], $2::timestamptz[]) as g(address, seen)),
made as (
    insert into users (btc_address, created_at)
    select address, seen from given
    on conflict (btc_address) do nothing
    returning id, btc_address
)
select id, btc_address from made
union all
select u.id, u.btc_address from users u join given on u.btc_address = given.address
"""

_WORKERS: Final = """
with given as (
    select * from unnest($1::integer[], $2::text[], $3::timestamptz[], $4::text[])
        as g(user_id, name, seen, source)
),
made as (
    insert into workers (user_id, worker_name, first_seen, source)
    select user_id, name, seen, source from given
    on conflict (user_id, worker_name) do nothing
    returning id, user_id, worker_name
)
select id, user_id, worker_name from made
union all
select w.id, w.user_id, w.worker_name
from workers w join given on w.user_id = given.user_id and w.worker_name = given.name
"""


class Miners:
    """Finds numbers for names, and remembers them."""

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self._workers: dict[Worker, tuple[int, int]] = {}  # numbers of user and worker

    async def resolve(self, connection: asyncpg.Connection, rows: list[Row]) -> None:
        """Sets ``user_id`` and ``worker_id`` of every row about a miner.

        Who is new gets a number in a transaction of its own, so that what is remembered
        is there whatever becomes of the batch. Inserting in one order keeps two writers
        from waiting for each other.
        """
        known = self._workers
        unknown: list[Row] = []
        for row in rows:
            if row.event == "new_block_network":
                continue
            data = row.data
            found = known.get((data.user, data.worker))
            if found is None or (row.event == "hashrate_update" and not data.worker):
                unknown.append(row)
            else:
                row.user_id, row.worker_id = found
        if unknown:
            users: dict[str, datetime] = {}
            workers: dict[Worker, tuple[datetime, str]] = {}
            for row in sorted(unknown, key=_BY_TIME):
                users.setdefault(row.data.user, row.time)
                if _names_worker(row):
                    name = (row.data.user, row.data.worker)
                    workers.setdefault(name, (row.time, row.source))
            user_ids = await self._find_users(connection, users)
            worker_ids = await self._find_workers(connection, workers, user_ids)
            for row in unknown:
                row.user_id = user_ids[row.data.user]
                if _names_worker(row):
                    row.worker_id = worker_ids[row.data.user, row.data.worker]

    async def _find_users(
        self, connection: asyncpg.Connection, names: dict[str, datetime]
    ) -> dict[str, int]:
        known = {name: self._users[name] for name in names if name in self._users}
        unknown = sorted(name for name in names if name not in known)
        if unknown:
            async with connection.transaction():
                found = await connection.fetch(_USERS, unknown, [names[name] for name in unknown])
                missing = set(unknown) - {row["btc_address"] for row in found}
                if missing:
                    # Another writer made them between our snapshot and our insert.
                    found += await connection.fetch(
                        "select id, btc_address from users where btc_address = any($1)",
                        list(missing),
                    )
            new = {row["btc_address"]: row["id"] for row in found}
            _remember(self._users, new)
            known |= new
        return known

    async def _find_workers(
        self,
        connection: asyncpg.Connection,
        names: dict[Worker, tuple[datetime, str]],
        users: dict[str, int],
    ) -> dict[Worker, int]:
        if not names:
            return {}
        ordered = sorted(names)
        owners = [users[user] for user, _ in ordered]
        by_number = dict(zip(owners, (user for user, _ in ordered), strict=True))
        async with connection.transaction():
            found = await connection.fetch(
                _WORKERS,
                owners,
                [worker for _, worker in ordered],
                [names[name][0] for name in ordered],
                [names[name][1] for name in ordered],
            )
            if len({row["id"] for row in found}) < len(ordered):
                found += await connection.fetch(
                    "select id, user_id, worker_name from workers where user_id = any($1)",
                    owners,
                )
        new = {(by_number[row["user_id"]], row["worker_name"]): row["id"] for row in found}
        _remember(self._workers, {name: (users[name[0]], new[name]) for name in ordered})
        return new


def _names_worker(row: Row) -> bool:
    # The total of a user has worker '', which is also a miner without a name.
    return row.event != "hashrate_update" or bool(row.data.worker)


def _remember(cache: dict[Name, Number], new: dict[Name, Number]) -> None:
    if len(cache) > MAX_CACHED:
        for name in list(cache)[: len(cache) // 2]:
            del cache[name]
    cache |= new
