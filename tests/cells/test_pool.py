"""The batch side and the commands, over all cells of a pool."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import redis as redis_sync
import redis.asyncio as redis_async
from click.testing import CliRunner
from psycopg.rows import dict_row

from ingest.writer.instances import Instances
from tbg.cli import main
from tbg_core.backlog import find_places, waiting
from tbg_core.names import IDENTITY_KEY, STREAMS, in_cell, stream_of
from tbg_dagster.workers.liveness import mark_silent
from tests.cells.test_cells import USERS
from tests.ingest.harness import packed, sending, stage
from tests.processes import until

SHARES = stream_of("share_submitted")
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def connection(database_url: str) -> Iterator["psycopg.Connection[dict[str, Any]]"]:
    with psycopg.connect(database_url, autocommit=True, row_factory=dict_row) as opened:
        yield opened


@pytest.fixture
def client(redis_url: str) -> Iterator["redis_sync.Redis"]:
    with redis_sync.Redis.from_url(redis_url) as opened:
        yield opened


def committed(
    connection: "psycopg.Connection[dict[str, Any]]",
    cell: str,
    redis: str,
    *,
    looked_at: datetime | None = None,
    waits_since: datetime | None = None,
) -> None:
    """A writer has committed all of a cell's streams; of shares, up to noon."""
    for stream in STREAMS:
        shares = stream == SHARES
        connection.execute(
            "insert into stream_offsets (cell, consumer, stream, last_id, redis, looked_at, "
            "waits_since) values (%s, 'writer', %s, %s, %s, %s, %s)",
            [cell, stream, id_at(NOON), redis, looked_at, waits_since if shares else None],
        )


def id_at(moment: datetime) -> str:
    return f"{int(moment.timestamp() * 1000)}-0"


def test_what_waits_in_each_cell_of_this_redis_is_asked_there(
    connection: Any, client: "redis_sync.Redis"
) -> None:
    for cell in ("eu1", "us1"):
        client.set(in_cell(IDENTITY_KEY, cell), cell)
        committed(connection, cell, cell, looked_at=NOON, waits_since=NOON)
    assert waiting(find_places(connection), client) == []
    late = NOON + timedelta(minutes=1)
    client.xadd(in_cell(SHARES, "us1"), {"a": 1}, id=id_at(late))
    (one,) = waiting(find_places(connection), client)
    assert one == ("us1", "writer", SHARES, late, 1)
    assert "of cell us1" in str(one)


@pytest.mark.parametrize("identity", [None, "another"])
def test_a_cell_in_another_redis_is_behind_from_when_its_writer_looked_last(
    connection: Any, client: "redis_sync.Redis", identity: str | None
) -> None:
    if identity is not None:
        client.set(in_cell(IDENTITY_KEY, "us1"), identity)
    looked_at, since = NOON + timedelta(seconds=5), NOON - timedelta(hours=1)
    committed(connection, "us1", "there", looked_at=looked_at, waits_since=since)
    # A stream of the same name here says nothing of it.
    client.xadd(in_cell(stream_of("block_found"), "us1"), {"a": 1}, id=id_at(NOON))
    found = waiting(find_places(connection), client)
    assert (found[0].stream, found[0].since, found[0].entries) == (SHARES, since, 1)
    assert {(one.since, one.entries) for one in found[1:]} == {(looked_at, 0)}


async def test_a_writer_notes_what_waits_for_those_who_do_not_reach_its_redis(
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    redis: redis_async.Redis,
    db: asyncpg.Connection,
) -> None:
    async with stage("writer", tmp_path, redis_url, database_url, CELL="us1"):

        async def looked() -> bool:
            return bool(
                await db.fetchval(
                    "select count(*) = $1 from stream_offsets "
                    "where cell = 'us1' and looked_at is not null and waits_since is null",
                    len(STREAMS),
                )
            )

        await until(looked)


async def test_a_cell_has_one_writer_and_the_next_one_waits(
    tmp_path: Path, redis_url: str, database_url: str, db: asyncpg.Connection
) -> None:
    waits = "another writer is at work"
    async with (
        stage("writer", tmp_path, redis_url, database_url, CELL="eu1") as first,
        stage("writer", tmp_path, redis_url, database_url, CELL="us1"),
        stage("writer", tmp_path, redis_url, database_url),
        stage("writer", tmp_path, redis_url, database_url, CELL="eu1", ready=waits) as second,
    ):
        assert "committing" not in second.process.output
        await first.kill()
        await second.process.saying("committing")


async def test_a_boot_is_in_the_cell_whose_writer_has_seen_it_last(db: asyncpg.Connection) -> None:
    for cell, expected in (("", ""), ("eu1", "eu1"), (None, "eu1"), ("us1", "us1")):
        await Instances(cell).load(db, {"pool/1": "hosted"})
        assert await db.fetchval("select cell from engine_instances") == expected


