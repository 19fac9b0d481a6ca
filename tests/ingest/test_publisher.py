"""A batch is published once, and each numbered event once, whatever happens in between."""

from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio as redis_async
from redis.exceptions import RedisError, ResponseError

from ingest.decode import decode
from ingest.entry import FIELDS, Batch, event_values
from ingest.names import BLOCKS_CHANNEL, LEDGER_STREAM, stream_of
from ingest.publisher import MAX_HOLES, Publisher
from tbg.embedded import EmbeddedValkey
from tests.clock import moment
from tests.ingest.harness import entries, packed

SHARES, BLOCKS = stream_of("share_submitted"), stream_of("block_found")


@pytest.fixture
async def publisher(redis_url: str) -> AsyncIterator[Publisher]:
    made = Publisher(redis_url, 5.0)
    yield made
    await made.close()


BEGAN = moment()


def batch(
    name: str, seqs: list[int], event: str = "share_submitted", *, began: int = BEGAN
) -> Batch:
    """Events of e/1 with these numbers, one in a microsecond: a copy has the time of the first."""
    values: list[bytes] = []
    for seq in seqs:
        values += event_values(
            decode(packed(event, instance="e/1", seq=seq, timestamp=began + seq))
        )
    return Batch("mark", name, {stream_of(event): values}, len(seqs))


async def numbers(client: redis_async.Redis, stream: str = SHARES) -> list[int]:
    return [int(entry[b"seq"]) for entry in await entries(client, stream)]


