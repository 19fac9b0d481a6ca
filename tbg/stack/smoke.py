"""``tbg smoke``: proves on this machine that every event reaches every store."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click
import redis
from rich.table import Table

from tbg import outputs
from tbg.options import json_option
from tbg.servers import connect
from tbg.snapshot import Connection, stream_lags, take
from tbg.stack.counts import (
    ACCEPTED,
    REJECTED,
    CommitWatch,
    Hops,
    Latency,
    emitted,
    published,
    stored,
    stored_numbers,
)
from tbg.stack.ports import Ports
from tbg.stack.programs import StackOptions, StackPlan
from tbg.stack.running import Interrupted, RunningStack, Say
from tbg.stack.state import State
from tbg.stack.stopping import Ending
from tbg.terminal import Terminal, terminal
from tbg_core.wording import counted

WANTED: Final = {ACCEPTED: 10, REJECTED: 1, "block_found": 1}
DRAIN_SECONDS: Final = 30.0
# So easy that within seconds, on a slow core too, come a block (every two million
# hashes), and shares enough that the pool changes the difficulty.
POOL_ARGUMENTS: Final = (
    *("--block-difficulty", "0.0005"),
    *("--start-difficulty", "0.00002"),
    *("--hashrate-interval", "5"),
)


@dataclass(frozen=True)
class Result:
    """What a smoke test saw."""

    hops: Hops
    blocks: int
    to_redis: Latency
    to_database: Latency
    seconds: float

    def problems(self) -> list[str]:
        """Says what is wrong; empty if everything agrees."""
        found = self.hops.differences()
        stored = self.hops.database
        found += [
            f"{kind}: {stored[kind]} stored, at least {least} expected"
            for kind, least in WANTED.items()
            if stored[kind] < least
        ]
        if self.blocks != stored["block_found"]:
            found.append(
                f"blocks: {counted(self.blocks, 'row')} for {stored['block_found']} block_found events"
            )
        timed = self.to_database.shares
        if timed != stored[ACCEPTED] + stored[REJECTED]:
            found.append(
                f"only {counted(timed, 'share was', 'shares were')} seen while they were committed"
            )
        return found


@click.command("smoke")
@json_option
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=15.0,
    show_default=True,
    help="Seconds to mine for, at least.",
)
@click.option(
    "--limit",
    type=click.FloatRange(5, 3600),
    default=90.0,
    show_default=True,
    help="Give up if shares and block are not there by then.",
)
@click.option("--keep", is_flag=True, help="Keep the temporary folder with data and logs.")
def command(as_json: bool, seconds: float, limit: float, keep: bool) -> None:
    """Run a whole stack in a temporary folder and compare what each hop counted.

    Mines on free ports with servers of its own until at least 10 accepted shares,
    one rejected share and one block are in every store. Then counts each kind of
    event at the pool, in Redis and in the database, and times every share. Exits 0
    when all counts agree, and else says which hop differs.

    \b
    Examples:
      tbg smoke
      tbg smoke --seconds 60 --json
    """
    console = terminal(stderr=as_json)
    folder = Path(tempfile.mkdtemp(prefix="tbg-smoke-"))
    state = State(folder / "state")
    good = False
    try:
        with state.hold():
            result = run(state, seconds, limit, lambda text: console.print(text, markup=False))
        problems = result.problems()
        if as_json:
            outputs.show(outputs.Smoke, _document(result, problems))
        else:
            _show(console, result)
        for problem in problems:
            click.echo(f"differs: {problem}", err=True)
        good = not problems
    finally:
        shutil.rmtree(state.runtime, ignore_errors=True)
        if good and not keep:
            shutil.rmtree(folder)
        else:
            click.echo(f"data and logs are in {state.path}", err=True)
    sys.exit(0 if good else 1)


def run(state: State, seconds: float, limit: float, say: Say) -> Result:
    """Runs the stack, lets it mine, stops the engines, waits for the rest, and counts.

    Raises:
        click.ClickException: when the stack does not run or brings too little in time.
    """
    began = time.monotonic()
    options = StackOptions(
        Ports.free(),
        dagster=False,
        verbose=True,
        log_format="json",
        pool_arguments=POOL_ARGUMENTS,
        miner_arguments=("--send-bad-share", "--max-hashrate", "0", "--nice", "0"),
    )
    # Its own servers, regardless of the environment: the counts start at zero.
    plan = StackPlan(state, options, {})
    ending = Ending()
    ending.install()
    stack = RunningStack(plan, say, ending.asked.is_set)
    watch = CommitWatch(plan.database_url)
    with contextlib.ExitStack() as exits:
        exits.callback(stack.stop)
        try:
            # Nothing may be committed unwatched.
            stack.start(before={"pool": lambda: exits.enter_context(watch)})
            database = exits.enter_context(connect(plan.database_url))
            client = exits.enter_context(redis.Redis.from_url(plan.redis_url))
            say("mining")
            _mine(stack, database, ending, seconds, limit)
        except Interrupted:
            raise click.ClickException("interrupted") from None
        for name in ("miner", "pool", "node"):
            stack.stop_program(name)
        said, sent = emitted(state.log_of("pool"))
        _drain(database, client, watch, said)
        counts, to_redis = published(client)
        snapshot = take(database, client)
        rows = stored_numbers(database)
        faults = {
            "dead letters": snapshot.dead_letters,
            "missing by sequence": snapshot.missing,
            "duplicates": snapshot.duplicates,
            "numbers that are nowhere": len(sent - rows.keys()),
            "rows beyond the first of their number": rows.total() - len(rows),
        }
        [(blocks,)] = database.execute("select count(*) from blocks")
        return Result(
            Hops(said, counts, stored(database), faults),
            blocks,
            Latency.of(to_redis),
            Latency.of(watch.latencies()),
            time.monotonic() - began,
        )


def _mine(
    stack: RunningStack, database: Connection, ending: Ending, seconds: float, limit: float
) -> None:
    """Waits until enough was stored, and for ``seconds`` at least."""
    began = time.monotonic()
    while True:
        if ending.asked.wait(0.5):
            raise Interrupted
        for news in stack.watch():
            raise click.ClickException(news)
        found = stored(database)
        elapsed = time.monotonic() - began
        if elapsed > seconds and all(found[kind] >= least for kind, least in WANTED.items()):
            return
        if elapsed > limit:
            raise click.ClickException(
                f"not enough within {limit:.0f} s: stored are {dict(found)}, wanted {WANTED}"
            )


def _drain(
    database: Connection, client: "redis.Redis", watch: CommitWatch, said: Counter[str]
) -> None:
    """Waits until the engines' last events are committed and counted.

    Only until the deadline: the comparison reports what is missing then.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        waiting = sum(lag.entries for lag in stream_lags(database, client).values())
        watched = watch.shares == said[ACCEPTED] + said[REJECTED]
        if not waiting and watched and stored(database).total() == said.total():
            return
        time.sleep(0.1)


