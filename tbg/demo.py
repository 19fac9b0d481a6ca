"""``tbg demo``: two tidy weeks of a simulated fleet in the stack that runs."""

import shlex
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import click

from devnet.simulator.plan import Wishes, plan_history
from devnet.simulator.run import NoReceiverError, run_history
from tbg.servers import connect
from tbg.simulate import running
from tbg.stack.state import Stack, State, state_option
from tbg.terminal import Terminal, terminal
from tbg_core.periods import from_micros
from tbg_core.wording import counted

WEEKS: Final = 2
MINERS: Final = 60
SHARES: Final = 60_000
# Simulated blocks are on no chain, so a node can say nothing of them: the devnet finds real ones.
NO_BLOCKS: Final = 1e12  # seconds between two
LOOK_SECONDS: Final = 2.0


class Winner(NamedTuple):
    """Who won the last of the weeks."""

    user: str
    worker: str


@click.command("demo")
@state_option
def command(state_path: Path) -> None:
    """Send two weeks of a simulated fleet, and wait until Dagster has computed them.

    Sixty machines, and 60,000 shares of the two weeks before this one. Sent again, they are
    recognised and not stored twice. Ctrl-C ends the waiting; Dagster goes on.

    \b
    Examples:
      tbg demo
      tbg demo --state /tmp/second
    """
    state = State(state_path)
    stack = running(state)
    console = terminal()
    scenario = plan_history(
        Wishes(miners=MINERS, block_every=NO_BLOCKS, tidy=True),
        now=time.time_ns() // 1000,
        span=WEEKS * timedelta(weeks=1).total_seconds(),
        start=None,
        shares=SHARES,
    )
    try:
        report = run_history(
            scenario, Path(stack.socket_path), lambda: False, console, to_file=False
        )
    except NoReceiverError as error:
        raise click.ClickException(str(error.strerror)) from error
    first = from_micros(scenario.start)
    console.print(
        f"sent {counted(report['by_type']['share_submitted'], 'share')} of {MINERS} machines, from "
        f"{first:%F} on; they say that they are simulated"
    )
    if stack.dagster_url is None:
        console.print("without Dagster (--no-dagster) nothing computes their hours and weeks")
        return
    winner = _wait(stack.database_url, first, lambda: state.holder() is not None, console)
    week = f"{first + timedelta(weeks=WEEKS - 1):%G-W%V}"
    console.print(_places(stack, winner, week, state.option), markup=False, soft_wrap=True)


def _wait(database: str, first: datetime, up: Callable[[], bool], console: Terminal) -> Winner:
    """Returns once every hour and week is computed, and has receipts; says how far it is."""
    last = first + timedelta(weeks=WEEKS)
    span = {"first": first, "last": last, "day": first.date(), "end": last.date()}
    began, said = time.monotonic(), ""
    with connect(database) as connection:
        while True:
            [(hours, weeks, receipts)] = connection.execute(
                "select (select count(distinct bucket) from shares_hourly "
                "        where bucket >= %(first)s and bucket < %(last)s), "
                "(select count(distinct week_start) from weekly_publications "
                "        where week_start >= %(day)s and week_start < %(end)s), "
                "(select count(distinct hour) from receipt_trees "
                "        where hour >= %(first)s and hour < %(last)s)",
                span,
            )
            all_hours = WEEKS * 168
            text = f"computed: hours {hours}/{all_hours}, weeks {weeks}/{WEEKS}, "
            text += f"receipts {receipts}/{all_hours}"
            if text != said:
                said = text
                console.print(f"[dim]{datetime.now():%H:%M:%S}[/] {text}")
            if weeks >= WEEKS and receipts >= hours:
                break
            if not up():
                raise click.ClickException(
                    "the stack was stopped: Dagster computes the rest after the next tbg up"
                )
            time.sleep(LOOK_SECONDS)
        [winner] = connection.execute(
            "select u.btc_address, coalesce(k.worker_name, '') from weekly_best_diff w "
            "join users u on u.id = w.user_id left join workers k on k.id = w.best_worker_id "
            "where w.week_start < %(end)s and w.rank = 1 order by w.week_start desc limit 1",
            span,
        )
    console.print(f"done in {time.monotonic() - began:.0f} s. What to look at:")
    return Winner(*winner)


def _places(stack: Stack, winner: Winner, week: str, option: str) -> str:
    ui, api = stack.dagster_url, stack.api_url
    found = [
        f"  leaderboard   {ui}/assets/weekly_leaderboard",
        f"  winners       {ui}/assets/weekly_best_diff",
        f"  share ledger  {ui}/assets/share_ledger",
    ]
    if api is not None:
        worker = f"{winner.user}/workers/{quote(winner.worker, safe='')}"
        found.append(f"  a worker      {api}/v1/users/{worker}")
    receipt = f"tbg receipt --user {shlex.quote(winner.user)} --week {week}{option}"
    return "\n".join([*found, f"  its receipt   {receipt}"])
