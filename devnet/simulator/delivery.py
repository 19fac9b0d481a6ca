"""Batches on their way out: to a file, to a receiver as fast as it takes them, or paced."""

import time
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import BinaryIO, Final

from devnet.simulator.journal import Batch
from devnet.simulator.outlet import Outlet
from devnet.simulator.pacer import Pacer
from devnet.simulator.summary import Summary
from tbg_core.periods import SECOND

_LOOK: Final = 0.05  # seconds between two tries at a receiver that is full or down

Stopped = Callable[[], bool]
"""Whether a stop was requested."""


def write_file(
    batches: Iterable[Batch], file: BinaryIO, summary: Summary, stopped: Stopped
) -> Iterator[Batch]:
    """Writes JSON lines. Yields each batch when it is written; ends early when ``stopped``."""
    for batch in batches:
        if stopped():
            return
        file.write(batch.body + b"\n")
        summary.add(batch)
        yield batch


def send_all(
    batches: Iterable[Batch], outlet: Outlet, summary: Summary, stopped: Stopped
) -> Iterator[Batch]:
    """Sends everything and loses nothing: waits while the receiver is full or down.

    What a receiver had in its queue when it died is lost, and shows as a gap in the sequence.
    Yields each batch when it is sent; ends early when ``stopped``.
    """
    for batch in batches:
        sent = 0
        outlet.boot(batch.instance)
        for due, datagram in zip(batch.due.tolist(), batch.datagrams(), strict=True):
            refusal = outlet.offer(datagram)
            if refusal and _offer_again(refusal, datagram, outlet, summary, stopped):
                break
            outlet.number(due)
            sent += 1
        outlet.vouch()
        summary.add(batch.head(sent))
        if sent < len(batch) or stopped():
            return
        yield batch


def send_paced(
    batches: Iterable[Batch],
    outlet: Outlet,
    pacer: Pacer,
    summary: Summary,
    stopped: Stopped,
    *,
    patience: float,
    until: float,
) -> Iterator[Batch]:
    """Sends every event at its moment.

    An event that the receiver does not take within ``patience`` seconds of its moment is dropped
    and counted. An event that is late because this process is late is sent all the same, up to
    ``until`` (microseconds since the epoch); what is not sent by then does not count as sent.
    Yields each batch when it is through; ends early when ``stopped``.
    """
    grace = int(patience * SECOND)
    for batch in batches:
        through, dropped = 0, []
        outlet.boot(batch.instance)
        for due, datagram in zip(batch.due.tolist(), batch.datagrams(), strict=True):
            if not pacer.wait(due) or pacer.now() > until:
                break
            outlet.number(due)
            refusal = outlet.offer(datagram)
            if refusal is not None:
                patient = (due + grace - pacer.now()) / SECOND
                refusal = _offer_again(refusal, datagram, outlet, summary, stopped, patient)
            if refusal is not None:
                summary.dropped[refusal] += 1
                dropped.append(through)
            through += 1
        outlet.vouch()
        summary.add(batch.head(through), dropped)
        if through < len(batch) or stopped():
            return
        yield batch


def _offer_again(
    refusal: str,
    datagram: bytes,
    outlet: Outlet,
    summary: Summary,
    stopped: Stopped,
    seconds: float = inf,
) -> str | None:
    """Offers a refused datagram for some ``seconds``; returns the last refusal, None if taken."""
    answer: str | None = refusal
    before = now = time.monotonic()
    while answer is not None and now < before + seconds and not stopped():
        outlet.wait(min(_LOOK, before + seconds - now))
        answer = outlet.offer(datagram)
        now = time.monotonic()
    summary.waited += now - before
    return answer
