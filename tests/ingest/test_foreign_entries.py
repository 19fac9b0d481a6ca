"""Entries that no receiver of ours writes: each is a dead letter, and the writer goes on."""

import json
import random
import string
from typing import Any

import asyncpg
import pytest
import redis.asyncio as redis_async

from ingest.writer.codecs import prepare
from ingest.writer.rows import DeadLetter, parse
from tbg_core.entry import Entry
from tbg_core.names import DEAD_LETTER_STREAM, stream_of
from tests.ingest.harness import golden, parts_of

SHARES = stream_of("share_submitted")
# Too long for an index, and not to be compressed.
LONG = "".join(random.Random(3).choices(string.ascii_letters, k=100_000))


def fields(**changes: Any) -> Any:
    """A share as our receivers write it, changed."""
    value = golden("share_submitted")
    return {
        "event": "share_submitted",
        "timestamp": value["timestamp"],
        "source": "hosted",
        "instance": "e/1",
        "seq": 1,
        "data": json.dumps(value["data"]),
        **changes,
    }


@pytest.mark.parametrize("seq", ["0", "-5", "1_0", " 7", "9007199254740992", "9" * 40, "x"])
def test_a_number_out_of_the_contract_is_refused_and_never_a_duplicate(seq: str) -> None:
    flat = [str(part).encode() for pair in fields(seq=seq).items() for part in pair]
    item = parse(Entry(SHARES, b"1700000000000-0", flat))
    assert isinstance(item, DeadLetter)
    assert (item.reason, item.instance, item.seq) == ("bad_entry", None, None)


async def test_names_without_end_and_ids_of_the_far_future_become_dead_letters(
    database_url: str, db: asyncpg.Connection, redis: redis_async.Redis
) -> None:
    await redis.xadd(SHARES, fields(instance=LONG), id="5-1")
    await redis.xadd(
        DEAD_LETTER_STREAM,
        {"event": "dead_letter", "stage": "x", "reason": "x", "detail": "x", "raw": "x",
         "instance": LONG, "seq": 3},
        id="5-1",
    )  # fmt: skip
    await redis.xadd(SHARES, fields(seq=1), id="5-2")
    await redis.xadd(
        DEAD_LETTER_STREAM,
        {"event": "dead_letter", "stage": "x", "reason": "x", "detail": "x", "raw": "x",
         "instance": "e/1", "seq": 2},
        id="18446744073709551614-0",
    )  # fmt: skip
    connection = await asyncpg.connect(database_url)
    try:
        await prepare(connection)
        parts = await parts_of(connection, redis, "foreign")
        while entries := await parts.streams.read(100, 0):
            await parts.store.commit(entries)
    finally:
        await connection.close()
    assert await db.fetchval("select count(*) from shares") == 1
    letters = await db.fetch("select reason, instance, seq from dead_letters order by id")
    found = {(row["reason"], row["instance"], row["seq"]) for row in letters}
    assert found == {("bad_entry", None, None), ("x", None, None), ("x", "e/1", 2)}
    state = await db.fetchrow("select seq_max, seq_missing from engine_instances")
    assert state is not None
    assert (state["seq_max"], list(state["seq_missing"])) == (2, [])
