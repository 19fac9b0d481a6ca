"""Writers beside each other take their locks in one order, so that none waits for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import asyncpg

from ingest.writer.codecs import prepare
from ingest.writer.miners import Miners
from ingest.writer.presence import Presence
from ingest.writer.rows import Row
from ingest.writer.tables import insert_blocks, mark_block_shares
from tbg_core.entry import Entry
from tbg_core.flavour import Flavour
from tbg_core.periods import from_micros

ENTRY = Entry("mining:share_submitted", b"1-0", [])
NOW = 1_800_000_000_000_000
Db = asyncpg.Connection


def row(event: str, user: str, **data: Any) -> Row:
    made = Row(event, NOW, "hosted", None, None, SimpleNamespace(user=user, **data), b"", ENTRY)
    made.user_id, made.worker_id = 1, 1
    return made


def block(user: int, block_hash: str) -> Row:
    made = row(
        "block_found", "", height=1, hash=block_hash, prev_hash=None, reward_sats=1, fees_sats=0,
        difficulty=1.0, network_difficulty=1.0, coinbase_sig="",
    )  # fmt: skip
    made.user_id = user
    return made


async def test_new_miners_are_inserted_in_the_order_of_their_names_whatever_the_plan(
    db: Db,
) -> None:
    await prepare(db)
    # A hash join hands the names over in an order of its own.
    await db.execute("set enable_nestloop = off")
    await db.execute("set enable_mergejoin = off")
    rows = [row("share_submitted", f"user-{n * 37 % 50}", worker="rig") for n in range(50)]
    await Miners(Presence()).resolve(db, rows)
    users = await db.fetchval("select array_agg(btc_address order by id) from users")
    assert len(users) == 50
    assert users == await db.fetchval(
        "select array_agg(btc_address order by btc_address) from users"
    )
    workers = await db.fetchval("select array_agg(user_id order by id) from workers")
    assert workers == sorted(workers)


async def test_two_writers_that_mark_the_shares_of_the_same_blocks_do_not_deadlock(
    db: Db, database_url: str, flavour: Flavour, eventually: Callable[..., Awaitable[Any]]
) -> None:
    await prepare(db)
    if flavour == "postgresql":
        await db.execute("select ensure_partitions($1, $1)", from_micros(NOW).date())
    await db.execute("insert into users (btc_address) values ('a'), ('b')")
    await db.execute("insert into workers (user_id, worker_name) values (1, ''), (2, '')")
    hashes = {user: f"{user:064x}" for user in (1, 2)}
    for user, share_hash in hashes.items():
        await db.execute(
            "insert into shares (time, difficulty, user_id, worker_id, is_valid, share_hash) "
            "values ($1, 1, $2, $2, true, $3)",
            from_micros(NOW),
            user,
            bytes.fromhex(share_hash),
        )
        await insert_blocks(db, [block(user, share_hash)])

    async def mark(order: list[int]) -> None:
        connection = await asyncpg.connect(database_url)
        await prepare(connection)
        async with connection.transaction():
            rows = [block(user, hashes[user]) for user in order]
            await mark_block_shares(connection, await insert_blocks(connection, rows))
        await connection.close()

    async def waiting(count: int) -> bool:
        return bool(count == await db.fetchval("select count(*) from pg_locks where not granted"))

    holder = await asyncpg.connect(database_url)
    async with holder.transaction():
        await holder.execute("select from shares where user_id = 1 for update")
        first = asyncio.create_task(mark([1, 2]))
        await eventually(lambda: waiting(1))
        second = asyncio.create_task(mark([2, 1]))
        await eventually(lambda: waiting(2))
    await asyncio.gather(first, second)  # raises DeadlockDetectedError otherwise
    assert await db.fetchval("select count(*) from shares where is_block") == 2
    await holder.close()