async def test_engines_of_two_cells_may_have_one_name(db: asyncpg.Connection) -> None:
    """A boot is over when a newer one of its own cell is there."""
    await db.executemany(
        "insert into engine_instances (instance, cell, seq_max, last_seen) "
        "values ($1, $2, 1, now() - interval '10 minutes')",
        [("pool/1", "eu1"), ("pool/2", "us1"), ("pool/3", "us1")],
    )
    rows = await db.fetch("select instance, cell, ending from engine_endings")
    assert {tuple(row) for row in rows} == {
        ("pool/1", "eu1", "running"),
        ("pool/2", "us1", "unknown"),
        ("pool/3", "us1", "running"),
    }


def test_a_worker_that_moved_to_another_cell_is_online(connection: Any) -> None:
    """The cell that it left tells of its end late; its connection in the other one counts."""
    now = datetime.now(UTC)
    (user,) = connection.execute(
        "insert into users (btc_address) values ('a') returning id"
    ).fetchall()
    connection.execute(
        "insert into workers (user_id, worker_name, last_share, is_online) values (%s, 'rig', %s, "
        "false)",
        [user["id"], now],
    )
    boots = connection.execute(
        "insert into engine_instances (instance, cell) values ('pool/1', 'eu1'), ('pool/2', 'us1') "
        "returning id"
    ).fetchall()
    old, new = (boot["id"] for boot in boots)
    for boot, event, seconds in (
        (old, "miner_connected", 60),
        (new, "miner_connected", 20),
        (old, "miner_disconnected", 10),
    ):
        connection.execute(
            "insert into mining_events (time, event, instance_id, payload) values (%s, %s, %s, %s)",
            [
                now - timedelta(seconds=seconds),
                event,
                boot,
                json.dumps({"user": "a", "worker": "rig", "client_id": 1}),
            ],
        )
    look = (now, timedelta(minutes=5), timedelta(minutes=5))
    mark_silent(connection, *look)
    assert connection.execute("select is_online from workers").fetchall() == [{"is_online": True}]
    assert mark_silent(connection, *look).alerted == 0


async def test_the_commands_know_the_cells(
    tmp_path: Path, redis_url: str, database_url: str, db: asyncpg.Connection
) -> None:
    for cell in ("eu1", "us1"):
        folder = tmp_path / cell
        folder.mkdir()
        async with (
            stage("receiver", folder, redis_url, CELL=cell),
            stage("writer", folder, redis_url, database_url, CELL=cell),
        ):
            with sending(folder / "events.sock") as sender:
                for seq in (1, 2, 4):
                    event = packed("share_submitted", instance=f"{cell}/1", seq=seq, user=USERS[0])
                    sender.send(event)

            async def stored(cell: str = cell) -> bool:
                return bool(
                    await db.fetchval(
                        "select events = 3 from engine_instances where cell = $1", cell
                    )
                )

            await until(stored)
    runner = CliRunner(env={"DATABASE_URL": database_url, "REDIS_URL": redis_url})
    state = ["--state", str(tmp_path / "state")]
    found = json.loads(runner.invoke(main, ["status", *state, "--json"]).output)
    assert found["events"]["share_submitted"]["in_stream"] == 6
    assert {name: cell["reached"] for name, cell in found["cells"].items()} == {
        "eu1": True,
        "us1": True,
    }
    assert "cell us1: committed" in runner.invoke(main, ["status", *state]).output
    rows = json.loads(runner.invoke(main, ["ledger", *state, "--cell", "us1", "--json"]).output)
    assert [(row["instance"], row["cell"], row["missing"]) for row in rows] == [("us1/1", "us1", 1)]
    # One that was forgotten by mistake is searched for in the streams of its own cell.
    await db.execute(
        "delete from shares where seq = 2 and instance_id = "
        "(select id from engine_instances where instance = 'us1/1')"
    )
    repaired = runner.invoke(main, ["ledger", *state, "--audit", "--repair"])
    assert "1 numbers are holes" in repaired.output
    async with stage("writer", tmp_path / "us1", redis_url, database_url, CELL="us1"):

        async def back() -> bool:
            return bool(await db.fetchval("select count(*) = 6 from shares"))

        await until(back)
    forgotten = runner.invoke(main, ["forget", *state, "eu1/writer"])
    assert forgotten.exit_code == 0, forgotten.output
    assert await db.fetchval("select array_agg(distinct cell) from stream_offsets") == ["us1"]
    assert (
        len(await db.fetch("select from users")) == len(await db.fetch("select from workers")) == 1
    )
