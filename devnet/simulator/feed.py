"""Events from a separate process, so that making them never delays sending them."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import Queue
from threading import Thread
from typing import Final, Self

from devnet.simulator.fleet import build_fleet
from devnet.simulator.journal import Batch
from devnet.simulator.scenario import Scenario
from devnet.simulator.traffic import simulate

_AHEAD: Final = 64  # batches that wait here


class Feed:
    """The events of a scenario, made ahead of time by a child process; a context manager.

    The fleet is built on entering, which takes seconds for a large one. The scenario's start is
    not used: ``begin`` sets it, once the fleet is ready.
    """

    def __init__(self, scenario: Scenario) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_produce, args=(theirs, scenario), daemon=True)
        self._theirs = theirs
        self._queue: Queue[Batch | None] = Queue(_AHEAD)
        self._failed = False

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()  # so that the child's end is an end here
        try:
            self._pipe.recv()
        except EOFError:
            raise RuntimeError("the process that makes the events died at its start") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def begin(self, start: int) -> None:
        """Makes the events from ``start`` on, in microseconds since the epoch."""
        self._pipe.send(start)
        Thread(target=self._fill, name="feed", daemon=True).start()

    def batches(self) -> Iterator[Batch]:
        """The events, in order.

        Raises:
            RuntimeError: when the child died before the end.
        """
        while (batch := self._queue.get()) is not None:
            yield batch
        if self._failed:
            raise RuntimeError("the process that makes the events died")

    def _fill(self) -> None:
        try:
            while (batch := self._pipe.recv()) is not None:
                self._queue.put(batch)
        except (EOFError, OSError):  # the child is gone, or the pipe was closed on leaving
            self._failed = True
        self._queue.put(None)


def _produce(pipe: Connection, scenario: Scenario) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    fleet = build_fleet(scenario)
    try:
        pipe.send("ready")
        for batch in simulate(replace(scenario, start=pipe.recv()), fleet):
            pipe.send(batch)
        pipe.send(None)
    except (BrokenPipeError, EOFError):
        return  # the parent has stopped