def _document(result: Result, problems: list[str]) -> dict[str, Any]:
    hops = result.hops
    return {
        "ok": not problems,
        "problems": problems,
        "seconds": round(result.seconds, 1),
        "events": {
            kind: dict(zip(("emitted", "redis", "database"), counts, strict=True))
            for kind, counts in hops.rows()
        },
        "blocks": result.blocks,
        **hops.faults,
        "latency_ms": {
            "redis": asdict(result.to_redis),
            "database": asdict(result.to_database),
        },
    }


def _show(console: Terminal, result: Result) -> None:
    hops = result.hops
    counts = Table("event", "emitted", "in Redis", "in database", "")
    for kind, row in hops.rows():
        counts.add_row(kind, *map(str, row), "agree" if len(set(row)) == 1 else "DIFFER")
    console.print(counts)
    times = Table("milliseconds from the pool", "shares", "median", "p99", "longest")
    for name, one in (("to Redis", result.to_redis), ("to the database", result.to_database)):
        shown = (f"{value:.1f}" for value in (one.median, one.p99, one.longest))
        times.add_row(name, str(one.shares), *shown)
    console.print(times)
    faults = ", ".join(f"{what} {count}" for what, count in hops.faults.items())
    console.print(f"blocks {result.blocks}; {faults}; {result.seconds:.0f} s in all")
