"""The receiver: event socket → Redis streams.

One thread empties the socket; this loop has what it holds packed in batches
(:mod:`ingest.receiver.packer`) and delivered (:mod:`ingest.receiver.delivery`).
"""

import asyncio
import contextlib
import sys
from typing import Final

import structlog

from ingest import metrics
from ingest.counts import Tally
from ingest.notebook import Notebook
from ingest.receiver.datagram import EventSocket, hold_path, most_held
from ingest.receiver.delivery import Delivery
from ingest.receiver.packer import REPORT_EVERY, Packer
from ingest.receiver.publisher import Publisher
from ingest.receiver.spool import Spool
from ingest.receiver.witness import Witness
from ingest.settings import ReceiverSettings
from tbg_core.entry import Batch
from tbg_core.metrics_server import MetricsServer

LINGER: Final = 0.002  # seconds: events that arrive together go together
REPORT_SECONDS: Final = 60.0
WATCH_SECONDS: Final = 1.0  # between two looks at the socket's file
# The reading thread must get the interpreter back before ten datagrams (the
# kernel's default queue) have come: at 10,000 a second that is one millisecond.
SWITCH_INTERVAL: Final = 0.0002

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.receiver")


class Receiver:
    """Carries events from the socket to Redis until it is stopped.

    Args:
        settings: checked settings.

    Raises:
        InUseError: another receiver listens on the path, or has the spool's folder.
        OSError: socket or spool is unavailable.
    """

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        lock = hold_path(settings.socket_path)
        # Before the socket: what engines send from then on must find a way.
        spool = Spool(settings.spool, settings.spool_max_bytes)
        self._notebook = Notebook(spool.folder / "unreported")
        self._tally = Tally(self._notebook)
        self._packer = Packer(self._tally, debug=settings.log_level == "DEBUG")
        self._socket = EventSocket(
            settings.socket_path,
            mode=int(settings.socket_mode, 8),
            group=settings.socket_group,
            queue_length=settings.queue_length,
            limit=settings.memory_events,
            lock=lock,
        )
        self._socket.limit = most_held(settings.memory_events, self._socket.queue_length)
        # While one third is in flight, one is packed and one is read.
        self._most = min(settings.publish_batch, self._socket.limit // 3)
        publisher = Publisher(
            settings.redis_url,
            settings.redis_timeout,
            lock,
            cell=settings.cell,
            confirm=settings.redis_confirm,
        )
        self._delivery = Delivery(publisher, spool, self._tally)
        self._metrics = MetricsServer(
            settings.metrics_host, settings.receiver_metrics_port, self._ready, settings.cell
        )
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()

    def _ready(self) -> tuple[bool, str]:
        redis = f"away, spooling: {self._delivery.why}" if self._delivery.away else "connected"
        if self._delivery.refused:
            redis += f"; events wait, as a stream refuses them: {self._delivery.refused}"
        if self._socket.trouble:
            return False, f"engines cannot reach the socket: {self._socket.trouble}; redis {redis}"
        return True, f"listening on {self._settings.socket_path}; redis {redis}"

    async def run(self) -> None:
        """Runs until :meth:`stop` is called and everything received is passed on."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        loop = asyncio.get_running_loop()
        self._socket.start(lambda: loop.call_soon_threadsafe(self._arrived.set))
        log.info(
            "listening",
            socket=str(self._settings.socket_path),
            spool=str(self._settings.spool),
            max_held=self._socket.limit,
            max_dgram_qlen=self._socket.queue_length,
            spooled_bytes=self._delivery.spooled_bytes,
        )
        async with asyncio.TaskGroup() as group:
            drain = group.create_task(self._delivery.drain())
            witness = Witness(self._settings.socket_path, self._tally)
            others = [
                drain,
                group.create_task(self._report()),
                group.create_task(self._watch()),
                group.create_task(self._delivery.greet()),
                group.create_task(witness.watch(self._arrived.set)),
            ]
            await self._pump(group)
            self._delivery.end()
            for other in others:
                other.cancel()
        await self._delivery.close()
        self._notebook.close()
        self._metrics.close()
        log.info("stopped")

    def stop(self) -> None:
        """Requests shutdown: ``run`` ends when everything received is passed on."""
        self._stopping.set()
        self._arrived.set()

    async def _pump(self, group: asyncio.TaskGroup) -> None:
        stopped = False
        # While Redis takes one batch, the next is decoded. At most one is in flight, which
        # keeps them in order.
        handing: asyncio.Task[None] | None = None
        while True:
            if self._stopping.is_set() and not stopped:
                # Do not wait for the input to end: it may never. Blocks only while it empties
                # the kernel's queue.
                self._socket.stop()
                stopped = True
            if not self._socket.queue:
                if stopped:
                    if handing is not None:
                        await handing  # may give back what it should have reported
                    if self._tally:
                        await self._delivery.hand_on(await self._packer.pack([]))
                    return
                self._arrived.clear()
                if self._stopping.is_set():
                    continue
                if self._socket.wait():
                    await self._wait_for_events(handing)
            if len(self._socket.queue) < self._most and handing is not None:
                await handing
            if not stopped and len(self._socket.queue) < self._most:
                await asyncio.sleep(LINGER)
            metrics.QUEUE_EVENTS.set(len(self._socket.queue))
            datagrams = self._socket.take(self._most)
            if datagrams or self._tally:
                batch = await self._packer.pack(datagrams)
                if handing is not None:
                    await handing
                handing = group.create_task(self._hand_on(batch, len(datagrams)))

    async def _hand_on(self, batch: Batch, datagrams: int) -> None:
        await self._delivery.hand_on(batch)
        self._socket.release(datagrams)

    async def _wait_for_events(self, handing: asyncio.Task[None] | None) -> None:
        # Silence does not hold back what was counted and not yet reported, and a batch in
        # flight may add to it: what Redis had already, or what the full spool dropped.
        counted = self._tally or (handing is not None and not handing.done())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT_EVERY if counted else None):
                await self._arrived.wait()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._socket.check()

    async def _report(self) -> None:
        while True:
            before = self._delivery.published
            await asyncio.sleep(REPORT_SECONDS)
            log.info(
                "rate",
                events_per_second=round((self._delivery.published - before) / REPORT_SECONDS, 1),
                queue=len(self._socket.queue),
                spool_bytes=self._delivery.spooled_bytes,
                redis="away" if self._delivery.away else "connected",
            )
