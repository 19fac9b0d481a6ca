"""``tbg doctor``: looks at everything that must be right, and says what to do."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, LiteralString

import click
import psycopg
import redis
from rich import box
from rich.table import Table

from tbg import machine, outputs
from tbg.machine import Finding
from tbg.migrate import MigrateError, missing_migrations
from tbg.options import json_option
from tbg.servers import Urls, connect, find_urls
from tbg.snapshot import stream_lags
from tbg.stack.clock import TOLERANCE, wrong_clock
from tbg.stack.ports import HOST, PROBE_SECONDS
from tbg.stack.rest import rests
from tbg.stack.state import Stack, State, state_option
from tbg.status import dagster_troubles, node_trouble, programs_of
from tbg.terminal import terminal
from tbg_core import redis_server
from tbg_core.database import examine, without_password
from tbg_core.database_url import DatabaseError
from tbg_core.flavour import flavour_of
from tbg_core.redis_server import About
from tbg_core.wording import counted, printable

Connection = psycopg.Connection[Any]
COLOURS: Final = {"good": "green", "warning": "yellow", "bad": "red", "unknown": "dim"}
NEARLY_FULL: Final = 0.9  # of maxmemory
MOST_LAG: Final = 60.0  # seconds that the oldest event may wait for the writer
_BOOKS: Final[LiteralString] = """
select
    (select coalesce(sum(unexplained), 0)::bigint from ledger_hours) as unexplained,
    (select count(*) from engine_endings where ending = 'unknown') as ends,
    (select count(*) from dead_letters where replayed_at is null) as letters
