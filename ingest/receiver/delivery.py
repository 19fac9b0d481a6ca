"""Publishes batches to Redis in order, through the spool while Redis is down.

What a single stream refuses (its key has another type, its ids are used up) waits in a spool
of its own, until that stream takes it: the other streams go on.
"""

import asyncio
import time
from typing import Final

import structlog
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from ingest import metrics
from ingest.counts import Tally
from ingest.receiver.publisher import Outcome, Publisher
from ingest.receiver.spool import Spool, SpoolFullError
from tbg_core.entry import Batch
from tbg_core.events import EVENTS
from tbg_core.names import LEDGER_STREAM, stream_of
from tbg_core.redis_server import explain, needs_action

REFUSED: Final = "refused"  # the folder in the spool's
_ASK_AGAIN: Final = 2.0  # seconds until a stream that refuses is asked again

_STREAMS: Final = {event: stream_of(event) for event in EVENTS}
_AWAY: Final = (RedisError, OSError, TimeoutError)

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.receiver.delivery")


class Delivery:
    """Takes batches, one at a time; each is in Redis, in the spool, or counted as dropped.

    Args:
        publisher: the way to Redis.
        spool: where batches wait.
        tally: counts what was dropped, and what Redis had already.

    Attributes:
        published: events handed to Redis so far.
        away: whether Redis did not take the last batch.
        why: what it said, or what its silence means.
        refused: what Redis said of entries that it does not take, empty if none wait.
    """

    def __init__(self, publisher: Publisher, spool: Spool, tally: Tally) -> None:
        self._publisher = publisher
        self._spool = spool
        self._refused_spool = Spool(spool.folder / REFUSED, spool.max_bytes)
        self._tally = tally
        self._turn = asyncio.Lock()
        self._spooled = asyncio.Event()
        self._set_aside = asyncio.Event()
        self._ending = False
        self._connections = 0
        self.published = 0
        self.away = False
        self.why = ""
        self.refused = ""
        if not self._spool.empty:
            self._spooled.set()
        if not self._refused_spool.empty:
            self._set_aside.set()

    @property
    def spooled_bytes(self) -> int:
        """Bytes that wait on disk."""
        return self._spool.bytes + self._refused_spool.bytes

    async def greet(self) -> None:
        """Says at the start, before the first event, what of Redis must be changed."""
        try:
            await self._publisher.look()
        except _AWAY as error:
            if needs_action(error):
                self._note_away(error)

    async def hand_on(self, batch: Batch) -> None:
        """Publishes a batch, or keeps it for later."""
        if self._spool.empty:
            try:
                await self._publish(batch)
            except _AWAY as error:
                self._note_away(error)
            else:
                self._tally.handed_on(batch.values.get(LEDGER_STREAM, ()))
                return
        self._keep(batch, self._spool)
        self._spooled.set()

    def _keep(self, batch: Batch, spool: Spool) -> None:
        try:
            spool.append(batch)
        except SpoolFullError as error:
            self._count_drops(batch, error.reason)
            log.error(
                "events lost",
                stage="spool",
                reason=error.reason,
                events=batch.events,
                error=str(error),
            )
        else:
            self._tally.handed_on(batch.values.get(LEDGER_STREAM, ()))
            metrics.SPOOLED.inc(batch.events)
            metrics.SPOOL_BYTES.set(self.spooled_bytes)

    async def drain(self) -> None:
        """Publishes what is on disk, in order, whenever there is something, until :meth:`end`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._drain())
            group.create_task(self._drain_refused())

    def end(self) -> None:
        """Lets :meth:`drain` end with the batch that it is at.

        To cancel it is not enough: before Python 3.12, asyncio.wait_for() forgets a
        cancellation that comes in the moment in which it is done.
        """
        self._ending = True

    async def _drain(self) -> None:
        backoff = ExponentialBackoff(cap=1.0, base=0.05)
        failures = 0
        while not self._ending:
            await self._spooled.wait()
            batch = self._next(self._spool)
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
                metrics.SPOOL_BYTES.set(self.spooled_bytes)

    async def _drain_refused(self) -> None:
        while not self._ending:
            await self._set_aside.wait()
            batch = self._next(self._refused_spool)
            if batch is None:
                self._set_aside.clear()
                self.refused = ""
                continue
            try:
                refused = await self._send(batch)
            except _AWAY as error:
                self._note_away(error)
                await asyncio.sleep(_ASK_AGAIN)
                continue
            if refused is not None:
                if refused.values == batch.values:
                    await asyncio.sleep(_ASK_AGAIN)
                    continue
                self._keep(_renamed(refused), self._refused_spool)
            self._refused_spool.pop()
            metrics.SPOOL_BYTES.set(self.spooled_bytes)

    def _next(self, spool: Spool) -> Batch | None:
        batch = spool.peek()
        losses = spool.take_losses()
        for loss in losses:
            metrics.DROPPED.labels("spool", loss.reason).inc(loss.events)
            for instance, spans in loss.numbers.items():
                for start, end in spans:
                    for seq in range(start, end):
                        self._tally.dropped(instance, seq, "spool", loss.reason)
        if losses:
            self._tally.keep()
        return batch

    async def _publish(self, batch: Batch) -> None:
        refused = await self._send(batch)
        if refused is not None:
            self._refused_spool.max_bytes = max(0, self._spool.max_bytes - self._spool.bytes)
            self._keep(_renamed(refused), self._refused_spool)
            self._set_aside.set()

    async def _send(self, batch: Batch) -> Batch | None:
        """Hands a batch to Redis; returns what a stream of it refused."""
        async with self._turn:
            started = time.perf_counter()
            outcome = await self._publisher.publish(batch)
            metrics.PUBLISH_SECONDS.observe(time.perf_counter() - started)
        metrics.PUBLISH_EVENTS.observe(batch.events)
        if self._connections != self._publisher.connections:
            if self._connections:
                self._tally.repeat()  # Redis may have come back with less than it had
            self._connections = self._publisher.connections
        self._count(batch, outcome)
        if self.away:
            self.away = False
            log.info("redis is back", spooled_bytes=self.spooled_bytes)
        if not outcome.refused.values:
            return None
        self._note_refused(outcome)
        return outcome.refused

    def _count(self, batch: Batch, outcome: Outcome) -> None:
        known, refused = outcome.known, outcome.refused
        self.published += batch.events - known.events - refused.events
        for event, stream in _STREAMS.items():
            if stream in batch.values:
                metrics.PUBLISHED.labels(event).inc(
                    batch.count(stream) - known.count(stream) - refused.count(stream)
                )
        if known.events:
            metrics.DUPLICATES.inc(known.events)
            for _, instance, _, micros in known.numbers():
                moment = int(micros) if micros else time.time_ns() // 1000
                self._tally.duplicate(instance.decode(), moment)

    def _count_drops(self, batch: Batch, reason: str) -> None:
        for report in batch.values.get(LEDGER_STREAM, ()):
            self._tally.give_back(report)
        for _, instance, seq, _ in batch.numbers():
            if instance and seq:
                self._tally.dropped(instance.decode(), int(seq), "spool", reason)
        self._tally.keep()
        metrics.DROPPED.labels("spool", reason).inc(batch.events)

    def _note_away(self, error: BaseException) -> None:
        why = explain(error)
        if not self.away or (why != self.why and needs_action(error)):
            log.error(
                "redis is away: events go to the spool", error=why, spool=str(self._spool.folder)
            )
            self.why = why
        self.away = True

    def _note_refused(self, outcome: Outcome) -> None:
        if outcome.why != self.refused:
            self.refused = outcome.why
            log.error(
                "a stream refuses its entries: they wait on disk until it takes them",
                error=outcome.why,
                events=outcome.refused.events,
                spool=str(self._refused_spool.folder),
                do="remove or rename the key that is in the way; the receiver then goes on",
            )

    async def close(self) -> None:
        """Closes the files and the connection; what waits stays on disk."""
        if not self._spool.empty or not self._refused_spool.empty:
            log.warning("stopped with events in the spool", bytes=self.spooled_bytes)
        self._spool.close()
        self._refused_spool.close()
        await self._publisher.close()


def _renamed(refused: Batch) -> Batch:
    """What is left of a batch, as a batch of its own: the other one is done."""
    return Batch(f"{refused.mark}:{REFUSED}", refused.name, refused.values, refused.events)
