"""What a run did, in numbers."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from devnet.simulator.journal import KINDS, Batch
from devnet.simulator.pacer import Pacer
from devnet.simulator.scenario import Scenario
from tbg_core.periods import SECOND


class Summary:
    """Counts what was written or sent.

    ``dropped`` counts by reason what the receiver did not take; ``waited`` is how many seconds
    were spent waiting for it.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._began = time.monotonic()
        self._counts = [0] * len(KINDS)
        self._instances: Counter[str] = Counter()
        self._first = self._last = 0
        self._bytes = 0
        self.waited = 0.0
        self.dropped: Counter[str] = Counter()

    def add(self, batch: Batch, dropped: Sequence[int] = ()) -> None:
        """Counts the events of a batch that went out: all but those in the places ``dropped``."""
        if not len(batch):
            return
        for kind in range(len(KINDS)):
            self._counts[kind] += batch.kinds.count(kind)
        for place in dropped:
            self._counts[batch.kinds[place]] -= 1
        self._instances[batch.instance] += len(batch) - len(dropped)
        self._first = self._first or int(batch.due[0])
        self._last = int(batch.due[-1])
        self._bytes += len(batch.body)

    @property
    def events(self) -> int:
        """Events that went out."""
        return sum(self._counts)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def report(self, pacer: Pacer | None = None) -> dict[str, Any]:
        """Everything as JSON types. Durations in seconds unless the name says otherwise."""
        elapsed = self.elapsed
        report: dict[str, Any] = {
            "instances": dict(self._instances),
            "seed": self._scenario.seed,
            "miners": self._scenario.miners,
            "shares_per_minute": self._scenario.shares_per_minute,
            "start": self._scenario.start,
            "simulated_seconds": (self._last - self._first) / SECOND,
            "events": self.events,
            "by_type": dict(zip(KINDS, self._counts, strict=True)),
            "dropped": dict(self.dropped),
            "bytes": self._bytes,
            "elapsed_seconds": round(elapsed, 3),
            "waited_seconds": round(self.waited, 3),
            "events_per_second": round(self.events / elapsed, 1) if elapsed else 0.0,
        }
        if pacer is not None:
            report["asked_events_per_second"] = self._scenario.rate
            report["lateness_us"] = pacer.lateness.summary()
            report["burst_events"] = pacer.bursts.summary()
        return report


def summary_table(report: dict[str, Any]) -> Table:
    """A report of ``Summary`` for people."""
    table = Table(title=f"simulator-{report['seed']}: {report['events']:,} events")
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("per second", justify="right")
    seconds = report["elapsed_seconds"] or 1.0
    for kind, count in report["by_type"].items():
        table.add_row(kind, f"{count:,}", f"{count / seconds:,.1f}")
    table.add_section()
    table.add_row("all", f"{report['events']:,}", f"{report['events_per_second']:,.1f}")
    table.add_row("engine boots", f"{len(report['instances']):,}", "")
    for reason, count in report["dropped"].items():
        table.add_row(f"dropped: {reason}", f"{count:,}", f"{count / seconds:,.1f}")
    if "lateness_us" in report:
        late, burst = report["lateness_us"], report["burst_events"]
        table.add_section()
        table.add_row(
            "late by", f"{late['p50'] / 1000:.2f} / {late['p99'] / 1000:.2f} / "
            f"{late['max'] / 1000:.2f} ms", "p50 / p99 / max"
        )  # fmt: skip
        table.add_row("events in a burst", f"{burst['p50']} / {burst['p99']} / {burst['max']}", "")
    return table
