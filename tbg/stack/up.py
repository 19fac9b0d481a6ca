"""``tbg up``: the whole stack on one machine, until Ctrl-C."""

import contextlib
import errno
import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import psycopg
from rich import box
from rich.table import Table

from devnet.bitcoin.address import Network, decode_address, encode_address
from tbg.stack.dagster import CODE_SERVER, DAEMON, problems
from tbg.stack.flow import Flow
from tbg.stack.node import Node
from tbg.stack.ports import Ports
from tbg.stack.programs import StackOptions, StackPlan
from tbg.stack.rest import Rest
from tbg.stack.running import Interrupted, RunningStack
from tbg.stack.state import State, state_option
from tbg.stack.stopping import Ending
from tbg.terminal import Terminal, terminal
from tbg_core.disk import disk_trouble

WATCH_SECONDS: Final = 1.0
FIRST_WEEK_SECONDS: Final = 5.0  # between two looks for shares before the first partition


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
@click.option(
    "--serve-host",
    default="127.0.0.1",
    show_default=True,
    help="Address for the HTTP interface of miners' tools; it has no password.",
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
@click.option(
    "--pool-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Configuration file of our pool: proxies, TLS, limits (devnet/pool/README.md).",
)
@click.option("--trust-clock", is_flag=True, help="Start though the clock cannot be right.")
@click.option("--free-ports", is_flag=True, help="Choose free ports for everything.")
@click.option("--no-miner", is_flag=True, help="Without the CPU miner: bring your own.")
@click.option("--no-pool", is_flag=True, help="Without pool and miner: bring your own engine.")
@click.option("--no-serve", is_flag=True, help="Without the HTTP interface for miners' tools.")
@click.option("--no-dagster", is_flag=True, help="Without the batch side and its UI.")
@click.option(
    "--light",
    is_flag=True,
    help="For small machines: without Dagster's UI and the CPU miner; the batch side works "
    "around the full hour and rests in between.",
)
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
    serve_host: str,
    free_ports: bool,
    no_miner: bool,
    no_pool: bool,
    no_node: bool,
    no_dagster: bool,
    no_serve: bool,
    light: bool,
    node_url: str | None,
    node_cookie: Path | None,
    miner_user: str | None,
    pool_config: Path | None,
    trust_clock: bool,
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
      tbg up --light                       # on a Raspberry Pi
      tbg up --state /tmp/second --free-ports
      tbg up --node-url http://127.0.0.1:18443 --node-cookie ~/.bitcoin/regtest/.cookie
    """
    foreign, network = None, Network.REGTEST
    if node_cookie is not None and node_url is None:
        raise click.UsageError("--node-cookie needs --node-url")
    if node_url is not None:
        if no_node:
            raise click.UsageError("--node-url and --no-node exclude each other")
        foreign, throwaway = _foreign_node(node_url, node_cookie)
        network = foreign.network()
        miner_user = miner_user or throwaway
    if miner_user is not None:
        _check_miner(miner_user, network)
    options = StackOptions(
        ports=Ports.free() if free_ports else Ports(**ports),
        stratum_host=stratum_host,
        serve_host=serve_host,
        node=not no_node,
        foreign_node=foreign,
        pool=not (no_pool or no_node),
        miner=not (no_miner or no_pool or no_node or light),
        dagster=not no_dagster,
        light=light,
        serve=not no_serve and importlib.util.find_spec("fastapi") is not None,
        miner_processes=miner_processes,
        miner_user=miner_user,
        pool_config=pool_config,
        trust_clock=trust_clock,
        verbose=verbose,
    )
    state = State(state_path)
    ending = Ending()
    ending.install()
    console = terminal()
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


def _check_miner(user: str, network: Network) -> None:
    """Makes sure that the pool will pay the miner's address, before anything is started."""
    from devnet.pool.identity import IdentityError, identify

    try:
        identify(user, network)
    except IdentityError as error:
        raise click.UsageError(f"--miner-user {user}: {error}") from None


def _run(plan: StackPlan, console: Terminal, ending: Ending, every: float) -> None:
    def say(text: str) -> None:
        try:
            console.print(f"[dim]{datetime.now():%H:%M:%S}[/] ", end="")
            console.print(text, markup=False, soft_wrap=True)
        except OSError as error:
            # What a full disk does not take is said later, or never. Without its terminal, it
            # shuts down in order.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                ending.asked.set()
        if console.quiet:
            ending.asked.set()

    line = _Line(plan, say, every)
    stack = RunningStack(plan, say, ending.asked.is_set, line.look)
    for name, url in plan.elsewhere.items():
        say(f"{name} is set: using {url} instead of a server of our own")
    try:
        try:
            stack.start()
            console.print(table(plan))
            console.print(_next_steps(plan), markup=False, soft_wrap=True)
            _watch(stack, line, say, ending, min(WATCH_SECONDS, every))
        except Interrupted:
            pass
        finally:
            ending.asked.set()
            line.close()
            stack.stop()
    except KeyboardInterrupt:
        say("asked twice: ending everything at once")
        stack.kill()
        raise click.exceptions.Exit(130) from None
    say(f"stopped; the data stays in {plan.state.path}")


class _Line:
    """The line about what flows, every few seconds, from the moment that the pool is there."""

    def __init__(self, plan: StackPlan, say: Callable[[str], None], every: float) -> None:
        self._plan = plan
        self._say = say
        self._every = every
        self._flow: Flow | None = None
        self._said = time.monotonic()
        self._node_well = self._said  # when the node answered last

    def look(self, stack: RunningStack | None = None) -> None:
        """Says the line if it is time."""
        now = time.monotonic()
        if now - self._said < self._every:
            return
        self._said = now
        if self._flow is None:
            self._flow = Flow(self._plan.database_url, self._plan.redis_url)
        line = self._flow.line()
        for news in self._flow.news():
            self._say(news)
        parts = [line, disk_trouble(self._plan.state.path)]
        if stack is not None or self._plan.options.foreign_node is not None:
            parts.append(self._node())  # our own may not have been started yet
        if stack is not None:
            parts.append(_dagster(stack, self._plan))
        self._say(" · ".join(filter(None, parts)))

    def _node(self) -> str | None:
        """What is wrong with the node, and for how long."""
        node = self._plan.node
        found = node.trouble() if node is not None else None
        now = time.monotonic()
        if found is None:
            self._node_well = now
            return None
        return f"{found} ({now - self._node_well:.0f} s)"

    def close(self) -> None:
        if self._flow is not None:
            self._flow.close()


def _watch(
    stack: RunningStack, line: _Line, say: Callable[[str], None], ending: Ending, pause: float
) -> None:
    looked = time.monotonic()
    rest = None
    if stack.plan.resting and stack.plan.dagster_database_url is not None:
        rest = Rest(stack, stack.plan.dagster_database_url, say)
    while not ending.asked.wait(pause):
        for news in stack.watch():
            say(news)
        line.look(stack)
        if time.monotonic() - looked >= FIRST_WEEK_SECONDS:
            _reach_back(stack, say)
            if rest is not None:
                rest.look()
            looked = time.monotonic()


def _reach_back(stack: RunningStack, say: Callable[[str], None]) -> None:
    """Lets Dagster's partitions begin with the oldest shares, once older ones have come in."""
    first = stack.plan.first_week
    if first is None or stack.seen(CODE_SERVER) is None or stack.seen(DAEMON) is None:
        return
    # The line says that the database is away; the next look finds the same.
    with contextlib.suppress(psycopg.Error):
        if first.moved() is None:
            return
        # A run that leaves the queue while the code server ends would fail.
        stack.stop_program(DAEMON)
        try:
            if week := first.moved():
                say(
                    f"there are shares from the week of {week} on: Dagster's partitions begin there"
                )
                stack.stop_program(CODE_SERVER)
                stack.begin(CODE_SERVER)
        finally:
            stack.begin(DAEMON)


def _dagster(stack: RunningStack, plan: StackPlan) -> str | None:
    """What is wrong with Dagster; None if it is healthy or left out."""
    daemon = stack.seen(DAEMON)
    if plan.dagster_database_url is None or daemon is None:
        return None
    found = problems(plan.dagster_database_url, daemon)
    return f"Dagster is sick: {'; '.join(found)}" if found else None


def table(plan: StackPlan) -> Table:
    """What runs where; without any password."""
    found = Table("program", "what", box=box.SIMPLE_HEAD, pad_edge=False)
    # Whole, on 80 columns too: it is there to be copied.
    found.add_column("where", no_wrap=True)
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
    if plan.api_url:
        lines.append(f"for miners' tools: {plan.api_url}/docs (docs/api.md)")
    if plan.dagster_url:
        lines.append(f"rollups, weekly reset, checks, backfills: {plan.dagster_url}")
    option = plan.state.option
    lines.append(f'for a shell: eval "$(tbg env{option})"; the state of things: tbg status{option}')
    lines.append(f"logs: {plan.state.logs}/<program>.log; Ctrl-C stops everything, the data stays")
    return "\n".join(lines)
