"""Runs a scenario to its end, shows its progress, and reports what it did."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from rich.console import Console
from rich.progress import Progress

from devnet.simulator.delivery import Stopped, send_all, send_paced, write_file
from devnet.simulator.feed import Feed
from devnet.simulator.fleet import build_fleet
from devnet.simulator.journal import Batch
from devnet.simulator.outlet import Outlet
from devnet.simulator.pacer import Pacer
from devnet.simulator.scenario import Scenario
from devnet.simulator.summary import Summary
from devnet.simulator.traffic import simulate
from tbg_core.periods import SECOND

_HEAD_START: Final = 1.0  # seconds in which the first events are made
_HEAD_START_MACHINE: Final = 20e-6  # seconds more for every machine
_SAY_EVERY: Final = 5.0  # seconds

STDOUT: Final = Path("-")


class NoReceiverError(OSError):
    """No receiver listens on the socket when a run begins."""


def run_history(
    scenario: Scenario, target: Path, stopped: Stopped, console: Console, *, to_file: bool
) -> dict[str, Any]:
    """Writes or sends a finite scenario as fast as it goes; returns the summary's report.

    ``target`` is a file (``-`` for the standard output) or the receiver's socket.

    Raises:
        NoReceiverError: if no receiver listens at the start; later it waits for one.
        OSError: when a file cannot be written.
    """
    summary = Summary(scenario)
    with ExitStack() as stack:
        outlet = None if to_file else stack.enter_context(_connect(target))
        fleet = build_fleet(scenario)
        batches = simulate(scenario, fleet)
        if outlet is None:
            file = _open(target, stack)
            done = write_file(batches, file, summary, stopped)
        else:
            done = send_all(batches, outlet, summary, stopped)
        _watch(done, scenario, summary, console)
    return summary.report()


def run_live(
    scenario: Scenario, socket_path: Path, patience: float, stopped: Stopped, console: Console
) -> dict[str, Any]:
    """Sends a scenario, from about now on, at the pace of its timestamps; returns the report.

    Raises:
        NoReceiverError: if no receiver listens at the start; later, events are dropped.
        RuntimeError: when the process that makes the events died.
    """
    with _connect(socket_path) as outlet, Feed(scenario) as feed:
        ahead = _HEAD_START + _HEAD_START_MACHINE * scenario.miners
        start = time.time_ns() // 1000 + int(ahead * SECOND)
        scenario = replace(scenario, start=start)
        feed.begin(start)
        pacer = Pacer(start, stopped)
        pacer.wait(start)
        pacer.reset()
        summary = Summary(scenario)
        said = time.monotonic()
        for _ in send_paced(
            feed.batches(),
            outlet,
            pacer,
            summary,
            stopped,
            patience=patience,
            until=start + (scenario.span + patience) * SECOND,
        ):
            if time.monotonic() - said >= _SAY_EVERY:
                said = time.monotonic()
                console.print(
                    f"{summary.events:,} events, {summary.events / summary.elapsed:,.0f} a second, "
                    f"{summary.dropped.total():,} dropped, late by "
                    f"{pacer.lateness.percentile(50) / 1000:.1f} ms (median)"
                )
        return summary.report(pacer)


def _connect(path: Path) -> Outlet:
    outlet = Outlet(path)
    error = outlet.connect()
    if error is not None:
        raise NoReceiverError(
            error.errno, f"nobody listens on {path} ({error.strerror}): start the receiver first"
        )
    return outlet


def _open(path: Path, stack: ExitStack) -> BinaryIO:
    if path == STDOUT:
        return sys.stdout.buffer
    return stack.enter_context(path.open("wb"))


def _watch(done: Iterator[Batch], scenario: Scenario, summary: Summary, console: Console) -> None:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("simulating", total=scenario.span)
        said = 0.0
        for batch in done:
            if time.monotonic() - said >= 0.2:
                said = time.monotonic()
                progress.update(
                    task,
                    completed=(int(batch.due[-1]) - scenario.start) / SECOND,
                    description=f"{summary.events:,} events, "
                    f"{summary.events / summary.elapsed:,.0f} a second",
                )
