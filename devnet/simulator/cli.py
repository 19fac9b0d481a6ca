"""The command ``tbg devnet simulate``."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from devnet.simulator.plan import Wishes, plan_history, plan_live
from devnet.simulator.run import STDOUT, NoReceiverError, run_history, run_live
from devnet.simulator.summary import summary_table
from tbg_core.periods import SECOND
from tbg_core.signals import STOP


@click.command(
    "simulate",
    context_settings={"show_default": True},
    epilog="""
    \b
    Examples:
      tbg devnet simulate --socket events.sock --miners 500
      tbg devnet simulate --socket events.sock --rate 10000 --duration 60 --json
      tbg devnet simulate --socket events.sock --weeks 8 --shares 2000000
      tbg devnet simulate --output - --hours 1 --miners 20
    """,
)
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    envvar="SOCKET_PATH",
    show_envvar=True,
    help="Send to the receiver's datagram socket.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Write history as JSON lines to this file, or - for the standard output.",
)
@click.option(
    "--miners",
    type=click.IntRange(1, 10_000_000),
    help="Machines in the fleet.  [default: 1000; with --rate alone, what gives that rate]",
)
@click.option("--seed", type=click.IntRange(0), default=Wishes().seed, help="Who mines.")
@click.option(
    "--shares-per-minute",
    type=click.FloatRange(0, 1e6, min_open=True),
    help="What vardiff aims at for each machine.  [default: 18, or what --shares or --rate ask for]",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1e7, min_open=True),
    help="Live: events per second, evenly spaced. Without it they come as they happen.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    help="Live: seconds.  [default: until interrupted]",
)
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=1.0,
    help="Live: seconds after which an event that the receiver does not take is dropped. "
    "0 behaves like an engine without a queue.",
)
@click.option(
    "--settled/--arriving",
    default=None,
    help="Live: whether the fleet is connected already, with bests from before, or arrives with "
    "the first events.  [default: settled with --rate]",
)
@click.option(
    "--weeks", type=click.FloatRange(0), default=0.0, show_default=False, help="History: weeks."
)
@click.option(
    "--days",
    type=click.FloatRange(0),
    default=0.0,
    show_default=False,
    help="History: days, added to that.",
)
@click.option(
    "--hours",
    type=click.FloatRange(0),
    default=0.0,
    show_default=False,
    help="History: hours, added as well.",
)
@click.option(
    "--shares",
    type=click.IntRange(1),
    help="History: shares to expect in all (Poisson, so about that many).",
)
@click.option(
    "--start",
    type=click.DateTime(),
    help="History: its beginning, UTC.  [default: so that it ends with last week, "
    "Monday 00:00 UTC]",
)
@click.option(
    "--hashrate-every",
    type=click.FloatRange(0),
    help="Seconds between hashrate updates of a worker; 0 for none.  "
    "[default: live 60, history 21600]",
)
@click.option(
    "--block-every",
    type=click.FloatRange(0, min_open=True),
    help="Mean seconds between blocks that the fleet finds.  "
    "[default: live 600, history a twentieth of the span]",
)
@click.option(
    "--rejects",
    type=click.FloatRange(0, 1),
    default=Wishes().rejects,
    help="Fraction of the shares that are rejected.",
)
@click.option(
    "--diurnal",
    type=click.FloatRange(0, 1),
    default=Wishes().diurnal,
    help="Fraction by which hashrates swing over a day.",
)
@click.option(
    "--tidy",
    is_flag=True,
    help="Nothing goes wrong: the engine never restarts, its clock is right, and no machine "
    "falls silent or leaves for good.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the summary as JSON (to the standard error when events go to the output).",
)
def simulate_command(
    socket_path: Path | None,
    output: Path | None,
    rate: float | None,
    duration: float | None,
    patience: float,
    settled: bool | None,
    weeks: float,
    days: float,
    hours: float,
    shares: int | None,
    start: datetime | None,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Simulate a fleet of miners that sends all eight events.

    The fleet is as untidy as the world: machines from 60 kH/s to 200 TH/s under one address, some
    without a name, some with names that break careless code; connections come and go, machines
    fall silent or leave for good, the engine restarts, and its clock steps.

    Live into the socket, at the fleet's own pace or at a chosen rate; or, with --weeks, --days or
    --hours, as back-dated history, as fast as the receiver takes it and without losing any. Every
    event says "source": "simulated". The same seed, start and fleet give the same bytes.
    """
    span = weeks * 7 * 86_400 + days * 86_400 + hours * 3600
    _check_mode(
        {"--rate": rate, "--duration": duration, "--settled": settled},
        {"--shares": shares, "--start": start, "--output": output},
        history=span > 0,
    )
    target = output or socket_path
    if target is None:
        raise click.UsageError("say where events go: --socket, or --output for history")
    try:
        if span:
            scenario = plan_history(
                Wishes(**wishes),
                now=time.time_ns() // 1000,
                span=span,
                start=None if start is None else _to_stamp(start),
                shares=shares,
            )
        else:
            scenario = plan_live(Wishes(**wishes), duration=duration, settled=settled, rate=rate)
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    console = Console(stderr=True)
    try:
        with _until_signal() as stopped:
            if span:
                report = run_history(scenario, target, stopped, console, to_file=output is not None)
            else:
                report = run_live(scenario, target, patience, stopped, console)
    except NoReceiverError as error:
        raise click.ClickException(str(error.strerror)) from error
    except BrokenPipeError:
        raise  # click ends quietly when the reader of the output closes it
    except OSError as error:
        raise click.ClickException(f"{target}: {error.strerror}") from error
    if as_json:
        click.echo(json.dumps(report), err=output == STDOUT)
    else:
        console.print(summary_table(report))


@contextmanager
def _until_signal() -> Iterator[Callable[[], bool]]:
    """Yields a check for SIGINT or SIGTERM, which end the run with its summary."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in STOP}
    try:
        yield stop.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_mode(live: dict[str, object], past: dict[str, object], *, history: bool) -> None:
    """Refuses options that belong to the other mode instead of ignoring them."""
    strange = [name for name, value in (live if history else past).items() if value is not None]
    if strange and history:
        raise click.UsageError(
            f"{' and '.join(strange)} belong to live traffic, not to history "
            "(--weeks, --days, --hours)"
        )
    if strange:
        raise click.UsageError(
            f"{' and '.join(strange)} need a span of history: add --weeks, --days or --hours"
        )


def _to_stamp(moment: datetime) -> int:
    """Microseconds since the epoch; a moment without a time zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp()) * SECOND