"""


@click.command("doctor")
@state_option
@json_option
def command(state_path: Path, as_json: bool) -> None:
    """Look at everything that must be right, and say what to do.

    Clock, disk, limits, ports and Python of this machine; the database and Redis that
    DATABASE_URL and REDIS_URL name, or those of the state folder's stack; its programs;
    the books. It changes nothing, and works while nothing runs.

    Exits 0 if nothing must be done, 1 if something must.

    \b
    Examples:
      tbg doctor
      tbg doctor --json | jq '.findings[] | select(.state == "bad")'
    """
    state = State(state_path)
    console = terminal(stderr=as_json)
    with console.status("looking"):
        findings = list(look(state))
    healthy = all(one.state != "bad" for one in findings)
    if as_json:
        outputs.show(outputs.Diagnosis, {"healthy": healthy, "findings": findings})
    else:
        _show(findings)
    if not healthy:
        raise SystemExit(1)


def look(state: State) -> Iterator[Finding]:
    """Looks at the machine, at the programs of a stack that runs, and at the servers."""
    running = state.holder() is not None
    yield from machine.look(state.path, running=running)
    stack = state.read_stack()
    if running and stack is not None:
        yield from _programs(state, stack)
    named = [name for name in ("DATABASE_URL", "REDIS_URL") if os.environ.get(name)]
    if not running and len(named) < 2:
        text = state.never_started if stack is None else f"the stack of {state.path} is stopped"
        left = "DATABASE_URL and REDIS_URL" if not named else f"the other one beside {named[0]}"
        yield Finding("servers", "unknown", text.partition(":")[0], f"run tbg up, or set {left}")
        return
    try:
        urls = find_urls(state)
    except click.ClickException as error:
        yield Finding("servers", "bad", error.message, "set the URL right")
        return
    yield from _servers(urls)


def _programs(state: State, stack: Stack) -> Iterator[Finding]:
    programs = programs_of(state)
    ended = [one.name for one in programs.values() if not (one.running or rests(stack, one))]
    if ended:
        logs = ", ".join(str(state.log_of(name)) for name in ended)
        yield Finding("programs", "bad", f"not running: {', '.join(ended)}", f"read {logs}")
    else:
        yield Finding("programs", "good", f"{counted(len(programs), 'program')} running")
    ports = {"receiver": stack.receiver_metrics_port, "writer": stack.writer_metrics_port}
    for name, port in ports.items():
        if name in programs:
            yield _ready(name, port, state)
    for trouble in dagster_troubles(state, programs) or []:
        yield Finding("Dagster", "bad", trouble, f"read {state.log_of('daemon')}")
    trouble_of_node = node_trouble(state)
    if trouble_of_node is not None:
        yield Finding("node", "bad", trouble_of_node, "start it, or look at its log")


def _ready(name: str, port: int, state: State) -> Finding:
    try:
        with urllib.request.urlopen(
            f"http://{HOST}:{port}/readyz", timeout=PROBE_SECONDS
        ) as answer:
            return Finding(name, "good", printable(answer.read(1000).decode().strip()))
    except urllib.error.HTTPError as error:
        text = printable(error.read(1000).decode(errors="replace").strip())
    except OSError as error:
        text = f"does not answer on port {port}: {error}"
    return Finding(name, "bad", text, f"read {state.log_of(name)}")


def _servers(urls: Urls) -> Iterator[Finding]:
    lag = False
    try:
        server = examine(urls.database)
        with connect(urls.database) as database:
            pooled = ", behind a pooler in session mode" if server.pooled else ""
            yield Finding("database", "good", f"PostgreSQL {server.version}{pooled}")
            schema = _schema(database)
            yield schema
            yield from _clock(urls, database)
            lag = schema.state == "good"
            if lag:
                yield from _books(database)
    except (DatabaseError, click.ClickException) as error:
        text, _, action = str(error).rpartition(": ")
        yield Finding("database", "bad", text or action, action)
    with closing(redis.Redis.from_url(urls.redis, socket_timeout=10, retry=None)) as client:
        try:
            yield from _redis(client)
            if lag:
                with connect(urls.database) as database:
                    yield _lag(database, client)
        except (redis.RedisError, OSError) as error:
            place = without_password(urls.redis)
            text, _, action = redis_server.explain(error).partition(": ")
            yield Finding(
                "Redis",
                "bad",
                f"{place}: {text}",
                action or "start it, or set REDIS_URL right",
            )
        except click.ClickException as error:
            yield Finding("lag", "unknown", error.message)


def _schema(database: Connection) -> Finding:
    flavour = flavour_of(database)
    if flavour is None:
        return Finding("schema", "bad", "there is none", "run tbg migrate")
    try:
        missing = missing_migrations(database, flavour)
    except MigrateError as error:
        return Finding("schema", "unknown", error.message)
    if missing:
        text = f"{flavour}; {counted(len(missing), 'migration')} missing, from {missing[0]} on"
        return Finding("schema", "bad", text, "run tbg migrate")
    return Finding("schema", "good", f"up to date, flavour {flavour}")


def _clock(urls: Urls, database: Connection) -> Iterator[Finding]:
    before = datetime.now(UTC)
    row = database.execute("select clock_timestamp()").fetchone()
    theirs: datetime = row[0] if row else before
    # The answer lies between; what is outside of that is skew.
    late = max(before - theirs, theirs - datetime.now(UTC))
    if late > TOLERANCE:
        yield Finding(
            "clock of the database",
            "bad",
            f"{late.total_seconds():,.0f} s from this machine's",
            "set both by a time server",
        )
    try:
        wrong = wrong_clock(urls.database, datetime.now(UTC))
    except click.ClickException:
        return  # there is no schema yet
    if wrong is not None:
        yield Finding("clock", "bad", wrong, "set it by a time server")


def _books(database: Connection) -> Iterator[Finding]:
    row = database.execute(_BOOKS).fetchone()
    unexplained, ends, letters = row or (0, 0, 0)
    if unexplained:
        yield Finding(
            "books",
            "bad",
            f"{counted(unexplained, 'event is', 'events are')} missing without explanation",
            "tbg ledger names them; tbg ledger --audit --repair looks for them in the streams",
        )
    else:
        yield Finding("books", "good", "no unexplained loss")
    if ends:
        yield Finding(
            "ends of boots",
            "warning",
            f"the end of {counted(ends, 'engine boot')} is unknown: more may be lost than is known",
            "tbg ledger names them (docs/guarantees.md, The end of a boot)",
        )
    if letters:
        yield Finding(
            "dead letters",
            "warning",
            counted(letters, "dead letter"),
            "tbg dead-letters list; replay what can be stored now",
        )


def _redis(client: "redis.Redis") -> Iterator[Finding]:
    try:
        info: Any = client.info()
    except redis.ResponseError as error:
        yield Finding(
            "Redis", "unknown", redis_server.explain(error), "give the right to INFO to look at it"
        )
        return
    about = About.read(info)
    why = redis_server.refusal(about, os.environ.get("CELL", ""))
    shown = f"{about.product} {about.version}"
    if why is not None:
        text, _, action = why.partition(": ")
        yield Finding("Redis", "bad", f"{shown}: {text}", action)
    else:
        kept = {True: ", append-only file", False: "", None: ""}[about.append_only]
        yield Finding("Redis", "good", f"{shown}{kept}, {about.policy}")
    for trouble in redis_server.warnings(about):
        yield Finding("Redis", "bad", trouble.what, trouble.action)
    if about.evicted:
        yield Finding(
            "Redis",
            "bad",
            f"{counted(about.evicted, 'key')} evicted since its start: events may be lost",
            "set maxmemory-policy noeviction, and look at tbg ledger",
        )
    used = int(info.get("used_memory", 0))
    if about.limit and used > NEARLY_FULL * about.limit:
        yield Finding(
            "Redis",
            "bad",
            f"{used / about.limit:.0%} of maxmemory is used",
            "raise maxmemory, or lower STREAM_KEEP",
        )


def _lag(database: Connection, client: "redis.Redis") -> Finding:
    lags = stream_lags(database, client)
    entries = sum(lag.entries for lag in lags.values())
    oldest = max(lag.seconds for lag in lags.values())
    text = f"{counted(entries, 'event waits', 'events wait')} for the writer"
    if entries and oldest > MOST_LAG:
        return Finding(
            "lag",
            "bad",
            f"{text}, the oldest for {oldest:,.0f} s",
            "look at the writer: its /readyz and log say why",
        )
    return Finding("lag", "good", text)


def _show(findings: list[Finding]) -> None:
    console = terminal()
    table = Table("", "what", "found", "do", box=box.SIMPLE_HEAD)
    for column in table.columns:
        column.overflow = "fold"  # a path that is cut cannot be copied
    for one in findings:
        table.add_row(
            f"[{COLOURS[one.state]}]{one.state}[/]",
            *(printable(text).replace("[", r"\[") for text in (one.about, one.text, one.action)),
        )
    console.print(table)
    bad = sum(one.state == "bad" for one in findings)
    console.print(
        f"{counted(bad, 'thing')} must be done" if bad else "nothing must be done",
    )
