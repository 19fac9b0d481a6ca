"""The event path against a plain model of what must be in the database.

Hypothesis plays receiver, spool, Redis and writer in any order, with events sent
twice, late, refused and lost before the socket, answers lost on the way, connections
cut, restarts and full spools; the model is a few sets.
"""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import redis.asyncio as redis_async
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from prometheus_client import REGISTRY
from redis.exceptions import RedisError

from ingest.counts import Tally
from ingest.receiver.delivery import Delivery
from ingest.receiver.packer import Packer
from ingest.receiver.publisher import Publisher
from ingest.receiver.spool import Spool
from ingest.writer.codecs import prepare
from tests.faults.proxy import Proxy
from tests.ingest.harness import Parts, packed, parts_of
from tests.ingest.test_bests import WRONG
from tests.processes import LIMIT

T = TypeVar("T")
AWAY = (
    RedisError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
INSTANCES = ("engine-a/1", "engine-b/1")
TABLES = (
    "shares, mining_events, dead_letters, ledger, ledger_drops, stream_offsets, stream_marks, "
    "report_processes, "
    "weekly_best_diff, workers, users, engine_instances, late_share_hours"
)
SPOOL_BYTES = 2**30
EVENT = st.sampled_from(["share", "rejected", "other", "broken", "unnumbered"])


def drops() -> float:
    """Events that the receivers of this process have dropped."""
    return REGISTRY.get_sample_value("tbg_dropped_total", {"stage": "spool", "reason": "full"}) or 0


class Machine(RuleBasedStateMachine):
    """One world of a receiver, Redis, a writer and a database."""

    redis_url: str
    database_url: str
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a step to its end."""
        return self.loop.run_until_complete(asyncio.wait_for(work, LIMIT))

    @initialize()
    def begin(self) -> None:
        """An empty world."""
        self.folder = Path(tempfile.mkdtemp(prefix="tbg-model-"))
        self.stored: dict[str, set[int]] = {name: set() for name in INSTANCES}
        self.refused: dict[str, set[int]] = {name: set() for name in INSTANCES}
        self.dropped: dict[str, set[int]] = {name: set() for name in INSTANCES}
        # Dropped, because nobody heard that Redis had taken them: there or not, both are right.
        self.unsure: dict[str, dict[int, str]] = {name: {} for name in INSTANCES}
        self.unsure_unnumbered = 0
        self.next = dict.fromkeys(INSTANCES, 1)
        self.emitted = 0
        self.skipped: dict[str, list[int]] = {name: [] for name in INSTANCES}
        self.handed: list[tuple[str, bytes]] = []
        self.valid = 0
        self.unnumbered = 0
        self.writer: Parts | None = None
        self.run(self._begin())

    async def _begin(self) -> None:
        self.redis = await Proxy(int(self.redis_url.rpartition(":")[2].partition("/")[0])).start()
        self.database = await Proxy(
            int(self.database_url.rpartition(":")[2].partition("/")[0])
        ).start()
        self.client = redis_async.Redis.from_url(self.redis_url)
        await self.client.flushdb()
        self.admin = await asyncpg.connect(self.database_url)
        await self.admin.execute(f"truncate {TABLES} restart identity cascade")
        self.connection: asyncpg.Connection | None = None
        self.writer_client: redis_async.Redis | None = None
        self._make_receiver()

    def _make_receiver(self) -> None:
        self.tally = Tally()
        self.packer = Packer(self.tally, debug=False)
        self.publisher = Publisher(self.redis.url(self.redis_url), 2)
        self.spool = Spool(self.folder / "spool", SPOOL_BYTES)
        self.delivery = Delivery(self.publisher, self.spool, self.tally)

    def teardown(self) -> None:
        """Lets everything through, and compares."""
        if not hasattr(self, "delivery"):
            return
        try:
            self._mend()
            self.the_spool_has_room()
            self.run(self._drain_spool())
            # A later number shows what was lost before it.
            for name in INSTANCES:
                self._emit(name, "share", self.next[name])
                self.next[name] += 1
            self._hand_on()
            self._report()
            self.run(self._drain_spool())
            self.run(self._write(1000))
            self.run(self._compare())
        finally:
            self.run(self._end())
            shutil.rmtree(self.folder)

    async def _end(self) -> None:
        await self._stop_writer()
        await self._stop_receiver()
        await self.client.aclose()
        await self.admin.close()
        await self.redis.close()
        await self.database.close()

    # --- The receiver -----------------------------------------------------------

    @rule(name=st.sampled_from(INSTANCES), kinds=st.lists(EVENT, min_size=1, max_size=8))
    def new_events(self, name: str, kinds: list[str]) -> None:
        """An engine sends events, numbered on."""
        for kind in kinds:
            if kind == "unnumbered":
                self._emit(name, kind, None)
            else:
                self._emit(name, kind, self.next[name])
                self.next[name] += 1
        self._hand_on()

    @rule(name=st.sampled_from(INSTANCES), count=st.integers(1, 5))
    def events_lost_before_the_socket(self, name: str, count: int) -> None:
        """Numbers are used up, and nothing comes."""
        self.skipped[name] += range(self.next[name], self.next[name] + count)
        self.next[name] += count

    @rule(name=st.sampled_from(INSTANCES), which=st.integers(0, 1000))
    def a_late_event(self, name: str, which: int) -> None:
        """One that seemed lost comes after all."""
        if self.skipped[name]:
            self._emit(name, "share", self.skipped[name].pop(which % len(self.skipped[name])))
            self._hand_on()

    @rule(which=st.integers(0, 1000))
    def the_same_again(self, which: int) -> None:
        """A numbered event is sent twice."""
        if self.handed:
            name, datagram = self.handed[which % len(self.handed)]
            self._datagrams = [datagram]
            if self.run(self._hand_on_now()):
                self.dropped[name].add(json.loads(datagram)["seq"])

    def _emit(self, name: str, kind: str, seq: int | None) -> None:
        if not hasattr(self, "_pending"):
            self._pending: list[tuple[str, str, int | None, bytes]] = []
        event = "diff_updated" if kind == "other" else "share_submitted"
        # Some equal bests, some lower ones, some higher.
        self.emitted += 1
        changes: dict[str, Any] = {"share_diff": float(1000 + self.emitted * 7 % 11)}
        if kind == "rejected":
            changes |= {"valid": False, "reject_reason": "Stale"}
        if kind == "broken":
            changes |= {"difficulty": 0}
        if seq is not None:
            changes |= {"instance": name, "seq": seq}
        self._pending.append((name, kind, seq, packed(event, **changes)))

    def _hand_on(self) -> None:
        pending, self._pending = self._pending, []
        self._datagrams = [datagram for *_, datagram in pending]
        unsure = self.redis.deaf or self.redis.cut_after is not None
        dropped = self.run(self._hand_on_now())
        for name, kind, seq, datagram in pending:
            if dropped:
                if seq is not None:
                    self.dropped[name].add(seq)
                    if unsure:
                        self.unsure[name][seq] = kind
                elif unsure:
                    self.unsure_unnumbered += 1
                continue
            if seq is None:
                self.unnumbered += 1
                self.valid += 1
            elif kind == "broken":
                self.refused[name].add(seq)
            else:
                self.stored[name].add(seq)
                self.valid += kind == "share"
                self.handed.append((name, datagram))

    async def _hand_on_now(self) -> bool:
        """The receiver's own way, one batch; says whether it was dropped."""
        before = drops()
        await self.delivery.hand_on(await self.packer.pack(self._datagrams))
        return drops() > before

    async def _drain_spool(self) -> None:
        drain = asyncio.create_task(self.delivery.drain())
        while not self.spool.empty:
            await asyncio.sleep(0.001)
            if drain.done():
                drain.result()
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)

    @precondition(lambda self: not self.redis.refusing)
    @rule()
    def the_spool_drains(self) -> None:
        """What waited on disk goes to Redis."""
        self.run(self._drain_spool())

    @precondition(lambda self: not self.spool.empty and not self.redis.refusing)
    @rule()
    def killed_between_publishing_and_forgetting(self) -> None:
        """The spool's oldest batch is in Redis, and a new receiver finds it again."""

        async def go() -> None:
            batch = self.spool.peek()
            assert batch is not None
            with contextlib.suppress(*AWAY):
                await self.publisher.publish(batch)

        self.run(go())
        self.the_receiver_restarts()

    @rule()
    def the_receiver_restarts(self) -> None:
        """Its spool stays, its counts are reported first, as when it is stopped."""
        self.the_spool_has_room()  # a kill forgets what was dropped and not yet reported
        self._report()
        self.run(self._stop_receiver())
        self._make_receiver()

    def _report(self) -> None:
        """What the receiver does in a second of silence."""
        self._datagrams = []
        if self.tally:
            self.run(self._hand_on_now())

    @rule()
    def the_spool_is_full(self) -> None:
        """What does not fit is dropped, and counted."""
        self.spool.max_bytes = self.spool.bytes

    @rule()
    def the_spool_has_room(self) -> None:
        """It takes batches again."""
        self.spool.max_bytes = SPOOL_BYTES

    async def _stop_receiver(self) -> None:
        await self.delivery.close()

    # --- Redis ------------------------------------------------------------------

    @rule()
    def redis_goes_away(self) -> None:
        """Nobody answers on its port."""
        self.redis.refusing = True
        self.redis.cut()

    @rule()
    def redis_comes_back(self) -> None:
        """It answers again."""
        self._mend()

    @rule(after=st.integers(1, 6000))
    def the_next_batch_is_cut(self, after: int) -> None:
        """The connection ends in the middle of what is sent to Redis."""
        self.redis.cut_after = after

    @rule()
    def the_next_answer_of_redis_is_lost(self) -> None:
        """Redis does what it is asked, and nobody hears of it."""
        self.redis.deaf = True

    def _mend(self) -> None:
        self.redis.refusing = self.redis.deaf = self.database.deaf = False
        self.redis.cut_after = self.database.cut_after = None

    # --- The writer -------------------------------------------------------------

    async def _start_writer(self) -> Parts:
        if self.writer is None:
            self.connection = await asyncpg.connect(self.database.url(self.database_url))
            await prepare(self.connection)
            self.writer_client = redis_async.Redis.from_url(self.redis_url)
            # Nothing is kept for others: trimming too early would show.
            self.writer = await parts_of(self.connection, self.writer_client, "model")
        return self.writer

    async def _stop_writer(self) -> None:
        self.writer = None
        if self.connection is not None:
            self.connection.terminate()
        if self.writer_client is not None:
            await self.writer_client.aclose()
        self.connection = self.writer_client = None

    async def _write(self, most: int) -> None:
        while True:
            writer = await self._start_writer()
            entries = await writer.streams.read(most, 0)
            if not entries:
                return
            for _ in await writer.store.commit(entries):
                await writer.trimming.trim(writer.offsets)

    @rule(most=st.integers(1, 20))
    def the_writer_writes(self, most: int) -> None:
        """In batches of any size, until nothing is left or the connection ends."""
        try:
            self.run(self._write(most))
        except AWAY:
            self.run(self._stop_writer())

    @rule()
    def the_writer_restarts(self) -> None:
        """It goes on from what the database holds."""
        self.run(self._stop_writer())

    @rule(after=st.integers(1, 8000))
    def the_next_transaction_is_cut(self, after: int) -> None:
        """The connection ends somewhere in what is sent to PostgreSQL."""
        self.database.cut_after = after

    @rule()
    def the_next_answer_of_postgresql_is_lost(self) -> None:
        """It does what it is asked, perhaps a commit, and nobody hears of it."""
        self.database.deaf = True

    # --- What must hold ---------------------------------------------------------

    async def _compare(self) -> None:
        fetch = self.admin.fetch
        rows = await fetch(
            "select instance, seq, count(*) as times from ("
            "select instance_id, seq from shares union all "
            "select instance_id, seq from mining_events) e "
            "join engine_instances i on i.id = e.instance_id group by 1, 2"
        )
        assert not [row for row in rows if row["times"] > 1]
        letters = await fetch("select instance, seq from dead_letters")
        ledger = {
            row["instance"]: row
            for row in await fetch(
                "select instance, sum(emitted)::int as emitted, sum(committed)::int as committed, "
                "sum(dead_lettered)::int as dead, sum(missing)::int as missing, "
                "sum(dropped)::int as dropped, sum(unexplained)::int as unexplained "
                "from ledger_hours group by 1"
            )
        }
        for name in INSTANCES:
            stored = {row["seq"] for row in rows if row["instance"] == name}
            refused = [row["seq"] for row in letters if row["instance"] == name]
            for seq, kind in self.unsure[name].items():
                if seq in stored and kind != "broken":
                    self.stored[name].add(seq)
                    self.valid += kind == "share"
                elif seq in refused and kind == "broken":
                    self.refused[name].add(seq)
            emitted = self.next[name] - 1
            lost = emitted - len(self.stored[name]) - len(self.refused[name])
            assert stored == self.stored[name]
            assert sorted(refused) == sorted(self.refused[name])
            line = ledger[name]
            assert line["emitted"] == emitted
            assert line["committed"] == len(stored)
            assert line["dead"] == len(refused)
            assert line["missing"] == lost
            # What was dropped and came again after all, or had come before, is no loss.
            dropped = len(self.dropped[name] - self.stored[name] - self.refused[name])
            assert line["dropped"] == dropped
            assert line["unexplained"] == lost - dropped
        # An event without a number may be stored more than once, never less.
        unnumbered = await self.admin.fetchval("select count(*) from shares where seq is null")
        assert self.unnumbered <= unnumbered <= self.unnumbered + self.unsure_unnumbered
        self.valid += unnumbered - self.unnumbered
        valid = await self.admin.fetchval("select count(*) from shares where is_valid")
        assert valid == self.valid
        assert await self.admin.fetch(WRONG) == []  # bests that are not the raw shares'


def test_whatever_happens_the_database_holds_what_the_model_says(
    redis_url: str, database_url: str, pytestconfig: pytest.Config
) -> None:
    Machine.redis_url, Machine.database_url = redis_url, database_url
    Machine.loop = asyncio.new_event_loop()
    faults = pytestconfig.getoption("--faults", None) or 0
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=max(25, faults // 10),
                stateful_step_count=30,
            ),
        )
    finally:
        Machine.loop.close()
