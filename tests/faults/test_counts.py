"""The number of writers changes at any moment; a plain model says what must be stored.

Hypothesis plays receivers that publish, writers that commit any part of what is theirs,
trim and are killed, and operators that start another number of them.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import asyncpg
import pytest
import redis.asyncio as redis_async
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ingest.calendar import HOUR
from ingest.codecs import prepare
from ingest.decode import decode
from ingest.ledger import Tally
from ingest.names import LEDGER_STREAM, STREAMS, stream_of
from ingest.peers import OtherCountError, Peers
from ingest.shard import Shard, shards
from tests.faults.test_model import TABLES
from tests.ingest.harness import Parts, packed, parts_of
from tests.processes import LIMIT

T = TypeVar("T")
ENGINES = tuple(f"engine-{letter}" for letter in "abcdef")
COUNTS = st.integers(1, 4)


class Writer:
    """What a writer's session has, without the process around it."""

    def __init__(self, connection: asyncpg.Connection, client: redis_async.Redis) -> None:
        self.connection = connection
        self.client = client
        self.parts: Parts
        self.peers: Peers

    async def close(self) -> None:
        """As a kill does."""
        # The server lets go of its locks before it answers.
        await self.connection.close()
        await self.client.aclose()


class Machine(RuleBasedStateMachine):
    """Redis, a database, and any number of writers."""

    redis_url: str
    database_url: str
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a step to its end."""
        return self.loop.run_until_complete(asyncio.wait_for(work, LIMIT))

    @initialize(count=COUNTS)
    def begin(self, count: int) -> None:
        """An empty world."""
        self.count = count
        self.writers: dict[Shard, Writer] = {}
        self.next: Counter[str] = Counter()
        self.unnumbered = 0
        self.run(self._begin())

    async def _begin(self) -> None:
        self.client = redis_async.Redis.from_url(self.redis_url)
        await self.client.flushdb()
        self.admin = await asyncpg.connect(self.database_url)
        await self.admin.execute(f"truncate {TABLES} restart identity cascade")

    # --- Receivers --------------------------------------------------------------

    async def _publish(self, instance: str, seq: int | None) -> None:
        numbered = {} if seq is None else {"instance": instance, "seq": seq}
        # Two streams: the order between them is open.
        event = "diff_updated" if seq is not None and seq % 3 == 0 else "share_submitted"
        decoded = decode(packed(event, **numbered))
        await self.client.xadd(
            stream_of(event),
            {
                "event": event,
                "timestamp": decoded.timestamp,
                "source": decoded.source,
                "instance": decoded.instance or "",
                "seq": decoded.seq or "",
                "data": decoded.raw_data,
            },
        )

    @rule(engine=st.sampled_from(ENGINES), count=st.integers(1, 12), again=st.booleans())
    def an_engine_sends(self, engine: str, count: int, again: bool) -> None:
        """Numbered events, one without a number, and the report that counts them."""
        self.run(self._send(engine, count, again))

    async def _send(self, engine: str, count: int, again: bool) -> None:
        instance = f"{engine}/1"
        tally = Tally()
        first = self.next[engine] + 1
        self.next[engine] += count
        for seq in [*range(first, first + count), *([first] if again else [])]:
            await self._publish(instance, seq)
        for _ in range(count):
            tally.received(instance, HOUR)
        await self._publish(instance, None)
        self.unnumbered += 1
        await self.client.xadd(LEDGER_STREAM, {"report": tally.take()})

    # --- Writers ----------------------------------------------------------------

    async def _writer(self, shard: Shard) -> Writer:
        if shard not in self.writers:
            writer = Writer(
                await asyncpg.connect(self.database_url),
                redis_async.Redis.from_url(self.redis_url),
            )
            await prepare(writer.connection)
            writer.peers = Peers(writer.connection, "model", shard)
            await writer.peers.join()
            # Nothing is kept for others: trimming too early would show.
            writer.parts = await parts_of(
                writer.connection,
                writer.client,
                shard.consumer("model"),
                None if writer.peers.alone else writer.peers.takes,
            )
            newest = await writer.parts.streams.last_ids()
            assert not await writer.peers.rewind({name: last for name, (last, _) in newest.items()})
            if shard.count > 1:
                await writer.parts.trimming.hold(await writer.peers.floor())
            self.writers[shard] = writer
        return self.writers[shard]

    @rule(number=st.integers(0, 3), most=st.integers(1, 20), reads=st.integers(1, 4))
    def a_writer_writes(self, number: int, most: int, reads: int) -> None:
        """One of them goes on a little, or begins."""
        self.run(self._write(Shard(number % self.count + 1, self.count), most, reads))

    async def _write(self, shard: Shard, most: int, reads: int) -> bool:
        writer = await self._writer(shard)
        found = False
        for _ in range(reads):
            entries = await writer.parts.streams.read(most, 0)
            if not entries:
                break
            found = True
            for done in await writer.parts.store.commit(entries):
                await writer.parts.trimming.trim(done.positions)
        return found

    @rule(number=st.integers(0, 3))
    def a_second_passes(self, number: int) -> None:
        """What a writer does once a second."""
        self.run(self._settle(Shard(number % self.count + 1, self.count)))

    async def _settle(self, shard: Shard) -> None:
        writer = await self._writer(shard)
        await writer.parts.trimming.trim(await writer.parts.offsets.settle())
        floor = await writer.peers.floor()
        if shard.count > 1:
            await writer.parts.trimming.hold(floor)

    @rule(number=st.integers(0, 3))
    def a_writer_is_killed(self, number: int) -> None:
        """It goes on from what the database holds."""
        self.run(self._kill(Shard(number % self.count + 1, self.count)))

    async def _kill(self, shard: Shard) -> None:
        writer = self.writers.pop(shard, None)
        if writer is not None:
            await writer.close()

    @rule(count=COUNTS)
    def the_count_changes(self, count: int) -> None:
        """All are stopped, wherever they are, and others may start."""
        self.run(self._change(count))

    async def _change(self, count: int) -> None:
        if self.writers and count != self.count:
            stranger = await asyncpg.connect(self.database_url)
            try:
                with pytest.raises(OtherCountError):
                    await Peers(stranger, "model", Shard(1, count)).join()
            finally:
                await stranger.close()
        for shard in list(self.writers):
            await self._kill(shard)
        self.count = count

    # --- What must hold ---------------------------------------------------------

    def teardown(self) -> None:
        """Lets all writers come to the end, and compares."""
        if not hasattr(self, "admin"):
            return
        try:
            for shard in shards(self.count):
                while self.run(self._write(shard, 100, 1)):
                    pass
            for _ in range(2):
                for shard in shards(self.count):
                    self.run(self._settle(shard))
            self.run(self._compare())
        finally:
            self.run(self._end())

    async def _end(self) -> None:
        for shard in list(self.writers):
            await self._kill(shard)
        await self.client.aclose()
        await self.admin.close()

    async def _compare(self) -> None:
        stored = await self.admin.fetch(
            "select instance, seq from (select instance_id, seq from shares "
            "union all select instance_id, seq from mining_events) e "
            "join engine_instances i on i.id = e.instance_id where seq is not null"
        )
        expected = [
            (f"{engine}/1", seq) for engine, last in self.next.items() for seq in range(1, last + 1)
        ]
        assert sorted(map(tuple, stored)) == sorted(expected)
        # Neither is anything that cannot be recognised stored twice.
        unnumbered = await self.admin.fetchval("select count(*) from shares where seq is null")
        assert unnumbered == self.unnumbered
        received = await self.admin.fetch(
            "select instance, sum(received) from ledger_hours group by 1"
        )
        assert {row[0]: row[1] for row in received} == {
            f"{engine}/1": count for engine, count in self.next.items()
        }
        # No row of another count is left, and every stream's offset counts its entries.
        ends = await next(iter(self.writers.values())).parts.streams.last_ids()
        rows = await self.admin.fetch(
            "select consumer, stream, last_id, entries from stream_offsets"
        )
        assert sorted(map(tuple, rows)) == sorted(
            (shard.consumer("model"), stream, *ends[stream])
            for shard in shards(self.count)
            for stream in STREAMS
        )


@pytest.fixture(autouse=True)
def _world(redis_url: str, database_url: str) -> Iterator[None]:
    Machine.redis_url, Machine.database_url = redis_url, database_url
    Machine.loop = asyncio.new_event_loop()
    yield
    Machine.loop.close()


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (3, 2)])
def test_what_some_of_the_old_writers_had_committed_is_not_stored_again(
    before: int, after: int
) -> None:
    machine = Machine()
    machine.begin(before)
    for engine in ENGINES:
        machine.an_engine_sends(engine, 5, True)
    # The first one, whose events without a number are, is far ahead of the others.
    machine.a_writer_writes(0, 100, 4)
    machine.a_second_passes(0)
    machine.the_count_changes(after)
    machine.a_writer_writes(0, 3, 1)
    machine.a_second_passes(0)
    machine.the_count_changes(before)
    machine.a_writer_is_killed(0)
    machine.the_count_changes(after)
    machine.teardown()


def test_however_often_the_count_changes_each_event_is_stored_once(
    pytestconfig: pytest.Config,
) -> None:
    faults = pytestconfig.getoption("--faults", None) or 0
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=max(25, faults // 10),
            stateful_step_count=40,
            # To make an example smaller takes minutes: each begins with an empty world.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )
