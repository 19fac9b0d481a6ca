"""``tbg up``: the whole stack on one machine, until Ctrl-C."""

import os
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from devnet.bitcoin.address import decode_address, encode_address
from tbg.batch import DAEMON
from tbg.ending import Ending
from tbg.flow import Flow
from tbg.health import problems
from tbg.node import Node
from tbg.ports import Ports
from tbg.programs import StackOptions, StackPlan
from tbg.stack import Interrupted, RunningStack
from tbg.state import DEFAULT_STATE, State, state_option

WATCH_SECONDS: Final = 1.0


def port_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """One option per port of a stack."""
    for entry in reversed(fields(Ports)):
        function = click.option(
            f"--{entry.name.replace('_', '-')}",
            type=click.IntRange(1, 65535),
            default=entry.default,
            show_default=True,
        )(function)
    return function


@click.command("up")
@state_option
@click.option(
    "--host",
    "stratum_host",
    default="127.0.0.1",
    show_default=True,
    help="Address for Stratum; 0.0.0.0 admits miners of your network.",
)
@port_options
@click.option(
    "--node-url",
    metavar="URL",
    help="RPC of your own bitcoind, on regtest or signet, instead of our node.",
)
@click.option(
    "--node-cookie",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Cookie file of that node; see above for the other ways to log in.",
)
@click.option("--miner-user", metavar="ADDRESS", help="Whom the CPU miner mines for.")
@click.option("--free-ports", is_flag=True, help="Choose free ports for everything.")
@click.option("--no-miner", is_flag=True, help="Without the CPU miner: bring your own.")
@click.option("--no-pool", is_flag=True, help="Without pool and miner: bring your own engine.")
@click.option("--no-dagster", is_flag=True, help="Without the batch side and its UI.")
@click.option("--no-node", is_flag=True, help="Without node, pool and miner: the data side alone.")
@click.option(
    "--miner-processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="CPU miners.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=0.2),
    default=5.0,
    show_default=True,
    help="Seconds between two lines about what flows.",
)
@click.option("--verbose", is_flag=True, help="Log every event (the logs' level is DEBUG).")
def command(
    state_path: Path,
    stratum_host: str,
    free_ports: bool,
    no_miner: bool,
    no_pool: bool,
    no_node: bool,
    no_dagster: bool,
    node_url: str | None,
    node_cookie: Path | None,
    miner_user: str | None,
    miner_processes: int,
    every: float,
    verbose: bool,
    **ports: int,
) -> None:
    """Start everything, and show what flows until Ctrl-C.

    PostgreSQL, Valkey, a regtest node, receiver, writer, a Stratum pool, a CPU miner
    and Dagster, all on 127.0.0.1. DATABASE_URL and REDIS_URL, if set, name servers to
    use instead of ours, and DAGSTER_PG_URL a database for Dagster. The data stays in
    the state folder, and the next start goes on from it.

    --node-url names your own bitcoind, on regtest or signet. It logs in by
    --node-cookie, or by BITCOIN_RPC_USER and BITCOIN_RPC_PASSWORD, or by the cookie
    file that BITCOIN_RPC_COOKIE_FILE names. A node on mainnet is refused.

    \b
    Examples:
      tbg up
      tbg up --host 0.0.0.0 --no-miner     # and point a Bitaxe at this machine
      tbg up --state /tmp/second --free-ports
      tbg up --node-url http://127.0.0.1:18443 --node-cookie ~/.bitcoin/regtest/.cookie
    """
    foreign = None
    if node_cookie is not None and node_url is None:
        raise click.UsageError("--node-cookie needs --node-url")
    if node_url is not None:
        if no_node:
            raise click.UsageError("--node-url and --no-node exclude each other")
        foreign, throwaway = _foreign_node(node_url, node_cookie)
        miner_user = miner_user or throwaway
    options = StackOptions(
        ports=Ports.free() if free_ports else Ports(**ports),
        stratum_host=stratum_host,
        node=not no_node,
        foreign_node=foreign,
        pool=not (no_pool or no_node),
        miner=not (no_miner or no_pool or no_node),
        dagster=not no_dagster,
        miner_processes=miner_processes,
        miner_user=miner_user,
        verbose=verbose,
    )
    state = State(state_path)
    ending = Ending()
    ending.install()
    console = Console(highlight=False)
    with state.hold():
        _run(StackPlan(state, options), console, ending, every)


