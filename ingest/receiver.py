"""The receiver: event socket → Redis streams.

One thread empties the socket; this loop decodes, packs and publishes in
batches. While Redis is away, or refuses, batches go to the spool instead, and
come back in order before anything newer is published.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections import defaultdict
from typing import Final

import structlog
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from ingest import metrics
from ingest.datagram import EventSocket
from ingest.decode import Decoded, Refused, decode, identify
from ingest.events import EVENTS
from ingest.ledger import Tally
from ingest.names import DEAD_LETTER_STREAM, LEDGER_STREAM, stream_of
from ingest.publisher import FIELDS, Batch, Publisher
from ingest.sequence import Arrival, Seen
from ingest.settings import ReceiverSettings
from ingest.spool import Spool, SpoolFullError

LINGER: Final = 0.002  # seconds: events that come together go together
# Events decoded before the loop may send what is on its way: a socket's buffer holds a
# part of a batch only, and Redis waits for the rest.
SLICE: Final = 100
REPORT_SECONDS: Final = 60.0
REPORT_EVERY: Final = 1.0  # seconds between two reports for the ledger
# The reading thread must get the interpreter back before ten datagrams (the
# kernel's default queue) have come: at 10,000 a second that is one millisecond.
SWITCH_INTERVAL: Final = 0.0002
MAX_INSTANCES: Final = 1000  # instances whose gaps are watched; the writer watches all

_STREAMS: Final = {event: stream_of(event) for event in EVENTS}
_AWAY: Final = (RedisError, OSError, TimeoutError)

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.receiver")


class Receiver:
    """Carries events from the socket to Redis until told to stop.

    Args:
        settings: checked settings.

    Raises:
        SocketInUseError: another receiver listens on the path.
        OSError: socket, spool or metrics port cannot be had.
    """

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        self._spool = Spool(settings.spool_dir, settings.spool_max_bytes)
        self._publisher = Publisher(settings.redis_url, settings.redis_timeout)
        self._socket = EventSocket(
            settings.socket_path,
            mode=int(settings.socket_mode, 8),
            group=settings.socket_group,
            queue_length=settings.queue_length,
            limit=settings.memory_events,
        )
        self._metrics = metrics.MetricsServer(
            settings.metrics_host, settings.receiver_metrics_port, self._ready
        )
        self._mark = f"mining:receiver:{time.time_ns() // 1000}-{os.getpid()}"
        self._batches = 0
        self._seen: dict[str, Seen] = {}
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._spooled = asyncio.Event()
        self._redis_away = False
        self._debug = settings.log_level == "DEBUG"
        self._published = 0
        self._tally = Tally()
        self._next_report = 0.0
        if not self._spool.empty:
            self._spooled.set()

    def _ready(self) -> tuple[bool, str]:
        redis = "away, spooling" if self._redis_away else "connected"
        return True, f"listening on {self._settings.socket_path}; redis {redis}"

    async def run(self) -> None:
        """Runs until :meth:`stop` is called and everything received is handed on."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        loop = asyncio.get_running_loop()
        self._socket.start(lambda: loop.call_soon_threadsafe(self._arrived.set))
        log.info(
            "listening",
            socket=str(self._settings.socket_path),
            max_dgram_qlen=self._socket.queue_length,
            spooled_bytes=self._spool.bytes,
        )
        async with asyncio.TaskGroup() as group:
            drain = group.create_task(self._drain_spool())
            report = group.create_task(self._report())
            await self._pump(group)
            drain.cancel()
            report.cancel()
        if not self._spool.empty:
            log.warning("stopped with events in the spool", bytes=self._spool.bytes)
        self._spool.close()
        await self._publisher.close()
        self._metrics.close()
        log.info("stopped")

    def stop(self) -> None:
        """Requests shutdown: ``run`` ends when what was received is handed on."""
        self._stopping.set()
        self._arrived.set()

    async def _pump(self, group: asyncio.TaskGroup) -> None:
        stopped = False
        # While Redis takes one batch, the next is decoded. Never more than one is on its
        # way, so that they come in order.
        handing: asyncio.Task[None] | None = None
        while True:
            if self._stopping.is_set() and not stopped:
                # Also while more comes than is handed on: that may never end. Blocks for
                # the moment that it takes to empty the kernel's queue.
                self._socket.stop()
                stopped = True
            if not self._socket.queue:
                if stopped:
                    if handing is not None:
                        await handing  # may give back what it should have reported
                    if self._tally:
                        await self._hand_on(await self._pack([]))
                    return
                self._arrived.clear()
                if self._stopping.is_set():
                    continue
                if self._socket.wait():
                    await self._wait_for_events()
            if not stopped and len(self._socket.queue) < self._settings.publish_batch:
                await asyncio.sleep(LINGER)
            metrics.QUEUE_EVENTS.set(len(self._socket.queue))
            datagrams = self._socket.take(self._settings.publish_batch)
            if datagrams or self._tally:
                batch = await self._pack(datagrams)
                if handing is not None:
                    await handing
                handing = group.create_task(self._hand_on(batch))

    async def _wait_for_events(self) -> None:
        # Silence does not hold back what was counted and not yet reported.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_EVERY if self._tally else None):
                await self._arrived.wait()

    async def _pack(self, datagrams: list[bytes]) -> Batch:
        values: defaultdict[str, list[bytes]] = defaultdict(list)
        blocks: list[bytes] = []
        metrics.RECEIVED.inc(len(datagrams))
        for at in range(0, len(datagrams), SLICE):
            if at:
                await asyncio.sleep(0)
            for datagram in datagrams[at : at + SLICE]:
                try:
                    event = decode(datagram)
                except Refused as refused:
                    values[DEAD_LETTER_STREAM] += self._dead_letter(datagram, refused)
                    continue
                self._note(event)
                values[_STREAMS[event.event]] += event_values(event)
                if event.event == "block_found":
                    blocks.append(event.raw_data)
        now = time.monotonic()
        if self._tally and (now >= self._next_report or not datagrams):
            self._next_report = now + REPORT_EVERY
            values[LEDGER_STREAM].append(self._tally.take())
        self._batches += 1
        return Batch(self._mark, str(self._batches), dict(values), len(datagrams), blocks)

    def _note(self, event: Decoded) -> None:
        if event.instance is not None and event.seq is not None:
            self._watch(event.instance, event.seq)
            self._tally.received(event.instance, event.timestamp)
        if self._debug:
            log.debug(
                "event",
                kind=event.event,
                instance=event.instance,
                seq=event.seq,
                data=event.raw_data.decode(),
            )

    def _dead_letter(self, datagram: bytes, refused: Refused) -> tuple[bytes, ...]:
        metrics.DEAD_LETTERED.labels("receiver", refused.reason).inc()
        instance, seq = identify(datagram)
        if instance is not None and seq is not None:
            self._watch(instance, seq)
            self._tally.received(instance, time.time_ns() // 1000)
        log.warning(
            "refused",
            reason=refused.reason,
            detail=refused.detail[:300],
            instance=instance,
            seq=seq,
            bytes=len(datagram),
        )
        return (
            b"dead_letter",
            b"receiver",
            refused.reason.encode(),
            refused.detail[:1000].encode(errors="backslashreplace"),
            (instance or "").encode(),
            str(seq or "").encode(),
            datagram,
        )

    def _watch(self, instance: str, seq: int) -> None:
        seen = self._seen.get(instance)
        if seen is None:
            if len(self._seen) >= MAX_INSTANCES:
                self._seen.pop(next(iter(self._seen)))
            # What came before this process listened is the writer's to judge.
            seen = self._seen[instance] = Seen(seq - 1)
        if seq == seen.highest + 1:
            seen.highest = seq
            return
        before = seen.gap_events
        arrival = seen.add(seq)
        if arrival is Arrival.LATE:
            metrics.FILLED_EVENTS.inc()
        elif arrival is Arrival.NEW:
            metrics.GAP_EVENTS.inc(seen.gap_events - before)
            log.warning(
                "sequence gap", instance=instance, before=seq, missing=seen.gap_events - before
            )

    async def _hand_on(self, batch: Batch) -> None:
        if self._spool.empty:
            try:
                await self._publish(batch)
            except _AWAY as error:
                self._away(error)
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

    def _count_drops(self, batch: Batch) -> None:
        for stream, values in batch.values.items():
            if stream == LEDGER_STREAM:
                for report in values:
                    self._tally.give_back(report)
                continue
            fields = FIELDS[stream]
            instances = values[fields.index("instance") :: len(fields)]
            numbers = values[fields.index("seq") :: len(fields)]
            for instance, seq in zip(instances, numbers, strict=True):
                if instance and seq:
                    self._tally.dropped(instance.decode(), int(seq), "spool", "full")
        metrics.DROPPED.labels("spool", "full").inc(batch.events)

    async def _publish(self, batch: Batch) -> None:
        started = time.perf_counter()
        await self._publisher.publish(batch)
        metrics.PUBLISH_SECONDS.observe(time.perf_counter() - started)
        metrics.PUBLISH_EVENTS.observe(batch.events)
        self._published += batch.events
        for event, stream in _STREAMS.items():
            if stream in batch.values:
                count = len(batch.values[stream]) // len(FIELDS[stream])
                metrics.PUBLISHED.labels(event).inc(count)
        if self._redis_away:
            self._redis_away = False
            log.info("redis is back", spooled_bytes=self._spool.bytes)

    def _away(self, error: BaseException) -> None:
        if not self._redis_away:
            self._redis_away = True
            log.error(
                "redis is away: events go to the spool",
                error=str(error) or repr(error),
                spool=str(self._settings.spool_dir),
            )

    async def _drain_spool(self) -> None:
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
                self._away(error)
                failures += 1
                await asyncio.sleep(backoff.compute(failures))
            else:
                failures = 0
                self._spool.pop()
                metrics.SPOOL_BYTES.set(self._spool.bytes)

    async def _report(self) -> None:
        while True:
            before = self._published
            await asyncio.sleep(REPORT_SECONDS)
            log.info(
                "rate",
                events_per_second=round((self._published - before) / REPORT_SECONDS, 1),
                queue=len(self._socket.queue),
                spool_bytes=self._spool.bytes,
                redis="away" if self._redis_away else "connected",
            )


def event_values(event: Decoded) -> tuple[bytes, ...]:
    """What the stream entry of an event holds, in the order of ``FIELDS``."""
    return (
        event.event.encode(),
        str(event.timestamp).encode(),
        event.source.encode(),
        b"" if event.instance is None else event.instance.encode(),
        b"" if event.seq is None else str(event.seq).encode(),
        event.raw_data,
    )
