"""A batch is published once, and each numbered event once, whatever happens in between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis_async
from redis.exceptions import RedisError, ResponseError

from ingest.lock import Lock
from ingest.receiver.publisher import MAX_HOLES, Publisher
from tbg.stack.embedded import EmbeddedValkey
from tbg_core.decode import Refused, decode
from tbg_core.entry import FIELDS, Batch, event_values, letter_values
from tbg_core.events import EVENTS
from tbg_core.names import BLOCKS_CHANNEL, DEAD_LETTER_STREAM, LEDGER_STREAM, stream_of
from tests.clock import moment
from tests.faults.proxy import Proxy
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


async def published(publisher: Publisher, made: Batch) -> Batch:
    """Publishes a batch of which nothing is refused; what Redis had of it already."""
    outcome = await publisher.publish(made)
    assert not outcome.refused.values
    return outcome.known


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
    known = await published(publisher, next_)
    assert ([int(seq) for _, _, seq, _ in known.numbers()], known.events) == ([4], 1)
    assert await redis.xlen(LEDGER_STREAM) == 1
    again = Publisher(redis_url, 5.0)
    known = await published(again, batch("3", [1, 2, 3, 4, 5, 7, 6]))
    assert known.events == 5
    assert await numbers(redis) == [1, 2, 4, 3, 5, 7, 6]
    await again.close()


async def test_a_number_that_a_later_event_uses_again_is_left_to_the_writer(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    await publisher.publish(batch("1", [1, 2, 3]))
    # Later than all that the boot has sent, in any order, and the newest number goes on.
    again = Publisher(redis_url, 5.0)
    assert (await published(again, batch("2", [2, 1], began=BEGAN + 9))).events == 0
    assert (await published(again, batch("3", [1, 3, 4], began=BEGAN + 3))).events == 0
    # Copies of the first boot's, also beside its new ones, and as late as its latest.
    assert (await published(again, batch("4", [1, 2, 3, 5]))).events == 3
    assert (await published(again, batch("5", [3], began=BEGAN + 4))).events == 1
    assert await numbers(redis) == [1, 2, 3, 2, 1, 1, 3, 4, 5]
    await again.close()


async def test_another_event_under_a_number_that_was_just_used_is_left_to_the_writer(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    await published(publisher, batch("1", [1, 2, 3, 4]))
    # A second engine of the same name and boot, whose events wait a little longer.
    other = batch("2", [1, 2, 3], began=BEGAN - 1)
    assert (await published(publisher, other)).events == 0
    assert (await published(publisher, batch("3", [4, 5]))).events == 1
    assert await numbers(redis) == [1, 2, 3, 4, 1, 2, 3, 5]


async def test_two_events_of_one_number_in_one_batch_are_left_to_the_writer_and_a_copy_is_left_out(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    first, other = batch("1", [1, 2]), batch("1", [1, 2], began=BEGAN + 9)
    values = first.values[SHARES] * 2 + other.values[SHARES]
    block = batch("1", [2], "block_found").values
    known = await published(publisher, Batch("mark", "1", {SHARES: values, **block}, 7))
    assert [int(seq) for _, _, seq, _ in known.numbers()] == [1, 2]
    assert await numbers(redis) == [1, 2, 1, 2]
    assert await numbers(redis, BLOCKS) == [2]


async def test_an_event_is_no_copy_of_what_was_refused_under_its_number(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    refused = Refused("bad_data", "no share")
    letter = {DEAD_LETTER_STREAM: list(letter_values(refused, "e/1", 1, b"{}"))}
    for name in ("1", "2"):  # a copy of the letter is left out
        await publisher.publish(Batch("mark", name, letter, 1))
    assert (await published(publisher, batch("3", [1]))).events == 0
    assert await numbers(redis, DEAD_LETTER_STREAM) == [1]
    assert await numbers(redis) == [1]


async def test_a_mark_without_a_time_takes_every_known_number_for_a_copy(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    await redis.set("mining:published:e/1", "[3,0,[]]")
    assert (await published(publisher, batch("1", [1, 3, 4]))).events == 2
    assert await numbers(redis) == [4]


async def test_what_was_left_out_is_told_once_more_if_the_answer_was_lost(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    await publisher.publish(batch("1", [1, 2]))
    await publisher.publish(batch("2", [2, 3]))
    again = Publisher(redis_url, 5.0)
    known = await published(again, batch("2", [2, 3]))
    assert ([int(seq) for _, _, seq, _ in known.numbers()], known.events) == ([2], 1)
    assert await numbers(redis) == [1, 2, 3]
    await again.close()


async def test_marks_of_an_older_version_or_another_program_stop_nothing(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    await redis.set("mark", "7")  # a name alone, as it was before
    assert (await published(publisher, batch("7", [1, 2]))).events == 0
    assert await numbers(redis) == []  # that batch was done
    await redis.set("mining:published:e/1", "\\xff nonsense")
    assert (await published(publisher, batch("8", [1, 2]))).events == 0
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
    known = await published(again, batch("2", [2, odd[-1]]))
    assert [int(seq) for _, _, seq, _ in known.numbers()] == [odd[-1]]
    assert 2 in await numbers(redis)
    await again.close()


async def test_a_redis_that_lost_its_data_takes_the_events_again(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    await publisher.publish(batch("1", [1, 2]))
    await redis.flushdb()
    await publisher.disconnect()  # as its restart does
    known = await published(publisher, batch("2", [1, 2]))
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
    known = await published(publisher, batch("2", [2, 3]))
    assert known.events == 0
    assert await numbers(client) == [1, 2, 3]
    await publisher.close()
    await client.aclose()


ALL_KINDS = sorted(EVENTS)


def one_of_each(name: str, first: int) -> Batch:
    """An event of each kind of e/1, and one of each without a number."""
    values: dict[str, list[bytes]] = {}
    for at, kind in enumerate(ALL_KINDS):
        kept = values.setdefault(stream_of(kind), [])
        kept += event_values(
            decode(packed(kind, instance="e/1", seq=first + at, timestamp=BEGAN + first + at))
        )
        kept += event_values(decode(packed(kind)))
    return Batch("mark", name, values, 2 * len(ALL_KINDS))


async def let_go(proxy: Proxy, client: redis_async.Redis) -> None:
    """Lets the requests go that were held, and waits until the server is done with them."""
    connections = len(await client.client_list())
    proxy.release()
    await until_true(lambda: client.client_list(), lambda found: len(found) < connections)


async def until_true(ask: Callable[[], Awaitable[Any]], enough: Callable[[Any], bool]) -> None:
    while not enough(await ask()):  # noqa: ASYNC110  a server tells nobody
        await asyncio.sleep(0.01)


async def sizes(client: redis_async.Redis) -> list[int]:
    return [await client.xlen(stream_of(kind)) for kind in ALL_KINDS]


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    made = await Proxy(int(redis_url.rpartition(":")[2].partition("/")[0])).start()
    yield made
    await made.close()


@pytest.mark.parametrize("later", [0, 1, 5])
async def test_a_request_of_an_abandoned_connection_that_comes_late_does_nothing(
    proxy: Proxy, redis_url: str, redis: redis_async.Redis, later: int
) -> None:
    channel = redis.pubsub()
    await channel.subscribe(BLOCKS_CHANNEL)
    assert (await channel.get_message(timeout=10) or {})["type"] == "subscribe"
    publisher = Publisher(proxy.url(redis_url), 0.3)
    await publisher.publish(one_of_each("1", 1))
    proxy.hold()
    with pytest.raises((RedisError, OSError, TimeoutError)):
        await publisher.publish(one_of_each("2", 9))
    for number in range(later + 1):
        await published(publisher, one_of_each(str(2 + number), 9 + 8 * number))
    assert proxy.held > 0
    await let_go(proxy, redis)
    assert await sizes(redis) == [2 * (2 + later)] * len(ALL_KINDS)
    await published(publisher, one_of_each("last", 1000))
    assert await sizes(redis) == [2 * (3 + later)] * len(ALL_KINDS)
    rung = 0
    while await channel.get_message(timeout=10 if rung < 2 * (3 + later) else 0.1):
        rung += 1
    assert rung == 2 * (3 + later)
    await channel.aclose()
    await publisher.close()


async def test_a_late_request_that_comes_before_its_retry_is_the_batch(
    proxy: Proxy, redis_url: str, redis: redis_async.Redis
) -> None:
    publisher = Publisher(proxy.url(redis_url), 0.3)
    await publisher.publish(one_of_each("1", 1))
    proxy.hold()
    with pytest.raises((RedisError, OSError, TimeoutError)):
        await publisher.publish(one_of_each("2", 9))
    proxy.release()
    await until_true(lambda: sizes(redis), lambda found: found == [4] * len(ALL_KINDS))
    assert (await published(publisher, one_of_each("2", 9))).events == 0
    assert await sizes(redis) == [4] * len(ALL_KINDS)
    await publisher.close()


async def test_a_late_request_of_a_killed_receiver_does_nothing_once_the_next_one_is_there(
    proxy: Proxy, redis_url: str, redis: redis_async.Redis, tmp_path: Path
) -> None:
    lock = Lock(tmp_path / "lock")
    killed = Publisher(proxy.url(redis_url), 0.3, lock)
    await killed.publish(batch("1", [1]))
    proxy.hold()
    with pytest.raises((RedisError, OSError, TimeoutError)):
        await killed.publish(batch("2", [2, 3]))
    lock.close()
    next_ = Publisher(redis_url, 5.0, Lock(tmp_path / "lock"))
    resent = batch("1", [1, 2, 3])
    await next_.publish(Batch("mark of the next", "1", resent.values, 3))
    await let_go(proxy, redis)
    assert await numbers(redis) == [1, 2, 3]
    await killed.close()
    await next_.close()


def seqs(of: Batch) -> list[int]:
    return [int(seq) for _, _, seq, _ in of.numbers() if seq]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_late_requests_of_several_killed_receivers_do_nothing_in_any_order(
    redis_url: str, redis: redis_async.Redis, tmp_path: Path, order: tuple[int, ...]
) -> None:
    server = int(redis_url.rpartition(":")[2].partition("/")[0])
    ways: list[Proxy] = []
    for number in range(3):
        lock = Lock(tmp_path / "lock")
        ways.append(await Proxy(server).start())
        killed = Publisher(ways[-1].url(redis_url), 0.3, lock)
        # What the one before could not publish, and then more than it can.
        for name in range(2):
            kept = batch(str(name), list(range(1, 6 * number + 3 * name + 4)))
            if name:
                ways[-1].part = number * 150  # all but the rest of it is there already
                ways[-1].hold()
                with pytest.raises((RedisError, OSError, TimeoutError)):
                    await killed.publish(
                        Batch(f"receiver {number}", kept.name, kept.values, kept.events)
                    )
            else:
                await killed.publish(
                    Batch(f"receiver {number}", kept.name, kept.values, kept.events)
                )
        await killed.close()
        lock.close()
    last = Publisher(redis_url, 5.0, Lock(tmp_path / "lock"))
    everything = list(range(1, 20))
    await last.publish(batch("all", everything))
    for number in order:
        assert ways[number].held
        await let_go(ways[number], redis)
    assert await numbers(redis) == everything
    # The marks say so, too: nothing of it is new.
    again = Publisher(redis_url, 5.0)
    assert (await published(again, batch("again", everything))).events == len(everything)
    await last.close()
    await again.close()
    for way in ways:
        await way.close()


@pytest.mark.parametrize("kind", ALL_KINDS)
async def test_what_one_stream_refuses_is_handed_back_and_the_others_have_theirs(
    publisher: Publisher, redis: redis_async.Redis, kind: str
) -> None:
    await publisher.publish(one_of_each("1", 1))
    await redis.delete(stream_of(kind))
    await redis.set(stream_of(kind), "x")
    outcome = await publisher.publish(one_of_each("2", 9))
    assert "WRONGTYPE" in outcome.why
    assert stream_of(kind) in outcome.why
    assert outcome.refused.values.keys() == {stream_of(kind)}
    assert (seqs(outcome.refused), outcome.refused.events) == ([9 + ALL_KINDS.index(kind)], 2)
    await redis.delete(stream_of(kind))
    # An engine that resends is heard as if nothing had been there.
    known = await published(publisher, one_of_each("3", 9))
    assert known.events == len(ALL_KINDS) - 1
    assert [int(entry[b"seq"] or 0) for entry in await entries(redis, stream_of(kind))] == [
        9 + ALL_KINDS.index(kind),
        0,
    ]


async def test_the_ids_of_a_stream_may_end_in_the_middle_of_a_batch(
    publisher: Publisher, redis: redis_async.Redis
) -> None:
    last = 2**64 - 1
    await redis.xadd(SHARES, {"a": "b"}, id=f"{last}-{last - 3}")
    outcome = await publisher.publish(batch("1", [1, 2, 3, 4, 5]))
    assert "exhausted" in outcome.why
    assert seqs(outcome.refused) == [4, 5]
    assert await redis.xlen(SHARES) == 4
    await redis.delete(SHARES)
    assert (await published(publisher, batch("2", [2, 3, 4, 5, 6]))).events == 2
    assert await numbers(redis) == [4, 5, 6]


async def test_what_was_refused_is_known_after_a_lost_answer_and_to_the_next_receiver(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    await redis.set(BLOCKS, "x")
    both = Batch("mark", "1", batch("1", [1, 2]).values | batch("1", [3], "block_found").values, 3)
    assert seqs((await publisher.publish(both)).refused) == [3]
    again = Publisher(redis_url, 5.0)
    outcome = await again.publish(both)
    assert (seqs(outcome.refused), outcome.known.events) == ([3], 0)
    assert await numbers(redis) == [1, 2]
    await again.close()


async def test_a_refusal_whose_answer_was_lost_is_found_by_the_retry(
    proxy: Proxy, redis_url: str, redis: redis_async.Redis
) -> None:
    publisher = Publisher(proxy.url(redis_url), 5.0)
    await publisher.publish(batch("1", [1]))
    await redis.set(BLOCKS, "x")
    both = Batch("mark", "2", batch("2", [2]).values | batch("2", [3], "block_found").values, 2)
    proxy.deaf = True
    with pytest.raises((RedisError, OSError)):
        await publisher.publish(both)
    outcome = await publisher.publish(both)
    assert seqs(outcome.refused) == [3]
    await redis.delete(BLOCKS)
    rest = Batch("mark:refused", "2", outcome.refused.values, 1)
    await published(publisher, rest)
    assert (await numbers(redis), await numbers(redis, BLOCKS)) == ([1, 2], [3])
    await publisher.close()


async def test_a_mark_of_another_type_is_written_again(
    publisher: Publisher, redis_url: str, redis: redis_async.Redis
) -> None:
    for key in ("mark", "mining:published:e/1"):
        await redis.sadd(key, "x")
    assert (await published(publisher, batch("1", [1, 2]))).events == 0
    again = Publisher(redis_url, 5.0)
    await redis.delete("mining:published:e/1")
    await redis.lpush("mining:published:e/1", "x")
    assert (await published(again, batch("2", [2, 3]))).events == 0
    assert await numbers(redis) == [1, 2, 2, 3]
    await again.close()


async def test_a_command_that_is_not_permitted_leaves_nothing_of_a_batch(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server()
    client = redis_async.Redis.from_url(server.url)
    await client.acl_setuser(
        "narrow",
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        channels=["*"],
        commands=["+get", "+set", "+multi", "+exec", "+watch", "+ping", "+select", "+client"],
    )
    narrow = server.url.replace(f":{server.password}@", "narrow:secret@")
    publisher = Publisher(narrow, 5.0)
    with pytest.raises(ResponseError, match="no permissions to run the 'xadd' command"):
        await publisher.publish(batch("1", [1]))
    await client.acl_setuser("narrow", enabled=True, commands=["+xadd"])
    await published(publisher, batch("1", [1]))
    assert await numbers(client) == [1]
    await publisher.close()
    await client.aclose()


async def test_blocks_that_may_not_be_announced_are_published_all_the_same(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server()
    client = redis_async.Redis.from_url(server.url)
    await client.acl_setuser(
        "mute", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"]
    )
    publisher = Publisher(server.url.replace(f":{server.password}@", "mute:secret@"), 5.0)
    await published(publisher, batch("1", [1], "block_found"))
    await published(publisher, batch("2", [2, 3], "block_found"))
    assert await numbers(client, BLOCKS) == [1, 2, 3]
    assert publisher.connections == 1
    await publisher.close()
    await client.aclose()


async def test_without_the_right_to_transactions_nothing_is_published(
    valkey_server: Callable[..., EmbeddedValkey],
) -> None:
    server = valkey_server()
    client = redis_async.Redis.from_url(server.url)
    await client.acl_setuser(
        "loose", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-multi"]
    )
    publisher = Publisher(server.url.replace(f":{server.password}@", "loose:secret@"), 5.0)
    for _ in range(2):
        with pytest.raises(ResponseError, match="'multi'"):
            await publisher.publish(batch("1", [1]))
    assert await client.xlen(SHARES) == 0  # it would be added with every try
    await publisher.close()
    await client.aclose()


async def test_many_boots_are_looked_up_in_one_round_trip(
    redis_url: str, redis: redis_async.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: list[bytes] = []
    for boot in range(3000):  # more than are kept in memory
        values += event_values(decode(packed("share_submitted", instance=f"e/{boot}", seq=1)))
    publisher = Publisher(redis_url, 30.0)
    before = (await redis.info("stats"))["total_reads_processed"]
    await published(publisher, Batch("mark", "1", {SHARES: values}, 3000))
    assert (await published(publisher, Batch("mark", "2", {SHARES: values}, 3000))).events == 3000
    # The server reads at most 16 KiB at once, so this is no count of requests; 6,000 of them
    # would be more.
    assert (await redis.info("stats"))["total_reads_processed"] - before < 1500
    await publisher.close()
