"""Which keys a cell has in Redis, and that one without a name has the names of one machine."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async

from ingest.missing import missing_key
from ingest.receiver.publisher import fence_key, published_key
from tbg_core.entry import Batch, additions
from tbg_core.events import EVENTS
from tbg_core.names import IDENTITY_KEY, STREAMS, in_cell, stream_of
from tests.ingest.harness import packed, sending, stage
from tests.processes import until


def test_a_cell_without_a_name_has_the_names_of_one_machine() -> None:
    for name in (*STREAMS, IDENTITY_KEY):
        assert in_cell(name) == name
    assert published_key("pool/1") == "mining:published:pool/1"
    assert missing_key("pool/1") == "mining:missing:pool/1"
    assert fence_key("a") == "mining:fence:a"
    stream = stream_of("share_submitted")
    batch = Batch("mark", "1", {stream: [b"x"] * 6}, 1)
    assert b"\r\nmining:share_submitted\r\n" in b"".join(additions(batch))


def test_the_hash_tag_of_a_cell_comes_before_one_in_the_name_of_an_engine() -> None:
    assert published_key("{x}/1", "eu1") == "mining:{eu1}:published:{x}/1"
    assert missing_key("{x}/1", "eu1") == "mining:{eu1}:missing:{x}/1"


@pytest.mark.parametrize("cell", ["", "eu1"])
async def test_all_keys_but_those_of_the_whole_pool_carry_the_name_of_their_cell(
    cell: str,
    tmp_path: Path,
    redis_url: str,
    database_url: str,
    redis: redis_async.Redis,
    db: asyncpg.Connection,
) -> None:
    async with (
        stage("receiver", tmp_path, redis_url, CELL=cell),
        stage("writer", tmp_path, redis_url, database_url, CELL=cell),
    ):
        with sending(tmp_path / "events.sock") as sender:
            for seq, event in enumerate(EVENTS, 1):
                sender.send(packed(event, instance="{pool}/1", seq=seq))
            sender.send(packed("share_submitted", instance="{pool}/1", seq=20))

        async def all_committed() -> bool:
            return bool(await db.fetchval("select max(events) = 9 from engine_instances"))

        await until(all_committed)
        missing = missing_key("{pool}/1", cell)

        async def said() -> bool:
            return bool(await redis.exists(missing))

        await until(said, "the writer has said what is missing")
    found: list[Any] = await redis.keys("*")
    keys = {key.decode() for key in found}
    shared = {key for key in keys if key.startswith("leaderboard:best_diff:")}
    assert len(shared) == 1
    assert {in_cell(stream_of(event), cell) for event in EVENTS} <= keys
    prefix = "mining:{eu1}:" if cell else "mining:"
    assert all(key.startswith(prefix) for key in keys - shared)
    tagged = [key for key in keys - shared if key.startswith("mining:{")]
    assert len(tagged) == (len(keys - shared) if cell else 0)
    row = await db.fetchrow("select distinct cell from stream_offsets")
    assert row is not None
    assert row["cell"] == cell
