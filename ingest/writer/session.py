"""One life of the writer's connections: takes its place, then reads, commits and trims."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Final

import asyncpg
import redis.asyncio as redis
import structlog
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from ingest import metrics
from ingest.missing import Missing
from ingest.settings import WriterSettings
from ingest.writer.aside import Aside
from ingest.writer.codecs import prepare
from ingest.writer.eviction import Eviction
from ingest.writer.leaderboard import PATIENCE, Leaderboard
from ingest.writer.offsets import Offsets, OffsetsMovedError
from ingest.writer.refusal import Pace
from ingest.writer.resume import check, resume
from ingest.writer.rows import Item, parse
from ingest.writer.store import Store
from ingest.writer.streams import Streams
from ingest.writer.trimming import Trimming
from tbg_core import database
from tbg_core.database import connect_async, examine_async
from tbg_core.database_url import DatabaseError
from tbg_core.entry import Entry, identity
from tbg_core.flavour import fetch_flavour
from tbg_core.names import IDENTITY_KEY, in_cell
from tbg_core.primary import connect_redis_async, find_primary
from tbg_core.redis_server import Guard

REPORT_SECONDS: Final = 60.0
LAG_SECONDS: Final = 5.0
RELIEF_SECONDS: Final = 1.0
# After SIGTERM the writer commits what is in the streams for this long. With the receiver's own end
# before it, the exit comes within ten seconds.
DRAIN_SECONDS: Final = 4.0
COMMAND_SECONDS: Final = 60.0

AWAY: Final = (
    RedisError,
    *database.AWAY,
    OffsetsMovedError,
    DatabaseError,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer.session")


class NotMigratedError(RuntimeError):
    """The database lacks the schema."""


class Session:
    """Commits what is in Redis over one pair of connections.

    Args:
        settings: the writer's.
        stopping: is set when the session shall drain and end.
        pace: how many entries a transaction takes, as the sessions before have found.
        guard: judges Redis, and knows what the sessions before have said of it.

    Attributes:
        committed: events committed so far.
        trouble: why nothing is committed, empty while the session works.
    """

    def __init__(
        self, settings: WriterSettings, stopping: asyncio.Event, pace: Pace, guard: Guard
    ) -> None:
        self._settings = settings
        self._consumer = settings.consumer
        self._cell = settings.cell
        self._name = f"{self._cell}/{self._consumer}" if self._cell else self._consumer
        self._stopping = stopping
        self._pace = pace
        self._aside = Aside()
        self._guard = guard
        self._lag: dict[str, tuple[int, float]] = {}
        self.committed = 0
        self.trouble = "starting"

    async def run(self) -> None:
        """Works until it is stopped and what was in the streams is committed.

        Raises:
            NotMigratedError: the database lacks the schema.
            *AWAY: a server is away; the next session goes on from the stored offsets.
        """
        settings = self._settings
        connection = await connect_async(
            settings.database_url,
            application=f"tbg writer {self._name}",
            command_timeout=COMMAND_SECONDS,
            # A writer whose machine is gone must not keep its lock for hours.
            settings={
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        )
        clients = contextlib.AsyncExitStack()
        try:
            await examine_async(connection, settings.database_url)
            await self._take_over(connection)
            key = in_cell(IDENTITY_KEY, self._cell)
            url, in_cluster = await asyncio.to_thread(find_primary, settings.redis_url, key)
            client = redis.Redis.from_url(url, socket_timeout=10, retry=None)
            clients.push_async_callback(client.aclose)
            reader = redis.Redis.from_url(
                url,
                socket_timeout=10,
                retry=None,
                single_connection_client=True,
                redis_connect_func=_once(),
            )
            clients.push_async_callback(reader.aclose)
            everywhere = client
            if in_cluster:
                everywhere = await connect_redis_async(url)
                clients.push_async_callback(everywhere.aclose)
            self._db = connection
            await prepare(connection)
            self._offsets = Offsets(connection, self._consumer, settings.stream_keep, self._cell)
            self._streams = Streams(client, reader, self._cell)
            self._trimming = Trimming(client, settings.stream_keep, self._cell)
            self._everywhere = everywhere
            self._leaderboard = Leaderboard(everywhere, timedelta(days=settings.leaderboard_days))
            self._eviction = Eviction(client, self._guard)
            await self._eviction.look()
            plain = await fetch_flavour(connection) == "postgresql"
            self._store = Store(
                connection,
                self._offsets,
                timedelta(days=settings.retention_days),
                plain=plain,
                pace=self._pace,
                cell=self._cell,
            )
            await self._store.open()
            self._streams.seek(await resume(self._offsets, self._streams))
            await self._aside.do("memory", self._relieve)
            await self._leaderboard.reconcile(connection, self._store.bests)
            self._missing = Missing(client, self._cell)
            await self._aside.do("missing", partial(self._missing.say_all, connection))
            log.info("committing", consumer=self._name, plain_postgresql=plain)
            self.trouble = ""
            async with contextlib.aclosing(self._batches()) as batches:
                await self._work(batches)
        finally:
            await clients.aclose()
            try:
                await connection.close(timeout=2)
            except (*AWAY, asyncio.CancelledError):
                connection.terminate()

    async def _take_over(self, connection: asyncpg.Connection) -> None:
        if not await connection.fetchval("select to_regclass('stream_marks') is not null"):
            raise NotMigratedError("the schema is missing or not up to date: run `tbg migrate`")
        waiting = False
        while not await connection.fetchval(
            "select pg_try_advisory_lock(hashtext('tbg writer'), hashtext($1))", self._cell
        ):
            if not waiting:
                log.warning("another writer is at work: waiting", consumer=self._name)
                self.trouble = "another writer is at work"
                waiting = True
            if self._stopping.is_set():
                raise OffsetsMovedError("another writer is at work")
            await asyncio.sleep(0.5)

    async def _work(self, batches: AsyncGenerator[tuple[list[Entry], list[Item]], None]) -> None:
        next_lag = next_report = next_relief = 0.0
        reported, since = self.committed, time.monotonic()
        drain_until: float | None = None
        async for entries, items in batches:
            now = time.monotonic()
            if self._stopping.is_set() and drain_until is None:
                drain_until = now + DRAIN_SECONDS
            if entries:
                await self._commit(entries, items)
            if drain_until is not None and (not entries or now > drain_until):
                return
            if now >= next_relief:
                next_relief = now + RELIEF_SECONDS
                await self._aside.do("memory", self._relieve)
            if now >= next_lag:
                next_lag = now + LAG_SECONDS
                await self._offsets.confirm()
                await check(self._offsets, self._streams)
                await self._aside.do("eviction", self._eviction.look)
                await self._aside.do("lag", self._measure)
                if self._leaderboard.due:
                    await self._leaderboard.reconcile(self._db, self._store.bests)
            if now >= next_report:
                if next_report:
                    log.info(
                        "rate",
                        events_per_second=round((self.committed - reported) / (now - since), 1),
                        lag_entries=sum(entries for entries, _ in self._lag.values()),
                        lag_seconds=round(max((s for _, s in self._lag.values()), default=0.0), 1),
                    )
                await self._offsets.prune()
                if next_report and await self._has_far_cells():
                    await self._leaderboard.reconcile(self._db, self._store.bests)
                reported, since = self.committed, now
                next_report = now + REPORT_SECONDS

    async def _has_far_cells(self) -> bool:
        """Whether other cells write their bests to a leaderboard in another Redis."""
        cells = await self._offsets.other_cells()
        try:
            async with asyncio.timeout(PATIENCE):
                for cell, known in cells.items():
                    if await self._everywhere.get(in_cell(IDENTITY_KEY, cell)) != known.encode():
                        return True
        except (RedisError, OSError, TimeoutError) as error:
            # Of another cell: this one's events do not wait for it.
            log.warning("cannot ask for the other cells", error=str(error) or repr(error))
        return False

    async def _relieve(self) -> None:
        await self._trimming.relieve(self._offsets)

    async def _measure(self) -> None:
        self._lag = await self._streams.lag()
        await self._offsets.note(*await self._streams.oldest(self._offsets.committed))

    async def _commit(self, entries: list[Entry], items: list[Item]) -> None:
        started = time.perf_counter()
        for done in await self._store.commit(entries, items):
            await self._aside.do("trimming", partial(self._trimming.trim, self._offsets))
            if done.missing:
                await self._aside.do("missing", partial(self._missing.say, done.missing))
            await self._leaderboard.raise_bests(done.week_bests)
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        metrics.COMMIT_EVENTS.observe(len(entries))
        self.committed += len(entries)
        if self._settings.log_level == "DEBUG":
            _log_entries(entries)

    async def _batches(self) -> AsyncGenerator[tuple[list[Entry], list[Item]], None]:
        """Batches and what they say, read while the database works on the one before."""
        settings = self._settings

        async def read() -> tuple[list[Entry], list[Item]]:
            linger = 0.0 if self._stopping.is_set() else settings.flush_seconds
            entries = await self._streams.read(settings.batch_size, linger)
            return entries, [parse(entry) for entry in entries]

        ahead = asyncio.create_task(read())
        try:
            while True:
                batch = await ahead
                ahead = asyncio.create_task(read())
                yield batch
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


def _once() -> Callable[[Connection], Awaitable[None]]:
    """Lets a client connect once: another connection is for another session to judge."""
    connected = False

    async def connect(connection: Connection) -> None:
        nonlocal connected
        if connected:
            raise RedisConnectionError("the connection to Redis ended")
        connected = True
        await connection.on_connect()

    return connect


def _log_entries(entries: list[Entry]) -> None:
    for entry in entries:
        instance, seq = identity(entry.named())
        log.debug(
            "committed", stream=entry.stream, id=entry.id.decode(), instance=instance, seq=seq
        )
