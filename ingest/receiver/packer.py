"""Makes batches of datagrams: decodes them, watches the numbers, keeps count."""

import asyncio
import os
import time
from collections import defaultdict
from typing import Final

import structlog

from ingest import metrics
from ingest.counts import Tally
from ingest.sequence import Arrival, Seen
from tbg_core.boots import Status
from tbg_core.decode import Decoded, Refused, decode, identify
from tbg_core.entry import Batch, event_values, letter_values
from tbg_core.events import EVENTS, MAX_DATAGRAM, STATUS
from tbg_core.names import DEAD_LETTER_STREAM, LEDGER_STREAM, stream_of

# Events decoded before the loop may continue a send in flight: a socket's buffer holds only
# a part of a batch, and Redis waits for the rest.
SLICE: Final = 100
REPORT_EVERY: Final = 1.0  # seconds between two reports for the ledger
MAX_INSTANCES: Final = 1000  # instances whose gaps are watched; the writer watches all

_STREAMS: Final = {event: stream_of(event) for event in EVENTS}

log: structlog.stdlib.BoundLogger = structlog.get_logger("ingest.receiver.packer")


class Packer:
    """Turns datagrams into batches.

    Args:
        tally: counts what was received, and is reported in the batches.
        debug: logs every event.
    """

    def __init__(self, tally: Tally, *, debug: bool) -> None:
        self._tally = tally
        self._debug = debug
        self._mark = f"mining:receiver:{time.time_ns() // 1000}-{os.getpid()}"
        self._batches = 0
        self._seen: dict[str, Seen] = {}
        self._next_report = 0.0

    async def pack(self, datagrams: list[bytes]) -> Batch:
        """Makes a batch; without datagrams, of what there is to report."""
        values: defaultdict[str, list[bytes]] = defaultdict(list)
        events = len(datagrams)
        metrics.RECEIVED.inc(len(datagrams))
        for at in range(0, len(datagrams), SLICE):
            if at:
                await asyncio.sleep(0)
            for datagram in datagrams[at : at + SLICE]:
                try:
                    event = decode(datagram)
                except Refused as refused:
                    values[DEAD_LETTER_STREAM] += self._refuse(datagram, refused)
                    continue
                if event.event == STATUS:
                    self._vouch(event)
                    events -= 1
                    continue
                self._note(event)
                values[_STREAMS[event.event]] += event_values(event)
        now = time.monotonic()
        if self._tally and (now >= self._next_report or not values):
            self._next_report = now + REPORT_EVERY
            values[LEDGER_STREAM].append(self._tally.take())
        self._batches += 1
        return Batch(self._mark, str(self._batches), dict(values), events)

    def _vouch(self, event: Decoded) -> None:
        assert event.instance is not None
        said = event.data
        self._tally.status(
            Status(
                event.instance,
                event.source,
                event.timestamp,
                said.last_seq,
                said.unsent,
                said.state,
            )
        )

    def _note(self, event: Decoded) -> None:
        if event.instance is not None and event.seq is not None:
            self._watch(event.instance, event.seq)
            self._tally.received(event.instance, event.timestamp, event.seq)
        if self._debug:
            log.debug(
                "event",
                kind=event.event,
                instance=event.instance,
                seq=event.seq,
                data=event.raw_data.decode(),
            )

    def _refuse(self, datagram: bytes, refused: Refused) -> tuple[bytes, ...]:
        metrics.DEAD_LETTERED.labels("receiver", refused.reason).inc()
        instance, seq = identify(datagram)
        if instance is not None and seq is not None:
            self._watch(instance, seq)
            self._tally.received(instance, time.time_ns() // 1000, seq)
        log.warning(
            "refused",
            reason=refused.reason,
            detail=refused.detail[:300],
            instance=instance,
            seq=seq,
            bytes=len(datagram),
        )
        return letter_values(refused, instance, seq, datagram[: MAX_DATAGRAM + 1])

    def _watch(self, instance: str, seq: int) -> None:
        seen = self._seen.get(instance)
        if seen is None:
            if len(self._seen) >= MAX_INSTANCES:
                self._seen.pop(next(iter(self._seen)))
            # The writer judges what arrived before this process listened.
            seen = self._seen[instance] = Seen(seq - 1)
        if seq == seen.highest + 1:
            seen.highest = seq
            return
        before = seen.gap_events
        arrival = seen.add(seq)
        seen.forget()
        if arrival is Arrival.LATE:
            metrics.FILLED_EVENTS.inc()
        elif arrival is Arrival.NEW:
            metrics.GAP_EVENTS.inc(seen.gap_events - before)
            log.warning(
                "sequence gap", instance=instance, before=seq, missing=seen.gap_events - before
            )
