"""Several cells, one database: on one cluster, and on servers of their own."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg

from tbg.stack.embedded import EmbeddedValkey
from tbg_core.names import IDENTITY_KEY, in_cell
from tests.cells.cluster import Cluster
from tests.faults.engine import Engine
from tests.ingest.harness import stage
from tests.processes import until

USERS = ("bc1qcellsa", "bc1qcellsb")
RATE = 400  # events a second of each engine

_THERE = """
select count(*) from (
    select s.seq from shares s join engine_instances i on i.id = s.instance_id where i.instance = $1
    union select e.seq from mining_events e join engine_instances i on i.id = e.instance_id
    where i.instance = $1
    union select d.seq from dead_letters d where d.instance = $1
) numbers where seq is not null
"""
_ROWS = """
select (select count(*) from shares where instance_id is not null)
    + (select count(*) from mining_events where instance_id is not null)
"""


async def drained(db: asyncpg.Connection, engine: Engine) -> None:
    """Ends an engine, and waits until each of its numbers has a row or a letter."""
    await asyncio.to_thread(engine.stop)
    engine.close()

    async def there() -> bool:
        return bool(await db.fetchval(_THERE, engine.name) == engine.sent)

    await until(there, f"all {engine.sent} numbers of {engine.name} are in the database")


async def sent(engine: Engine, more: int = 400) -> None:
    """Waits until an engine has sent so many events more."""
    least = engine.sent + more
    await until(lambda: engine.sent >= least)


async def committed(db: asyncpg.Connection, engine: Engine) -> None:
    """Waits until something of an engine is committed."""

    async def seen() -> bool:
        return bool(
            await db.fetchval(
                "select seq_max > 100 from engine_instances where instance = $1", engine.name
            )
        )

    await until(seen, f"something of {engine.name} is committed")


def _apart(cluster: Cluster) -> tuple[str, str]:
    """Names of two cells that the cluster keeps on two nodes."""
    first = "eu1"
    other = cluster.owner(in_cell(IDENTITY_KEY, first))
    return first, next(
        name
        for name in (f"us{number}" for number in range(100))
        if cluster.owner(in_cell(IDENTITY_KEY, name)) is not other
    )


async def check_books(db: asyncpg.Connection, engines: dict[str, Engine]) -> None:
    """Every number is there once, no loss is claimed, and each boot is in its cell."""
    for cell, engine in engines.items():
        row = await db.fetchrow(
            "select cell, numbers_in(seq_missing) as missing from engine_instances "
            "where instance = $1",
            engine.name,
        )
        assert row is not None
        assert (row["cell"], row["missing"]) == (cell, 0)
        assert not await db.fetchval(
            "select coalesce(sum(unexplained), 0) from ledger_hours where instance = $1",
            engine.name,
        )
    letters = await db.fetchval("select count(*) from dead_letters")
    assert letters == sum(engine.broken for engine in engines.values())
    assert await db.fetchval(_ROWS) == sum(engine.sent for engine in engines.values()) - letters
    names = [row["btc_address"] for row in await db.fetch("select btc_address from users")]
    assert sorted(names) == sorted(USERS)
    doubled = "select user_id, worker_name from workers group by 1, 2 having count(*) > 1"
    assert not await db.fetch(doubled)


def engine(folder: Path, cell: str) -> Engine:
    """An engine of a cell; those of all cells have the same miners."""
    return Engine(folder / "events.sock", f"{cell}/1", RATE, cell, resends=True, users=USERS)


async def test_a_cluster_that_loses_a_primary_loses_no_event_that_a_replica_confirmed(
    server_folder: Path,
    valkey_cluster: Callable[[], Cluster],
    database_url: str,
    db: asyncpg.Connection,
) -> None:
    cluster = await asyncio.to_thread(valkey_cluster)
    cells = await asyncio.to_thread(_apart, cluster)
    folders = {cell: server_folder / cell for cell in cells}
    settings = {"REDIS_CONFIRM": "replica", "REDIS_TIMEOUT": "2"}
    first, second = cells
    for folder in folders.values():
        folder.mkdir()
    async with (
        stage("receiver", folders[first], cluster.url, CELL=first, **settings),
        stage("writer", folders[first], cluster.url, database_url, CELL=first),
        stage("receiver", folders[second], cluster.url, CELL=second, **settings) as receiver,
        stage("writer", folders[second], cluster.url, database_url, CELL=second) as writer,
    ):
        engines = {cell: engine(folders[cell], cell).start() for cell in cells}
        for one in engines.values():
            await committed(db, one)
        owner = await asyncio.to_thread(cluster.owner, in_cell(IDENTITY_KEY, first))
        await asyncio.to_thread(owner.kill)
        await sent(engines[second])
        await receiver.kill()
        await writer.kill()
        await receiver.start()
        await writer.start()
        await sent(engines[first])
        # Until the new primary has a replica again, what the receiver gets goes to its spool.
        await asyncio.to_thread(owner.start)
        for one in engines.values():
            await drained(db, one)
    await check_books(db, engines)


async def test_cells_in_two_regions_share_a_database(
    server_folder: Path,
    valkey_server: Callable[..., EmbeddedValkey],
    database_url: str,
    db: asyncpg.Connection,
) -> None:
    servers = {cell: valkey_server(appendfsync="always") for cell in ("eu1", "us1")}
    folders = {cell: server_folder / cell for cell in servers}
    for folder in folders.values():
        folder.mkdir()
    async with (
        stage("receiver", folders["eu1"], servers["eu1"].url, CELL="eu1"),
        stage("writer", folders["eu1"], servers["eu1"].url, database_url, CELL="eu1") as writer,
        stage("receiver", folders["us1"], servers["us1"].url, CELL="us1") as receiver,
        stage("writer", folders["us1"], servers["us1"].url, database_url, CELL="us1"),
    ):
        engines = {cell: engine(folders[cell], cell).start() for cell in servers}
        for one in engines.values():
            await committed(db, one)
        await asyncio.to_thread(servers["eu1"].kill)
        await receiver.kill()
        await sent(engines["eu1"])
        await asyncio.to_thread(servers["eu1"].start)
        await receiver.start()
        await writer.kill()
        await sent(engines["us1"])
        await writer.start()
        for one in engines.values():
            await drained(db, one)
    await check_books(db, engines)
