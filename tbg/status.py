"""``tbg status``: what runs, what arrived last, what waits and what is lost."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click
import redis
from rich.table import Table

from tbg import outputs
from tbg.options import json_option
from tbg.servers import connect, find_urls
from tbg.snapshot import MOST_COUNTED, Snapshot, take
from tbg.stack.dagster import DAEMON, problems
from tbg.stack.node import Node
from tbg.stack.rest import rests
from tbg.stack.state import State, state_option
from tbg.stack.supervisor import BROKEN, Process, Supervisor
from tbg.terminal import terminal
from tbg_core.database import without_password
from tbg_core.disk import disk_trouble
from tbg_core.primary import connect_redis
from tbg_core.wording import printable


@click.command("status")
@state_option
@json_option
def command(state_path: Path, as_json: bool) -> None:
    """Show what runs, the last events, lag, counts, dead letters and gaps.

    Asks the database and Redis that DATABASE_URL and REDIS_URL name, or those of the
    state folder's stack. A number that a stream still holds is on the way; missing is
    only what is neither there nor in the database.

    \b
    Examples:
      tbg status
      tbg status --json | jq .missing
    """
    state = State(state_path)
    urls = find_urls(state)
    try:
        with (
            connect(urls.database) as database,
            connect_redis(urls.redis) as client,
        ):
            found = take(database, client)
    except (click.ClickException, redis.RedisError) as error:
        if not os.environ.get("DATABASE_URL") and state.holder() is None:
            raise click.ClickException(
                f"the stack of {state.path} is stopped: run tbg up"
            ) from error
        if isinstance(error, click.ClickException):
            raise
        place = without_password(urls.redis)
        raise click.ClickException(f"Redis at {place} does not answer: {error}") from error
    programs = programs_of(state)
    sick = dagster_troubles(state, programs)
    machine = _machine(state) if programs else []
    if as_json:
        outputs.show(
            outputs.Status,
            {
                "programs": programs,
                "dagster": None if sick is None else {"problems": sick},
                "machine": {"problems": machine},
                **vars(found),
            },
        )
    else:
        _show(found, programs, sick, machine)


def programs_of(state: State) -> dict[str, Process]:
    """The programs of a stack that runs, by name; empty if it does not."""
    try:
        return Supervisor(state).processes()
    except BROKEN:
        return {}


def dagster_troubles(state: State, programs: dict[str, Process]) -> list[str] | None:
    """What is wrong with Dagster; None if it is not part of a running stack."""
    stack = state.read_stack()
    if stack is None or stack.dagster_database_url is None or DAEMON not in programs:
        return None
    if rests(stack, programs[DAEMON]):
        return []
    return problems(stack.dagster_database_url, programs[DAEMON])


def _machine(state: State) -> list[str]:
    """What is wrong with the node and the disk of a running stack."""
    return [trouble for trouble in (disk_trouble(state.path), node_trouble(state)) if trouble]


def node_trouble(state: State) -> str | None:
    """What is wrong with the node of a stack, or None."""
    stack = state.read_stack()
    if stack is None or not stack.rpc.get("BITCOIN_RPC_URL"):
        return None
    return Node.named(stack.rpc["BITCOIN_RPC_URL"], None, stack.rpc).trouble()


def _show(
    found: Snapshot, programs: dict[str, Process], sick: list[str] | None, machine: list[str]
) -> None:
    console = terminal()
    if programs:
        running = Table("program", "state", "process", "for")
        for process in programs.values():
            pid = str(process.pid or "")
            shown = "running" if process.running else process.state.lower()
            running.add_row(process.name, shown, pid, _span(process.uptime))
        console.print(running)
    else:
        console.print("no stack of this folder is running")
    if sick is not None:
        console.print("Dagster is sick:" if sick else "Dagster is well")
        for problem in sick:
            console.print(f"  {problem}", markup=False)
    for problem in machine:
        console.print(problem, markup=False)
    events = Table("event", "last", "minute", "hour", "in stream", "lag", "oldest")
    for name, one in found.events.items():
        now = datetime.now(UTC)
        last = f"{_span((now - one.last).total_seconds())} ago" if one.last else "–"
        lag = f"≥ {MOST_COUNTED:,}" if one.lag.entries == MOST_COUNTED else f"{one.lag.entries:,}"
        oldest = f"{one.lag.seconds:.1f} s" if one.lag.entries else "–"
        row = (last, f"{one.minute:,}", f"{one.hour:,}", f"{one.in_stream:,}", lag, oldest)
        events.add_row(name, *row)
    console.print(events)
    console.print(
        f"shares: {found.accepted_minute:,} accepted and {found.rejected_minute:,} rejected in the "
        f"last minute, {found.accepted_hour:,} and {found.rejected_hour:,} in the last hour"
    )
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in found.dead_letter_reasons.items())
    console.print(
        f"dead letters: {found.dead_letters:,}, of the last hour {found.dead_letters_hour:,}"
        + (f" ({reasons})" if reasons else ""),
        markup=False,
    )
    console.print(
        f"missing by sequence: {found.missing:,}; on the way: {found.on_the_way:,}; "
        f"duplicates: {found.duplicates:,}"
    )
    for name, cell in found.cells.items() if any(found.cells) else ():
        ago = _span((datetime.now(UTC) - cell.committed).total_seconds())
        place = "" if cell.reached else "; its streams are in another Redis"
        console.print(
            f"cell {name or '(no name)'}: committed {ago} ago, {cell.behind:.1f} s behind{place}",
            markup=False,
        )
    for instance, missing in found.instances_with_gaps.items():
        console.print(f"  {printable(instance)}: {missing:,} missing", markup=False)
    for channel in found.failing_channels:
        word = "refuses messages" if channel.permanent else "takes no messages"
        console.print(
            f"alerts: {channel.route} ({printable(channel.target)}) {word} since {channel.since}: "
            f"{printable(channel.answer)}; {channel.waiting:,} waiting",
            markup=False,
        )


def _span(seconds: float) -> str:
    """Shows a duration roughly: 42 s, 7 min, 3 h, 5 d."""
    for limit, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * limit:
            return f"{seconds / limit:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
