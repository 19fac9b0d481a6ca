"""Streams are worked through in the order of their entry ids, so a backlog makes no holes."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import asyncpg
import pytest
import redis.asyncio as redis_async
from hypothesis import given
from hypothesis import strategies as st

from ingest.sequence import Seen
from ingest.writer import streams as streams_module
from ingest.writer.codecs import prepare
from ingest.writer.streams import Streams
from tbg_core.names import DEAD_LETTER_STREAM, STREAMS, stream_of
from tests import mixture
from tests.ingest.harness import Parts, golden, parts_of

HOUR = 3_600_000_000
USERS = ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "bcrt1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy")  # fmt: skip


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


STEP = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(STREAMS), st.integers(1, 12)),
    st.tuples(st.just("read"), st.just(""), st.integers(1, 15)),
)


@given(steps=st.lists(STEP, max_size=40), at_once=st.integers(1, 7), per_milli=st.integers(1, 20))
def test_what_is_given_is_all_there_was_up_to_the_newest_of_it(
    redis_url: str,
    loop: asyncio.AbstractEventLoop,
    steps: list[tuple[str, str, int]],
    at_once: int,
    per_milli: int,
) -> None:
    async def run() -> None:
        client = redis_async.Redis.from_url(redis_url)
        streams = Streams(client)
        there: list[tuple[int, str, bytes]] = []  # millisecond, stream, id
        got: list[tuple[int, str, bytes]] = []

        async def read(most: int) -> int:
            found = await streams.read(most, 0)
            got.extend((int(e.id.partition(b"-")[0]), e.stream, e.id) for e in found)
            newest = max((millis for millis, _, _ in got), default=0)
            assert sorted(got) == sorted(entry for entry in there if entry[0] <= newest)
            return len(found)

        try:
            await client.flushdb()
            number = 0
            for what, stream, count in steps:
                if what == "read":
                    await read(count)
                    continue
                for _ in range(count):
                    millis = 1000 + number // per_milli
                    number += 1
                    # As Redis does: the number behind the dash counts within the stream.
                    made: Any = await client.xadd(stream, {"event": "x"}, id=f"{millis}-*")
                    there.append((millis, stream, made))
            while await read(3):
                pass
            assert sorted(got) == sorted(there)
        finally:
            await client.aclose()

    before = streams_module.AT_ONCE
    try:
        streams_module.AT_ONCE = at_once  # type: ignore[misc]  # Final in the product
        loop.run_until_complete(run())
    finally:
        streams_module.AT_ONCE = before  # type: ignore[misc]  # Final in the product


def entries_of(
    engines: dict[str, int], draw: random.Random, *, resends: float
) -> list[tuple[str, dict[str, Any], str, int]]:
    """What several engines publish in turn: stream, fields, instance, number."""
    made = []
    left = dict(engines)
    numbers = dict.fromkeys(engines, 0)
    micros = golden("share_submitted")["timestamp"] - 10 * HOUR
    templates = {event: golden(event) for event in mixture.WEIGHTS}
    encoded = {event: json.dumps(value["data"]) for event, value in templates.items()}
    sent: list[tuple[str, dict[str, Any], str, int]] = []
    while any(left.values()):
        name = draw.choice([name for name, count in left.items() if count])
        left[name] -= 1
        numbers[name] += 1
        micros += 1
        event = mixture.kind(draw)
        fields = {
            "event": event,
            "timestamp": micros,
            "source": "hosted",
            "instance": name,
            "seq": numbers[name],
            "data": encoded[event],
        }
        entry = (stream_of(event), fields, name, numbers[name])
        made.append(entry)
        sent.append(entry)
        if draw.random() < resends:
            made.append(draw.choice(sent))
    return made


async def publish_all(
    client: redis_async.Redis, made: list[tuple[str, dict[str, Any], str, int]]
) -> None:
    for at in range(0, len(made), 2000):
        pipeline = client.pipeline(transaction=False)
        for stream, fields, _, _ in made[at : at + 2000]:
            pipeline.xadd(stream, cast(Any, fields))
        await pipeline.execute()


async def open_writer(url: str, client: redis_async.Redis) -> tuple[asyncpg.Connection, Parts]:
    connection = await asyncpg.connect(url)
    await prepare(connection)
    return connection, await parts_of(connection, client, "order")


@pytest.mark.parametrize("at_once", [1000, 40])
async def test_a_backlog_of_all_eight_events_is_stored_and_only_true_copies_are_duplicates(
    redis_url: str,
    database_url: str,
    db: asyncpg.Connection,
    redis: redis_async.Redis,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    # Small pieces and few holes make this a backlog of hours in little time: read
    # unevenly, 8,000 events open far more holes than these.
    monkeypatch.setattr("ingest.writer.streams.AT_ONCE", at_once)
    monkeypatch.setattr("ingest.sequence.MAX_HOLES", 20)
    holes: list[int] = []
    add = Seen.add

    def watched(self: Seen, seq: int) -> Any:
        arrival = add(self, seq)
        holes.append(len(self.missing))
        return arrival

    monkeypatch.setattr(Seen, "add", watched)
    draw = random.Random(20)
    engines = {f"engine-{number}/1": 4000 for number in range(4)}
    made = entries_of(engines, draw, resends=0.02)
    await publish_all(redis, made)
    connection, parts = await open_writer(database_url, redis)
    try:
        while entries := await parts.streams.read(draw.choice([1, 30, 500, 5000]), 0):
            await parts.store.commit(entries)
            if draw.random() < 0.02:  # a restart: on from what is committed
                await connection.close()
                connection, parts = await open_writer(database_url, redis)
    finally:
        await connection.close()
    stored = await db.fetch(
        "select i.instance, s.seq from (select instance_id, seq from shares union all "
        "select instance_id, seq from mining_events) s "
        "join engine_instances i on i.id = s.instance_id"
    )
    numbers = Counter((row["instance"], row["seq"]) for row in stored)
    assert set(numbers.values()) == {1}
    assert set(numbers) == {(name, seq) for _, _, name, seq in made}
    duplicates = await db.fetchval("select sum(duplicates)::int from engine_instances")
    assert duplicates == len(made) - len(numbers)
    # Nothing was lost before Redis: only what is read of one batch stream by stream
    # makes a hole for a moment, and it is filled in the order of the numbers.
    assert max(holes, default=0) <= 20
    line = await db.fetchrow(
        "select sum(missing)::int as missing, sum(unexplained)::int as unexplained, "
        "sum(committed)::int as committed from ledger_hours"
    )
    assert line is not None
    assert (line["missing"], line["unexplained"], line["committed"]) == (0, 0, len(numbers))


async def test_an_event_before_the_holes_that_are_remembered_is_looked_up_and_not_guessed(
    redis_url: str,
    database_url: str,
    db: asyncpg.Connection,
    redis: redis_async.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest.sequence.MAX_HOLES", 5)
    made = entries_of({"engine/1": 400}, random.Random(7), resends=0)
    # Every other number is late: far more holes than are remembered.
    late = made[1::2]
    connection, parts = await open_writer(database_url, redis)
    try:
        for part in (made[::2], late, made, late):
            await publish_all(redis, part)
            while entries := await parts.streams.read(100, 0):
                await parts.store.commit(entries)
            if part is late:  # the state of a restart says the same
                await connection.close()
                connection, parts = await open_writer(database_url, redis)
    finally:
        await connection.close()
    stored = await db.fetch(
        "select seq from shares union all select seq from mining_events order by 1"
    )
    assert [row["seq"] for row in stored] == list(range(1, 401))
    state = await db.fetchrow("select events, duplicates, seq_floor from engine_instances")
    assert state is not None
    assert (state["events"], state["duplicates"]) == (400, 600)
    assert state["seq_floor"] > 0
    line = await db.fetchrow("select emitted, committed, missing, unexplained from ledger_hours")
    assert line is not None
    assert tuple(line) == (400, 400, 0, 0)


async def test_a_millisecond_that_holds_a_backlog_is_given_in_parts_in_the_events_own_order(
    redis: redis_async.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was set back: every entry until it is right again has the same millisecond."""
    monkeypatch.setattr("ingest.writer.streams.AT_ONCE", 50)
    monkeypatch.setattr("ingest.writer.streams.MOST_OF_A_MILLI", 100)
    made = entries_of({"engine/1": 6000}, random.Random(5), resends=0)
    pipeline = redis.pipeline(transaction=False)
    for stream, fields, _, _ in made:
        pipeline.xadd(stream, cast(Any, fields), id="5000-*")
    # What names no time is given in its stream's order all the same.
    for _ in range(300):
        pipeline.xadd(DEAD_LETTER_STREAM, {"stage": "receiver"}, id="5000-*")
    await pipeline.execute()
    streams = Streams(redis)
    seen = Seen()
    holes, given = 0, 0
    order: dict[str, list[bytes]] = {}
    while entries := await streams.read(100, 0):
        assert len(entries) < 100 + len(STREAMS) * 150
        given += len(entries)
        numbers = []
        for entry in entries:
            order.setdefault(entry.stream, []).append(entry.id)
            if event := entry.event():
                numbers.append(int(event[4]))
        for number in sorted(numbers):
            seen.add(number)
        holes = max(holes, len(seen.missing))
    assert given == len(made) + 300
    for stream, ids in order.items():
        found: Any = await redis.xrange(stream)
        assert ids == [entry_id for entry_id, _ in found]
    assert (seen.highest, seen.missing) == (6000, [])
    assert holes <= 1


async def test_two_streams_that_stand_still_at_different_milliseconds_are_not_held_whole(
    redis: redis_async.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.writer.streams.AT_ONCE", 50)
    monkeypatch.setattr("ingest.writer.streams.MOST_OF_A_MILLI", 100)
    pipeline = redis.pipeline(transaction=False)
    for number in range(3000):
        for millis, stream in ((5000, STREAMS[0]), (6000, STREAMS[1])):
            pipeline.xadd(stream, {"event": str(number)}, id=f"{millis}-*")
    await pipeline.execute()
    streams = Streams(redis)
    given = 0
    while entries := await streams.read(100, 0):
        assert len(entries) < 500
        given += len(entries)
    assert given == 6000