def _foreign_node(url: str, cookie: Path | None) -> tuple[Node, str]:
    """Returns the node that the user runs, and an address on its network for the miner.

    Raises:
        click.ClickException: when it does not answer, or is not on a test network.
    """
    # Imported here: without node and pool, the extra devnet need not be there.
    from devnet.miner.cli import throwaway_user

    node = Node.named(url, cookie, os.environ)
    address, _, worker = throwaway_user().partition(".")  # on regtest
    there = encode_address(decode_address(address).script_pubkey, node.network())
    return node, f"{there}.{worker}"


def _run(plan: StackPlan, console: Console, ending: Ending, every: float) -> None:
    def say(text: str) -> None:
        try:
            console.print(f"[dim]{datetime.now():%H:%M:%S}[/] ", end="")
            console.print(text, markup=False, soft_wrap=True)
        except OSError:
            # The terminal is gone: shut down in order.
            ending.asked.set()

    stack = RunningStack(plan, say, ending.asked.is_set)
    try:
        try:
            stack.start()
            console.print(table(plan))
            console.print(_next_steps(plan), markup=False, soft_wrap=True)
            _watch(stack, plan, say, ending, every)
        except Interrupted:
            pass
        finally:
            ending.asked.set()
            stack.stop()
    except KeyboardInterrupt:
        say("asked twice: ending everything at once")
        stack.kill()
        raise click.exceptions.Exit(130) from None
    say(f"stopped; the data stays in {plan.state.path}")


def _watch(
    stack: RunningStack,
    plan: StackPlan,
    say: Callable[[str], None],
    ending: Ending,
    every: float,
) -> None:
    elapsed = 0.0
    pause = min(WATCH_SECONDS, every)
    with Flow(plan.database_url, plan.redis_url) as flow:
        while not ending.asked.wait(pause):
            for news in stack.watch():
                say(news)
            elapsed += pause
            if elapsed >= every:
                elapsed = 0.0
                say(" · ".join([flow.line(), *_dagster(stack, plan)]))


def _dagster(stack: RunningStack, plan: StackPlan) -> list[str]:
    """Says what is wrong with Dagster; empty if it is healthy or left out."""
    daemon = stack.seen(DAEMON)
    if plan.dagster_database_url is None or daemon is None:
        return []
    found = problems(plan.dagster_database_url, daemon)
    return [f"Dagster is sick: {'; '.join(found)}"] if found else []


def table(plan: StackPlan) -> Table:
    """What runs where; without any password."""
    found = Table("program", "what", "where")
    for program in plan.programs:
        found.add_row(program.name, program.title, program.where)
    return found


def _next_steps(plan: StackPlan) -> str:
    lines = []
    if plan.stratum_url:
        lines.append(f"point a miner at {plan.stratum_url}, user <address>.<name>, any password")
        if plan.options.stratum_host == "127.0.0.1":
            lines.append("  (only from this machine; --host 0.0.0.0 opens it to your network)")
    else:
        lines.append(f"point an engine's events at {plan.socket_path}")
    if plan.dagster_url:
        lines.append(f"rollups, weekly reset, checks, backfills: {plan.dagster_url}")
    option = "" if plan.state.path == DEFAULT_STATE.resolve() else f" --state {plan.state.path}"
    lines.append(f'for a shell: eval "$(tbg env{option})"; the state of things: tbg status{option}')
    lines.append(f"logs: {plan.state.logs}/<program>.log; Ctrl-C stops everything, the data stays")
    return "\n".join(lines)