async def test_entries_hold_the_values_under_the_names_of_their_stream(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    named = {name: name for name in FIELDS[SHARES] if name not in (b"seq", b"instance")}
    named |= {b"seq": b"", b"instance": b""}  # an event without a number
    values = [named[name] for name in FIELDS[SHARES]] * 3
    await publisher.publish(Batch("mark", "1", {SHARES: values, LEDGER_STREAM: [b"{}"]}, 3))
    assert await entries(redis, SHARES) == [named] * 3
    assert await entries(redis, LEDGER_STREAM) == [{b"report": b"{}"}]


async def test_a_batch_that_a_killed_receiver_left_behind_adds_nothing_twice(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    values = [b"x", b"1", b"hosted", b"", b"", b"{}"]
    await publisher.publish(Batch("mark", "1", {SHARES: values * 3}, 3))
    again = Publisher(redis_url, 5.0)
    await again.publish(Batch("mark", "1", {SHARES: values * 3}, 3))
    assert await redis.xlen(SHARES) == 3
    await again.publish(Batch("mark", "2", {SHARES: values}, 1))
    assert await redis.xlen(SHARES) == 4
    await again.close()


async def test_an_event_that_is_in_the_streams_is_left_out_also_by_the_next_receiver(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    await publisher.publish(batch("1", [1, 2, 4, 2]))
    next_ = batch("2", [4, 3, 5])
    next_.values[LEDGER_STREAM] = [b"{}"]
    known = await publisher.publish(next_)
    assert ([int(seq) for _, _, seq, _ in known.numbers()], known.events) == ([4], 1)
    assert await redis.xlen(LEDGER_STREAM) == 1
    again = Publisher(redis_url, 5.0)
    known = await again.publish(batch("3", [1, 2, 3, 4, 5, 7, 6]))
    assert known.events == 5
    assert await numbers(redis) == [1, 2, 4, 3, 5, 7, 6]
    await again.close()


async def test_a_number_that_a_later_event_uses_again_is_left_to_the_writer(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    await publisher.publish(batch("1", [1, 2, 3]))
    # Later than all that the boot has sent, in any order, and the newest number goes on.
    again = Publisher(redis_url, 5.0)
    assert (await again.publish(batch("2", [2, 1], began=BEGAN + 9))).events == 0
    assert (await again.publish(batch("3", [1, 3, 4], began=BEGAN + 3))).events == 0
    # Copies of the first boot's, also beside its new ones, and as late as its latest.
    assert (await again.publish(batch("4", [1, 2, 3, 5]))).events == 3
    assert (await again.publish(batch("5", [3], began=BEGAN + 4))).events == 1
    assert await numbers(redis) == [1, 2, 3, 2, 1, 1, 3, 4, 5]
    await again.close()


async def test_a_mark_without_a_time_takes_every_known_number_for_a_copy(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    await redis.set("mining:published:e/1", "[3,0,[]]")
    assert (await publisher.publish(batch("1", [1, 3, 4]))).events == 2
    assert await numbers(redis) == [4]


async def test_what_was_left_out_is_told_once_more_if_the_answer_was_lost(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    await publisher.publish(batch("1", [1, 2]))
    await publisher.publish(batch("2", [2, 3]))
    again = Publisher(redis_url, 5.0)
    known = await again.publish(batch("2", [2, 3]))
    assert ([int(seq) for _, _, seq, _ in known.numbers()], known.events) == ([2], 1)
    assert await numbers(redis) == [1, 2, 3]
    await again.close()


async def test_marks_of_an_older_version_or_another_program_stop_nothing(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    await redis.set("mark", "7")  # a name alone, as it was before
    assert (await publisher.publish(batch("7", [1, 2]))).events == 0
    assert await numbers(redis) == []  # that batch was done
    await redis.set("mining:published:e/1", "\\xff nonsense")
    assert (await publisher.publish(batch("8", [1, 2]))).events == 0
    assert await numbers(redis) == [1, 2]


async def test_a_block_rings_once_however_often_it_is_sent(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    channel = redis.pubsub()
    await channel.subscribe(BLOCKS_CHANNEL)
    assert (await channel.get_message(timeout=10) or {})["type"] == "subscribe"
    await publisher.publish(batch("1", [1], "block_found"))
    again = Publisher(redis_url, 5.0)
    await again.publish(batch("2", [1, 2], "block_found"))
    await again.close()
    rung = []
    for _ in range(2):
        message = await channel.get_message(timeout=10)
        assert message is not None
        rung.append(message["type"])
    assert rung == ["message", "message"]
    assert await channel.get_message(timeout=0.2) is None
    assert await numbers(redis, BLOCKS) == [1, 2]
    await channel.aclose()


async def test_what_lies_before_the_holes_that_are_remembered_is_published_and_not_guessed(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    odd = list(range(1, 2 * MAX_HOLES + 5, 2))
    await publisher.publish(batch("1", odd))
    again = Publisher(redis_url, 5.0)
    known = await again.publish(batch("2", [2, odd[-1]]))
    assert [int(seq) for _, _, seq, _ in known.numbers()] == [odd[-1]]
    assert 2 in await numbers(redis)
    await again.close()


async def test_a_redis_that_lost_its_data_takes_the_events_again(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    await publisher.publish(batch("1", [1, 2]))
    await redis.flushdb()
    await publisher.disconnect()  # as its restart does
    known = await publisher.publish(batch("2", [1, 2]))
    assert known.events == 0
    assert await numbers(redis) == [1, 2]


async def test_a_full_redis_takes_nothing_of_a_batch_and_says_why(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server()
    client = redis_async.Redis.from_url(server.url)
    publisher = Publisher(server.url, 5.0)
    await publisher.publish(batch("1", [1]))
    await client.config_set("maxmemory", "1")
    with pytest.raises(RedisError, match="maxmemory"):
        await publisher.publish(batch("2", [2, 3]))
    await client.config_set("maxmemory", "0")
    assert await numbers(client) == [1]
    known = await publisher.publish(batch("2", [2, 3]))
    assert known.events == 0
    assert await numbers(client) == [1, 2, 3]
    await publisher.close()
    await client.aclose()


async def test_a_key_of_another_type_is_named_before_anything_is_published(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    await redis.set(LEDGER_STREAM, "x")
    with pytest.raises(ResponseError, match=f"{LEDGER_STREAM} is a string"):
        await publisher.publish(batch("1", [1]))
    assert await numbers(redis) == []
