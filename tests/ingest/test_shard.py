"""Which writer an engine belongs to, and what several writers do to the same miners."""

import asyncio
import random
import zlib

import asyncpg
import pytest
import redis.asyncio as redis_async

from ingest.codecs import prepare
from ingest.decode import decode
from ingest.entry import Entry
from ingest.names import stream_of
from ingest.peers import Peers
from ingest.shard import Shard, names_a_shard, parse_shard, shard_of, shards
from tests.ingest.harness import packed, parts_of

USERS = 120


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_instance_belongs_to_one_writer_and_all_boots_of_an_engine_to_the_same(
    count: int,
) -> None:
    for number in range(50):
        owners = {
            tuple(shard.owns(f"engine-{number}/{boot}".encode()) for shard in shards(count))
            for boot in (1, 2, 1763769600123456)
        }
        assert len(owners) == 1
        assert sum(owners.pop()) == 1
    used = {s for s in shards(count) for n in range(50) if s.owns(f"engine-{n}/1".encode())}
    assert used == set(shards(count))


def test_the_owner_is_the_same_on_every_machine() -> None:
    assert zlib.crc32(b"ckpool-eu1") % 3 + 1 == 3
    assert Shard(3, 3).owns(b"ckpool-eu1/1763769600123456")


def test_what_names_no_instance_is_the_first_writers() -> None:
    assert [shard.owns(b"") for shard in shards(3)] == [True, False, False]


def test_a_name_is_owned_as_it_is_stored() -> None:
    # Both are stored as the text \xff/1.
    assert [s.owns(b"\xff/1") for s in shards(5)] == [s.owns(rb"\xff/1") for s in shards(5)]


def test_consumer_names_tell_the_shard() -> None:
    for shard in (*shards(1), *shards(3)):
        assert shard_of("a-1-of-2", shard.consumer("a-1-of-2")) == shard
        assert shard_of("writer", shard.consumer("writer")) == shard
        assert shard_of("other", shard.consumer("writer")) is None
        assert names_a_shard(shard.consumer("writer")) == (shard.count > 1)
    assert shard_of("write", "writer") is None


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "-1/2", "1/65", "a/b", "1/2/3"])
def test_what_is_no_shard_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2/3 for the second of three"):
        parse_shard(text)


def batch(shard: Shard, number: int, draw: random.Random) -> list[Entry]:
    """Events of all users in any order, and two tips that all engines see."""
    name = next(f"e{n}/1" for n in range(1000) if shard.owns(f"e{n}/1".encode()))
    events: list[tuple[str, dict[str, str | int]]] = []
    for user in draw.sample(range(USERS), USERS):
        kind = draw.choice(["share_submitted", "hashrate_update", "miner_connected"])
        worker = "" if kind == "hashrate_update" else draw.choice(["", "rig"])
        events.append((kind, {"user": f"miner-{user}", "worker": worker}))
    for height in draw.sample(range(2), 2):
        block = f"{number:032x}{height:032x}"
        events.append(("new_block_network", {"hash": block, "height": height}))
    entries = []
    for index, (kind, changes) in enumerate(events, number * (USERS + 2) + 1):
        event = decode(packed(kind, instance=name, seq=index, **changes))
        fields = {
            "event": kind,
            "timestamp": str(event.timestamp),
            "source": event.source,
            "instance": name,
            "seq": str(index),
            "data": event.raw_data.decode(),
        }
        flat = [part.encode() for pair in fields.items() for part in pair]
        entries.append(Entry(stream_of(kind), f"{index}-0".encode(), flat))
    return entries


async def test_writers_with_the_same_miners_never_wait_for_each_other_in_a_circle(
    database_url: str, db: asyncpg.Connection, redis: redis_async.Redis
) -> None:
    seed = random.randrange(2**32)

    async def write(shard: Shard) -> None:
        draw = random.Random(f"{seed}:{shard}")
        connection = await asyncpg.connect(database_url)
        try:
            await prepare(connection)
            peers = Peers(connection, "writer", shard)
            await peers.join()
            consumer = shard.consumer("writer")
            parts = await parts_of(connection, redis, consumer, peers.takes)
            for number in range(25):
                await parts.store.commit(batch(shard, number, draw))
        finally:
            await connection.close()

    try:
        async with asyncio.TaskGroup() as group:
            for shard in shards(3):
                group.create_task(write(shard))
    except* asyncpg.DeadlockDetectedError as deadlocks:
        # The server ends one of those that wait in a circle: nobody tries again here.
        pytest.fail(f"seed {seed}: {deadlocks.exceptions[0]}")
    stored = await db.fetchval(
        "select (select count(*) from shares) + (select count(*) from mining_events)"
    )
    assert stored == 3 * 25 * (USERS + 2)
    assert await db.fetchval("select count(*) from users") == USERS
    assert await db.fetchval("select count(*) from network_blocks") == 50
    assert await db.fetchval(
        "select sum(total_shares) = (select count(*) from shares where is_valid) "
        "from weekly_standings"
    )
