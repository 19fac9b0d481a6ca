"""Publishes batches to Redis in order, through the spool while Redis is down."""

import asyncio
import time
from typing import Final

import structlog
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from ingest import metrics
from ingest.entry import Batch
from ingest.events import EVENTS
from ingest.ledger import Tally
from ingest.names import LEDGER_STREAM, stream_of
from ingest.publisher import Publisher
from ingest.spool import Spool, SpoolFullError

_STREAMS: Final = {event: stream_of(event) for event in EVENTS}
_AWAY: Final = (RedisError, OSError, TimeoutError)

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.delivery")


class Delivery:
    """Takes batches, one at a time; each is in Redis, in the spool, or counted as dropped.

    Args:
        publisher: the way to Redis.
        spool: where batches wait.
        tally: counts what was dropped, and what Redis had already.

    Attributes:
        published: events handed to Redis so far.
        away: whether Redis did not take the last batch.
    """

    def __init__(self, publisher: Publisher, spool: Spool, tally: Tally) -> None:
        self._publisher = publisher
        self._spool = spool
        self._tally = tally
        self._spooled = asyncio.Event()
        self.published = 0
        self.away = False
        if not self._spool.empty:
            self._spooled.set()

    @property
    def spooled_bytes(self) -> int:
        """Bytes that wait on disk."""
        return self._spool.bytes

    async def hand_on(self, batch: Batch) -> None:
        """Publishes a batch, or keeps it for later."""
        if self._spool.empty:
            try:
                await self._publish(batch)
            except _AWAY as error:
                self._note_away(error)
            else:
                return
        try:
            self._spool.append(batch)
        except SpoolFullError as error:
            self._count_drops(batch)
            log.error(
                "events lost",
                stage="spool",
                reason="full",
                events=batch.events,
                error=str(error),
            )
        else:
            metrics.SPOOLED.inc(batch.events)
            metrics.SPOOL_BYTES.set(self._spool.bytes)
            self._spooled.set()

    async def drain(self) -> None:
        """Publishes what is in the spool, in order, whenever there is something; never ends."""
        backoff = ExponentialBackoff(cap=5.0, base=0.05)
        failures = 0
        while True:
            await self._spooled.wait()
            corrupt = self._spool.corrupt_bytes
            batch = self._spool.peek()
            if self._spool.corrupt_bytes > corrupt:
                metrics.DROPPED.labels("spool", "damaged").inc()
            if batch is None:
                self._spooled.clear()
                continue
            try:
                await self._publish(batch)
            except _AWAY as error:
                self._note_away(error)
                failures += 1
                await asyncio.sleep(backoff.compute(failures))
            else:
                failures = 0
                self._spool.pop()
                metrics.SPOOL_BYTES.set(self._spool.bytes)

    async def _publish(self, batch: Batch) -> None:
        started = time.perf_counter()
        known = await self._publisher.publish(batch)
        metrics.PUBLISH_SECONDS.observe(time.perf_counter() - started)
        metrics.PUBLISH_EVENTS.observe(batch.events)
        self.published += batch.events - known.events
        for event, stream in _STREAMS.items():
            if stream in batch.values:
                metrics.PUBLISHED.labels(event).inc(batch.count(stream) - known.count(stream))
        if known.events:
            self._count_duplicates(known)
        if self.away:
            self.away = False
            log.info("redis is back", spooled_bytes=self._spool.bytes)

    def _count_duplicates(self, known: Batch) -> None:
        metrics.DUPLICATES.inc(known.events)
        for _, instance, _, micros in known.numbers():
            moment = int(micros) if micros else time.time_ns() // 1000
            self._tally.duplicate(instance.decode(), moment)

    def _count_drops(self, batch: Batch) -> None:
        for report in batch.values.get(LEDGER_STREAM, ()):
            self._tally.give_back(report)
        for _, instance, seq, _ in batch.numbers():
            if instance and seq:
                self._tally.dropped(instance.decode(), int(seq), "spool", "full")
        metrics.DROPPED.labels("spool", "full").inc(batch.events)

    def _note_away(self, error: BaseException) -> None:
        if not self.away:
            self.away = True
            log.error(
                "redis is away: events go to the spool",
                error=str(error) or repr(error),
                spool=str(self._spool.folder),
            )

    async def close(self) -> None:
        """Closes the files and the connection; what waits stays on disk."""
        if not self._spool.empty:
            log.warning("stopped with events in the spool", bytes=self._spool.bytes)
        self._spool.close()
        await self._publisher.close()
