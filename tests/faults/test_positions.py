"""Redis loses its last moments, is another one, or has a clock that jumps; a plain model.

Hypothesis plays receivers that publish, a writer that commits any part, trims and is killed,
and a Redis that is put back to an earlier state, emptied, renamed and exchanged for another.
Whatever is in a stream at the end is stored, and nothing is stored twice: with a number and
without.
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

from ingest.counts import Tally
from ingest.writer.codecs import prepare
from ingest.writer.resume import check
from tbg_core.decode import decode
from tbg_core.entry import id_key
from tbg_core.names import DEAD_LETTER_STREAM, IDENTITY_KEY, LEDGER_STREAM, STREAMS, stream_of
from tests.faults.test_model import TABLES
from tests.ingest.harness import Parts, packed, parts_of
from tests.processes import LIMIT

T = TypeVar("T")
HOUR = 3_600_000_000
SHARES, OTHERS = stream_of("share_submitted"), stream_of("diff_updated")
KINDS = ("numbered", "numbered", "unnumbered", "other", "letter", "report", "old report")
Saved = dict[str, tuple[str, list[tuple[bytes, dict[bytes, bytes]]]]]


class Machine(RuleBasedStateMachine):
    """Two Redis servers, of which one is named at a time, a database and a writer."""

    redis_url: str
    database_url: str
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a step to its end."""
        return self.loop.run_until_complete(asyncio.wait_for(work, LIMIT))

    @initialize(keep=st.sampled_from([0, 3, 100]))
    def begin(self, keep: int) -> None:
        """An empty world."""
        self.keep = keep
        self.clock = 1_000_000  # milliseconds, of Redis
        self.made = 0
        self.parts: Parts | None = None
        self.connection: asyncpg.Connection | None = None
        self.saved: dict[int, Saved] = {}
        self.which = 0
        self.run(self._begin())

    async def _begin(self) -> None:
        self.clients = [redis_async.Redis.from_url(self.redis_url, db=db) for db in (0, 1)]
        for client in self.clients:
            await client.flushdb()
        self.admin = await asyncpg.connect(self.database_url)
        await self.admin.execute(f"truncate {TABLES} restart identity cascade")

    @property
    def client(self) -> "redis_async.Redis":
        return self.clients[self.which]

    # --- Receivers --------------------------------------------------------------

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=12))
    def receivers_publish(self, kinds: list[str]) -> None:
        """Entries of every kind; each is told from all others by what it holds."""
        for kind in kinds:
            self.made += 1
            self.run(self._publish(kind))

    async def _publish(self, kind: str) -> None:
        # A token in the data, so that an entry without a number can be counted.
        token = float(self.made)
        tally = Tally()
        tally.received(f"report-{self.made}/1", HOUR)
        report = tally.take()
        if kind == "letter":
            await self._add(DEAD_LETTER_STREAM, {"stage": "x", "reason": "y", "raw": str(token)})
        elif kind == "report":
            await self._add(LEDGER_STREAM, {"report": report})
        elif kind == "old report":
            text = report.decode().replace('"id":"', '"was":"')
            await self._add(LEDGER_STREAM, {"report": text})
        elif kind == "other":
            numbered = {"instance": f"engine-{self.made % 2}/1", "seq": self.made}
            await self._event("diff_updated", new_diff=token, **numbered)
        elif kind == "numbered":
            numbered = {"instance": f"engine-{self.made % 2}/1", "seq": self.made}
            await self._event("share_submitted", share_diff=token, **numbered)
        else:
            await self._event("share_submitted", share_diff=token)

    async def _event(self, event: str, **changes: Any) -> None:
        decoded = decode(packed(event, **changes))
        await self._add(
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

    async def _add(self, stream: str, fields: dict[Any, Any]) -> None:
        """As Redis does by its clock, never below what the stream had."""
        last = "0-0"
        if await self.client.exists(stream):
            last = (await self.client.xinfo_stream(stream))["last-generated-id"].decode()
        await self.client.xadd(stream, fields, id=f"{max(self.clock, id_key(last)[0])}-*")

    @rule(by=st.integers(-3, 3))
    def the_clock_jumps(self, by: int) -> None:
        """Forwards and backwards."""
        self.clock += by

    # --- Redis ------------------------------------------------------------------

    @rule()
    def redis_is_saved(self) -> None:
        """What it would come back with after a crash."""
        self.run(self._save())

    async def _save(self) -> None:
        saved: Saved = {}
        for stream in STREAMS:
            if await self.client.exists(stream):
                info = await self.client.xinfo_stream(stream)
                entries: Any = await self.client.xrange(stream)
                saved[stream] = info["last-generated-id"].decode(), entries
        self.saved[self.which] = saved

    @rule()
    def redis_crashes(self) -> None:
        """Its streams are as they were saved; its name is written once and stays."""
        self.run(self._crash())

    async def _crash(self) -> None:
        await self._kill()
        if self.which not in self.saved:
            return
        for stream in STREAMS:
            await self.client.delete(stream)
        for stream, (last_id, entries) in self.saved[self.which].items():
            for entry_id, fields in entries:
                await self.client.xadd(stream, fields, id=entry_id)  # type: ignore[arg-type]  # bytes
            if entries:
                await self.client.execute_command("XSETID", stream, last_id)

    @rule(stream=st.sampled_from([SHARES, OTHERS, DEAD_LETTER_STREAM]))
    def a_stream_is_deleted(self, stream: str) -> None:
        """By an operator."""
        self.run(self._delete(stream))

    async def _delete(self, stream: str) -> None:
        await self._kill()
        await self.client.delete(stream)

    @rule()
    def redis_is_emptied(self) -> None:
        """All of it."""
        self.run(self._flush())

    async def _flush(self) -> None:
        await self._kill()
        await self.client.flushdb()
        self.saved.pop(self.which, None)

    @rule()
    def another_redis_is_named(self) -> None:
        """A wrong REDIS_URL, or the right one again."""
        self.run(self._kill())
        self.which = 1 - self.which

    @rule()
    def the_name_is_evicted(self) -> None:
        """A writer that began before and one that begins after know it by its entries."""
        self.run(self._rename())

    async def _rename(self) -> None:
        await self._writer()
        before = await self.client.get(IDENTITY_KEY)
        await self._kill()
        await self.client.delete(IDENTITY_KEY)
        await self._writer()
        known = await self.admin.fetchval(
            "select count(*) from stream_offsets where last_id <> '0-0'"
        )
        if known:
            assert await self.client.get(IDENTITY_KEY) == before

    # --- The writer -------------------------------------------------------------

    async def _writer(self) -> Parts:
        if self.parts is None:
            self.connection = await asyncpg.connect(self.database_url)
            await prepare(self.connection)
            self.parts = await parts_of(self.connection, self.client, "model")
            self.parts.trimming._keep = self.keep
        return self.parts

    async def _kill(self) -> None:
        if self.connection is not None:
            await self.connection.close()
        self.parts = self.connection = None

    @rule(most=st.integers(1, 8), reads=st.integers(1, 4))
    def the_writer_writes(self, most: int, reads: int) -> None:
        """Some of what there is."""
        self.run(self._write(most, reads))

    async def _write(self, most: int, reads: int) -> bool:
        parts = await self._writer()
        await check(parts.offsets, parts.streams)
        for _ in range(reads):
            entries = await parts.streams.read(most, 0)
            if not entries:
                return False
            for _ in await parts.store.commit(entries):
                await parts.trimming.trim(parts.offsets)
        return True

    @rule()
    def the_writer_is_killed(self) -> None:
        """It goes on from what the database holds."""
        self.run(self._kill())

    @rule()
    def everything_is_read_again(self) -> None:
        """As a repair moves the offsets back: where they were stays known."""
        self.run(self._rewind())

    async def _rewind(self) -> None:
        await self._kill()
        await self.admin.execute(
            "insert into stream_marks (redis, stream, last_id, entry, entries, unnumbered) "
            "select redis, stream, last_id, entry, 0, '' from stream_offsets "
            "where entry is not null on conflict do nothing"
        )
        await self.admin.execute("update stream_offsets set last_id = '0-0', entries = 0")

    # --- What must hold ---------------------------------------------------------

    def teardown(self) -> None:
        """Lets the writer come to the end of both, and compares."""
        if not hasattr(self, "admin"):
            return
        try:
            for _ in range(2):
                while self.run(self._write(100, 1)):
                    pass
                self.run(self._compare())
                self.another_redis_is_named()
        finally:
            self.run(self._end())

    async def _end(self) -> None:
        await self._kill()
        for client in self.clients:
            await client.flushdb()
            await client.aclose()
        await self.admin.close()

    async def _compare(self) -> None:
        stored = Counter(
            row[0]
            for row in await self.admin.fetch(
                "select 's' || share_diff from shares union all "
                "select 'd' || (payload ->> 'new_diff')::float8 from mining_events union all "
                "select 'l' || convert_from(raw, 'utf8') from dead_letters union all "
                "select 'r' || instance from ledger join engine_instances i on i.id = instance_id, "
                "generate_series(1, received)"
            )
        )
        assert [token for token, times in stored.items() if times > 1] == []
        there = set()
        for stream in STREAMS:
            entries: Any = await self.client.xrange(stream)
            for _, fields in entries:
                there.add(_token(stream, fields))
        assert there - stored.keys() == set()
        duplicates = await self.admin.fetchval("select sum(duplicates) from engine_instances")
        assert not duplicates  # what is read again is no second copy
        offsets = await self.admin.fetch("select stream, last_id from stream_offsets")
        for stream, last_id in offsets:
            if last_id != "0-0" and await self.client.xlen(stream):
                assert await self.client.xrange(stream, last_id, last_id)


def _token(stream: str, fields: dict[bytes, bytes]) -> str:
    if stream == LEDGER_STREAM:
        return "r" + fields[b"report"].decode().split('[["')[1].split('"')[0]
    if stream == DEAD_LETTER_STREAM:
        return f"l{fields[b'raw'].decode()}"
    data = decode(_datagram(fields)).raw_data.decode()
    name = "share_diff" if stream == SHARES else "new_diff"
    value = float(data.split(f'"{name}":')[1].split(",")[0].rstrip("}"))
    return f"{'s' if stream == SHARES else 'd'}{value:g}"


def _datagram(fields: dict[bytes, bytes]) -> bytes:
    return b'{"event":"%b","timestamp":%b,"source":"%b","data":%b}' % (
        fields[b"event"],
        fields[b"timestamp"],
        fields[b"source"],
        fields[b"data"],
    )


@pytest.fixture(autouse=True)
def _world(redis_url: str, database_url: str) -> Iterator[None]:
    Machine.redis_url, Machine.database_url = redis_url, database_url
    Machine.loop = asyncio.new_event_loop()
    yield
    Machine.loop.close()


def test_whatever_redis_loses_all_that_it_has_is_stored_and_nothing_twice(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.writer.offsets.GRAIN", 3)
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
