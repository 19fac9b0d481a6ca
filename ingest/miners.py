"""Users and workers by number, created on first sight."""

from datetime import datetime
from typing import Final, TypeVar

import asyncpg

# About 60 MB when full; then the oldest half goes and is looked up again.
MAX_CACHED: Final = 200_000

Worker = tuple[str, str]  # user, worker
Name = TypeVar("Name", str, Worker)

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
        self._workers: dict[Worker, int] = {}

    async def users(
        self, connection: asyncpg.Connection, names: dict[str, datetime]
    ) -> dict[str, int]:
        """Numbers of users; ``names`` says when each was first seen here.

        Runs in a transaction of its own, so that what is remembered is there
        whatever becomes of the batch. Inserting in one order keeps two writers
        from waiting for each other.
        """
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

    async def workers(
        self,
        connection: asyncpg.Connection,
        names: dict[Worker, tuple[datetime, str]],
        users: dict[str, int],
    ) -> dict[Worker, int]:
        """Numbers of workers; ``names`` gives first sight and source of each."""
        known = {name: self._workers[name] for name in names if name in self._workers}
        unknown = sorted(name for name in names if name not in known)
        if unknown:
            owners = [users[user] for user, _ in unknown]
            by_number = dict(zip(owners, (user for user, _ in unknown), strict=True))
            async with connection.transaction():
                found = await connection.fetch(
                    _WORKERS,
                    owners,
                    [worker for _, worker in unknown],
                    [names[name][0] for name in unknown],
                    [names[name][1] for name in unknown],
                )
                if len({row["id"] for row in found}) < len(unknown):
                    found += await connection.fetch(
                        "select id, user_id, worker_name from workers where user_id = any($1)",
                        owners,
                    )
            new = {(by_number[row["user_id"]], row["worker_name"]): row["id"] for row in found}
            _remember(self._workers, new)
            known |= new
        return known


def _remember(cache: dict[Name, int], new: dict[Name, int]) -> None:
    if len(cache) > MAX_CACHED:
        for name in list(cache)[: len(cache) // 2]:
            del cache[name]
    cache |= new
