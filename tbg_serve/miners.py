"""Users and workers, as every dialect needs them."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import asyncpg
from fastapi import HTTPException, Path
from starlette.convertors import Convertor, register_url_convertor

from tbg_core.difficulty import HASHES_PER_DIFFICULTY, block_chance
from tbg_serve.database import Database

# Texts from outside go to the database as values; only U+0000 is none there.
NO_NUL: Final = r"^[^\x00]*$"
Address = Annotated[
    str, Path(max_length=256, pattern=NO_NUL, description="Bitcoin address of a miner")
]


_BECH32: Final = re.compile(r"(bc|tb|bcrt)1[0-9a-z]+", re.IGNORECASE)


def spellings(address: str) -> list[str]:
    """An address as it is written, then in the other case: Bech32 may be in capitals (BIP 173)."""
    if not _BECH32.fullmatch(address):
        return [address]
    if address.islower():
        return [address, address.upper()]
    return [address, address.lower()] if address.isupper() else [address]


class _AnyText(Convertor[str]):
    """The rest of a path as it is: slashes, and line ends, which starlette's own leaves out."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("text", _AnyText())

WorkerName = Annotated[
    str, Path(max_length=256, pattern=NO_NUL, description="name of a worker; may be empty")
]

DAY: Final = 86_400
WEEK: Final = 7 * DAY
YEAR: Final = 31_557_600  # seconds, as the batch side has it

RATES: Final = ("hashrate_1m", "hashrate_5m", "hashrate_1h", "hashrate_24h")


def rate_sql(table: str, name: str, seen: str) -> str:
    """A hash rate that holds now: an engine that is gone reports none any more.

    Args:
        table: alias of users or workers, whose rate it is.
        name: of the column.
        seen: when the engine reported last of the user.
    """
    span = "1 day" if name == "hashrate_24h" else "1 hour"
    return (
        f"case when {seen} > now() - interval '{span}' "
        f"then coalesce(least(greatest({table}.{name}, 0), 1e30), 0) else 0 end"
    )


def rates_sql(table: str, seen: str) -> str:
    """All four, as columns of a query; see :func:`rate_sql`."""
    return ", ".join(f"{rate_sql(table, name, seen)} as {name}" for name in RATES)


@dataclass(frozen=True)
class Odds:
    """How likely a block is at a hash rate (H/s) against a network difficulty."""

    hash_rate: float
    network_difficulty: float | None

    @property
    def expected_seconds(self) -> float | None:
        """Mean seconds to a block: the time is exponential with mean D * 2^32 / hash rate."""
        if not self.network_difficulty or not self.hash_rate:
            return None
        return self.network_difficulty * HASHES_PER_DIFFICULTY / self.hash_rate

    def chance(self, seconds: float) -> float:
        """Of a block within so many seconds."""
        return block_chance(self.hash_rate, seconds, self.network_difficulty)

    def fields(self) -> dict[str, Any]:
        """As the model Odds has them."""
        return {
            "hash_rate": self.hash_rate,
            "network_difficulty": self.network_difficulty,
            "expected_seconds": self.expected_seconds,
            "chance_day": self.chance(DAY),
            "chance_week": self.chance(WEEK),
            "chance_year": self.chance(YEAR),
        }


class Miners:
    """Looks users and workers up."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def find(self, address: str) -> asyncpg.Record | None:
        """A user's row, with rates that hold now; None if the address never mined here."""
        return await self.database.row(_USER, spellings(address))

    async def user(self, address: str) -> asyncpg.Record:
        """As :meth:`find`.

        Raises:
            HTTPException: 404, the address never mined here.
        """
        row = await self.find(address)
        if row is None:
            raise HTTPException(404, "no miner with this address was ever seen here")
        return row

    async def worker(self, user: int, name: str) -> asyncpg.Record | None:
        """A worker's row, with the time of its last share."""
        return await self.database.row(_WORKER, user, name)

    async def workers(self, user: int, *, online: bool) -> list[asyncpg.Record]:
        """All workers of a user by name, or those that are online."""
        return await self.database.fetch(_WORKERS, user, online)

    async def page(self, user: int, after: str | None, most: int) -> list[asyncpg.Record]:
        """Workers of a user by name, after one."""
        return await self.database.fetch(_PAGE, user, after, most)

    async def connected(self, user: asyncpg.Record, workers: int) -> dict[str, datetime]:
        """When the workers of a user that are online connected last, by name; of many, none.

        Args:
            user: its row.
            workers: how many are online.
        """
        if workers > FEW_WORKERS:
            return {}
        rows = await self.database.fetch(_CONNECTED, user["btc_address"], user["id"])
        return {row["worker_name"]: row["connected_at"] for row in rows}

    async def connected_at(self, address: str, worker: str) -> datetime | None:
        """When a worker connected last."""
        row = await self.database.row(_CONNECTED_AT, address, worker)
        return None if row is None else row["connected_at"]

    async def network_difficulty(self) -> float | None:
        """Of the network's tip; None until a block was seen."""
        row = await self.database.row(_DIFFICULTY)
        return None if row is None else row["network_difficulty"]


FEW_WORKERS: Final = 500  # whose connections are looked up, one by one

_USER: Final = f"""
select u.id, u.btc_address, u.created_at, u.last_seen, {rates_sql("u", "u.last_seen")}
from users u where u.btc_address = any($1::text[])
order by array_position($1::text[], u.btc_address) limit 1
"""  # noqa: S608  a constant
_COLUMNS: Final = f"""
    w.id, w.worker_name, w.first_seen, w.last_share, w.is_online, w.user_agent,
    bounded(w.current_diff) as current_diff, {rates_sql("w", "u.last_seen")}
"""
_WORKER: Final = f"""
select {_COLUMNS}
from workers_seen w join users u on u.id = w.user_id
where w.user_id = $1 and w.worker_name = $2
"""  # noqa: S608  a constant
_WORKERS: Final = f"""
select {_COLUMNS}
from workers w join users u on u.id = w.user_id
where w.user_id = $1 and (w.is_online or not $2)
order by w.worker_name
"""  # noqa: S608  a constant
_PAGE: Final = f"""
select {_COLUMNS}
from workers w join users u on u.id = w.user_id
where w.user_id = $1 and ($2::text is null or w.worker_name > $2)
order by w.worker_name
limit $3
"""  # noqa: S608  a constant
_CONNECTED_AT: Final = """
select time as connected_at from served_connections
where event = 'miner_connected' and btc_address = $1 and worker_name = $2
order by time desc limit 1
"""
# One look for each worker: a user may have millions of connections.
_CONNECTED: Final = """
select w.worker_name, c.time as connected_at
from workers w
cross join lateral (
    select s.time from served_connections s
    where s.event = 'miner_connected' and s.btc_address = $1 and s.worker_name = w.worker_name
    order by s.time desc limit 1
) c
where w.user_id = $2 and w.is_online
"""
_DIFFICULTY: Final = """
select bounded(network_difficulty) as network_difficulty
from network_blocks order by seen_at desc, height desc limit 1
"""
