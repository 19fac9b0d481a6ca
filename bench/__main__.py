"""``python -m bench``: every figure beside its limit, measured in the same run."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench import alone, backfill, batch, cells, serve, whole
from bench.figures import Report
from bench.stack import Servers, servers

Step = Callable[[Report, Servers], None]


def steps(quick: bool, batch_scale: float = 0.1) -> dict[str, Step]:
    """What is measured, in order; later steps look at earlier figures."""
    many = 50_000 if quick else 300_000
    seconds = 5 if quick else 60
    workers = [10, 10_000] if quick else [10, 1_000, 100_000, 1_000_000]
    return {
        "receive": lambda r, s: alone.receive(r, s, many),
        "decode": lambda r, _: alone.decoding(r, many),
        "xadd": lambda r, s: alone.publish(r, s, many),
        "receiver": lambda r, s: alone.receiver(r, s, many),
        "copy": lambda r, s: alone.copy(r, s, many),
        "writer": lambda r, s: alone.writer(r, s, many),
        "end to end": lambda r, s: whole.end_to_end(r, s, 3 * many),
        "three engines": lambda r, s: whole.three_engines(r, s, many),
        "cells": lambda r, s: cells.measure(r, s, many),
        "latency at 1,000/s": lambda r, s: whole.paced(r, s, 1_000, seconds),
        "latency at 10,000/s": lambda r, s: whole.paced(r, s, 10_000, seconds),
        "queue lengths": lambda r, s: whole.queue_lengths(
            r, s, seconds, 20_000 if quick else 100_000
        ),
        "scale": lambda r, s: whole.scale(r, s, 20_000 if quick else 100_000, workers),
        "batch": lambda r, s: batch.measure(r, s, 0.01 if quick else batch_scale),
        "backfill": lambda r, _: backfill.measure(r, weeks=0 if quick else 1),
        "large pool": lambda r, s: serve.large_pool(r, s, 5_000 if quick else 250_000, 10_000),
        "requests": lambda r, s: serve.beside(r, s, 1_000, 10_000, seconds),
    }


NAMES: Final = tuple(steps(True))


@click.command()
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write every figure there."
)
@click.option("--quick", is_flag=True, help="Fewer events: under two minutes on a quiet machine.")
@click.option(
    "--only", "chosen", multiple=True, type=click.Choice(NAMES),
    help="Measure this alone, and what it is compared with; may be repeated.",
)  # fmt: skip
@click.option(
    "--batch-scale", default=0.1, show_default=True,
    help="Of 10 million shares of 40,000 workers in two weeks.",
)  # fmt: skip
def main(json_file: Path | None, quick: bool, chosen: tuple[str, ...], batch_scale: float) -> None:
    """Measure every stage beside what this machine does at best of the same work.

    Starts its own PostgreSQL and Valkey in a temporary folder and removes them. The
    longest disk use is about 5 GB, a tenth of it with --quick. TBG_TEST_DATABASE_URL names
    another server, such as a TimescaleDB, in which databases are made and dropped.

    \b
    Examples:
      python -m bench --quick
      python -m bench --json figures.json
      python -m bench --only decode --only xadd
      python -m bench --only batch --batch-scale 1
    """
    console = Console(width=None if sys.stdout.isatty() else 170)
    progress = Console(stderr=True)
    report = Report(quick)
    try:
        with servers() as made:
            report.database = made.version()
            for name, step in steps(quick, batch_scale).items():
                if chosen and name not in chosen:
                    continue
                begun = time.monotonic()
                progress.print(f"{name} ...", end=" ")
                step(report, made)
                progress.print(f"{time.monotonic() - begun:.0f} s")
    finally:  # figures measured so far are shown even if the rest failed
        report.show(console)
        if json_file is not None:
            json_file.write_text(report.as_json())


if __name__ == "__main__":
    main()
