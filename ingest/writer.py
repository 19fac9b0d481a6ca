"""The writer: Redis streams → database.

Reads from the offsets that the database holds, so a writer that was killed goes
on where its last transaction ended. Whatever fails outside a batch's data ends
the connections, and the work begins anew from the stored offsets.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Final

import asyncpg
import redis.asyncio as redis
import structlog
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from ingest import metrics
from ingest.batch import Item
from ingest.codecs import prepare
from ingest.entry import START, Entry, identity
from ingest.flavour import fetch_flavour
from ingest.leaderboard import Leaderboard
from ingest.names import STREAMS
from ingest.peers import OtherCountError, Peers
from ingest.presence import Presence
from ingest.settings import WriterSettings
from ingest.store import OffsetsMovedError, Store
from ingest.streams import Streams

REPORT_SECONDS: Final = 60.0
LAG_SECONDS: Final = 5.0
RELIEF_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 1.0
# SIGTERM to exit takes at most ten seconds, those of a receiver before included: so long
# what is in the streams is still committed, and so long anything at all may take.
DRAIN_SECONDS: Final = 4.0
STOP_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 60.0

_AWAY: Final = (
    RedisError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # A goodbye that came while nothing was asked (a server that crashes says one)
    # shows only with the next question, and as this.
    asyncpg.InternalClientError,
    OffsetsMovedError,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.writer")


class NotMigratedError(RuntimeError):
    """The database lacks the schema."""


class Writer:
    """Commits what is in Redis until told to stop.

    Args:
        settings: checked settings.

    Raises:
        OSError: the metrics port is in use.
    """

    def __init__(self, settings: WriterSettings) -> None:
        self._settings = settings
        self._consumer = settings.shard.consumer(settings.consumer)
        self._stopping = asyncio.Event()
        self._trouble = "starting"
        self._committed = 0
        self._presence = Presence()
        self._debug = settings.log_level == "DEBUG"
        self._metrics = metrics.MetricsServer(
            settings.metrics_host, settings.writer_metrics_port, self._ready
        )

    def _ready(self) -> tuple[bool, str]:
        return not self._trouble, self._trouble or "committing"

    def stop(self) -> None:
        """Requests shutdown: what is in the streams is still committed."""
        self._stopping.set()

    async def run(self) -> None:
        """Runs until :meth:`stop`; waits with growing pauses while a server is away."""
        sessions = asyncio.create_task(self._sessions())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({sessions, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        _, late = await asyncio.wait({sessions}, timeout=STOP_SECONDS)
        if late:  # a server that takes a question and does not answer
            sessions.cancel()
        try:
            await sessions
        except asyncio.CancelledError:
            log.warning(
                "stopped while a server did not answer; what it had not committed waits in Redis"
            )
        self._metrics.close()

    async def _sessions(self) -> None:
        backoff = ExponentialBackoff(cap=5.0, base=0.1)
        failures = 0
        while True:
            before = self._committed
            try:
                await self._session()
            except (*_AWAY, NotMigratedError, OtherCountError) as error:
                if self._committed > before:
                    failures = 0
                failures += 1
                pause = backoff.compute(failures)
                self._trouble = f"{type(error).__name__}: {error}"
                log.error(
                    "cannot commit: events wait in Redis",
                    error=self._trouble,
                    retry_seconds=round(pause, 1),
                )
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                if self._stopping.is_set():
                    log.warning("stopped; what was not committed waits in Redis")
                    return
            else:
                log.info("stopped")
                return

    async def _session(self) -> None:
        """One life of the connections."""
        settings = self._settings
        connection = await asyncpg.connect(
            settings.database_url,
            timeout=10,
            command_timeout=COMMAND_SECONDS,
            server_settings={
                "application_name": f"tbg writer {self._consumer}",
                # A writer whose machine is gone must not keep its lock for hours.
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        )
        client = redis.Redis.from_url(settings.redis_url, socket_timeout=10, retry=None)
        try:
            await self._take_over(connection)
            peers = Peers(connection, settings.consumer, settings.shard)
            await peers.join()
            await prepare(connection)
            plain = await fetch_flavour(connection) == "postgresql"
            store = Store(
                connection,
                self._consumer,
                timedelta(days=settings.retention_days),
                plain=plain,
                known=self._presence,
                takes=None if peers.alone else peers.takes,
            )
            streams = Streams(client, settings.stream_keep)
            leaderboard = Leaderboard(client, timedelta(days=settings.leaderboard_days))
            offsets = await store.open(STREAMS)
            offsets |= await self._check_offsets(store, streams, peers, offsets)
            streams.seek(
                {stream: last_id for stream, (last_id, _) in offsets.items()},
                {stream: entries for stream, (_, entries) in offsets.items()},
            )
            if settings.shard.count > 1:
                await streams.hold(await peers.floor())
            await streams.relieve(store.offsets)
            await leaderboard.reconcile(connection)
            log.info("committing", consumer=self._consumer, plain_postgresql=plain)
            self._trouble = ""
            async with contextlib.aclosing(self._batches(store, streams)) as batches:
                await self._work(connection, store, streams, peers, leaderboard, batches)
        finally:
            await client.aclose()
            try:
                await connection.close(timeout=2)
            except (*_AWAY, asyncio.CancelledError):
                connection.terminate()

    async def _take_over(self, connection: asyncpg.Connection) -> None:
        if not await connection.fetchval("select to_regclass('stream_offsets') is not null"):
            raise NotMigratedError("the database has no schema yet: run `tbg migrate`")
        waiting = False
        while not await connection.fetchval(
            "select pg_try_advisory_lock(hashtext('tbg writer ' || $1))", self._consumer
        ):
            if not waiting:
                log.warning("another writer is at work: waiting", consumer=self._consumer)
                self._trouble = "another writer is at work"
                waiting = True
            if self._stopping.is_set():
                raise OffsetsMovedError("another writer is at work")
            await asyncio.sleep(0.5)

    async def _check_offsets(
        self,
        store: Store,
        streams: Streams,
        peers: Peers,
        offsets: dict[str, tuple[str, int]],
    ) -> dict[str, tuple[str, int]]:
        """Starts over the streams that Redis lost; what comes again is recognised."""
        newest = {stream: last_id for stream, (last_id, _) in (await streams.last_ids()).items()}
        rewound = {}
        for stream in await peers.rewind(newest):
            log.error(
                "redis lost a stream: reading it from its beginning",
                stream=stream,
                committed=offsets[stream][0],
                newest=newest[stream],
            )
            store.offsets[stream] = START
            rewound[stream] = START, 0
        return rewound

    async def _work(
        self,
        connection: asyncpg.Connection,
        store: Store,
        streams: Streams,
        peers: Peers,
        leaderboard: Leaderboard,
        batches: AsyncGenerator[tuple[list[Entry], list[Item]], None],
    ) -> None:
        settings = self._settings
        shared = not peers.alone
        next_lag = next_report = next_relief = next_settle = 0.0
        reported, since = self._committed, time.monotonic()
        drain_until: float | None = None
        async for entries, items in batches:
            now = time.monotonic()
            if self._stopping.is_set() and drain_until is None:
                drain_until = now + DRAIN_SECONDS
            if entries:
                started = time.perf_counter()
                committed = 0
                for done in await store.commit(entries, items):
                    await streams.trim(done.offsets)
                    await leaderboard.raise_bests(done.week_bests)
                    committed += done.entries
                if committed:
                    metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
                    metrics.COMMIT_EVENTS.observe(committed)
                self._committed += committed
                if self._debug:
                    _log_entries([entry for entry in entries if peers.takes(entry)])
            ended = drain_until is not None and (not entries or now > drain_until)
            if shared and (ended or now >= next_settle):
                next_settle = now + SETTLE_SECONDS
                await streams.trim(await store.settle())
                floor = await peers.floor()
                if settings.shard.count > 1:
                    await streams.hold(floor)
            await store.tell(everything=ended)
            if ended:
                return
            if now >= next_relief:
                next_relief = now + RELIEF_SECONDS
                await streams.relieve(store.offsets)
            if now >= next_lag:
                next_lag = now + LAG_SECONDS
                await store.confirm()
                lag = await streams.lag()
                if leaderboard.behind:
                    await leaderboard.reconcile(connection)
            if now >= next_report:
                if next_report:
                    log.info(
                        "rate",
                        events_per_second=round((self._committed - reported) / (now - since), 1),
                        lag_entries=sum(entries for entries, _ in lag.values()),
                        lag_seconds=round(max(seconds for _, seconds in lag.values()), 1),
                    )
                reported, since = self._committed, now
                next_report = now + REPORT_SECONDS

    async def _batches(
        self, store: Store, streams: Streams
    ) -> AsyncGenerator[tuple[list[Entry], list[Item]], None]:
        """Batches and what they say, read while the database works on the one before."""
        settings = self._settings

        async def read() -> tuple[list[Entry], list[Item]]:
            linger = 0.0 if self._stopping.is_set() else settings.flush_seconds
            entries = await streams.read(settings.batch_size, linger)
            return entries, store.parse(entries)

        ahead = asyncio.create_task(read())
        try:
            while True:
                batch = await ahead
                ahead = asyncio.create_task(read())
                yield batch
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)


def _log_entries(entries: list[Entry]) -> None:
    for entry in entries:
        instance, seq = identity(entry.named())
        log.debug(
            "committed", stream=entry.stream, id=entry.id.decode(), instance=instance, seq=seq
        )
