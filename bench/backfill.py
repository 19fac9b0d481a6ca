"""A backfill of weeks of history by the real Dagster, twice, with checksums.

Starts PostgreSQL, Valkey, dagster-webserver and dagster-daemon in a temporary folder,
writes a history, launches one backfill of hours, days and weeks through GraphQL, as the UI does,
waits for the daemon to run them, and does it all again: every table must be the same.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import psycopg
import redis
from rich.console import Console
from rich.table import Table

from bench.checksum import TABLES, checksum
from bench.dagster_instance import Dagster, dagster
from bench.figures import Report
from bench.history import write
from tbg.migrate import migrate
from tbg.stack.embedded import EmbeddedPostgres, EmbeddedValkey, free_port, new_password
from tbg_core.names import WEEKLY_RESET_STREAM

ASSETS: Final = (
    "shares_hourly",
    "shares_daily",
    "worker_stats_daily",
    "weekly_best_diff",
    "weekly_leaderboard",
)


@click.command("backfill")
@click.option("--weeks", default=8, show_default=True, help="Closed weeks of history.")
@click.option("--shares", default=2_000_000, show_default=True, help="In all of them.")
@click.option("--workers", default=200, show_default=True, help="Four to a user.")
@click.option("--limit", default=1800.0, show_default=True, help="Seconds for each backfill.")
@click.option("--once", is_flag=True, help="Not a second time for the same result.")
@click.option("--hold", is_flag=True, help="Leave the UI up afterwards, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def main(
    weeks: int, shares: int, workers: int, limit: float, once: bool, hold: bool, as_json: bool
) -> None:
    """Backfill weeks of history through Dagster's GraphQL and daemon, twice.

    \b
    Examples:
      python -m bench.backfill
      python -m bench.backfill --weeks 1 --shares 50000 --hold
    """
    console = Console(stderr=True)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = today - timedelta(days=today.weekday())
    start = end - timedelta(weeks=weeks)
    with (
        _servers() as (database_url, storage_url, redis_url),
        tempfile.TemporaryDirectory() as home,
    ):
        migrate(database_url)
        write(database_url, start, weeks * 7, shares, workers, console.print)
        environment = {
            "DAGSTER_PG_URL": storage_url,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "BITCOIN_RPC_URL": "http://127.0.0.1:1",
            "TBG_FIRST_WEEK": f"{start:%Y-%m-%d}",
        }
        with dagster(Path(home) / "dagster", free_port(), environment) as running:
            console.print(f"the UI is at {running.url}")
            running.stop_automation()
            with running.daemon():
                rounds = [
                    _round(running, database_url, start, end, limit, console)
                    for _ in range(1 if once else 2)
                ]
                sql_seconds = _sql_seconds(database_url, start, end)
                with redis.Redis.from_url(redis_url) as client:
                    messages = client.xlen(WEEKLY_RESET_STREAM)
                same = rounds[0]["tables"] == rounds[-1]["tables"] and messages == weeks
                if as_json:
                    click.echo(
                        json.dumps(
                            {
                                "rounds": rounds,
                                "same": same,
                                "messages": messages,
                                "sql_seconds": sql_seconds,
                            }
                        )
                    )
                else:
                    _print(rounds, messages)
                if hold:
                    console.print(f"{running.url} stays up until Ctrl-C")
                    with contextlib.suppress(KeyboardInterrupt):
                        while True:
                            time.sleep(1)
    if not same:
        raise click.ClickException("the second round gave something else than the first")


def measure(report: Report, weeks: int) -> None:
    """Adds the speed of a backfill to a report; no weeks leave it out."""
    if not weeks:
        report.left_out.append("backfill: about three minutes, only without --quick")
        return
    # In a process of its own, because Dagster and its settings are of a process.
    done = subprocess.run(  # noqa: S603  our own module
        [sys.executable, "-m", "bench.backfill", "--weeks", str(weeks), "--shares", "250000",
         "--once", "--json"],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    first = found["rounds"][0]
    report.add(
        "batch",
        "backfill of hours, days and weeks",
        first["partitions"] / first["seconds"],
        "partitions/s",
        limit=first["partitions"] / found["sql_seconds"],
        limit_is="the SQL of the hours alone",
        note=f"{first['partitions']} partitions in {first['seconds']:.0f} s: {_shares(first)}",
    )


def _shares(figures: dict[str, Any]) -> str:
    """Where the time of a round went."""
    return (
        f"{figures['runs']} runs; {figures['before']:.0f} s until the first began, "
        f"{figures['running']:.0f} s with a run under way, {figures['idle']:.0f} s between runs, "
        f"{figures['after']:.0f} s until Dagster saw the end"
    )


def _sql_seconds(database_url: str, start: datetime, end: datetime) -> float:
    """What the hours cost the database alone."""
    begun = time.monotonic()
    with psycopg.connect(database_url, autocommit=True) as connection:
        moment = start
        while moment < end:
            connection.execute(
                "select rebuild_shares_hourly(%s, %s)", [moment, moment + timedelta(hours=1)]
            )
            moment += timedelta(hours=1)
    return time.monotonic() - begun


def _round(
    running: Dagster,
    database_url: str,
    start: datetime,
    end: datetime,
    limit: float,
    console: Console,
) -> dict[str, Any]:
    """Backfills everything once; returns the figures and the checksums."""
    hours = int((end - start) / timedelta(hours=1))
    keys = [f"{start + timedelta(hours=number):%Y-%m-%d-%H:%M}" for number in range(hours)]
    began = time.time()
    backfill = running.launch_backfill(ASSETS, keys)
    running.wait_for_backfill(backfill, limit)
    ended = time.time()
    runs = running.runs_of_backfill(backfill)
    figures = {
        "partitions": hours + hours // 24 + hours // 168,
        "seconds": ended - began,
        "runs": len(runs),
        "before": runs[0][0] - began,
        "running": (busy := _covered(runs)),
        "idle": max(run[1] for run in runs) - runs[0][0] - busy,
        "after": ended - max(run[1] for run in runs),
        "tables": {table: checksum(database_url, table) for table in TABLES},
    }
    console.print(
        f"{figures['partitions']:,} partitions in {ended - began:.1f} s: {_shares(figures)}"
    )
    return figures


def _covered(spans: list[tuple[float, float]]) -> float:
    """How long at least one of the spans lasted."""
    covered, reached = 0.0, spans[0][0]
    for begin, end in sorted(spans):
        covered += max(end - max(begin, reached), 0.0)
        reached = max(reached, end)
    return covered


def _print(rounds: list[dict[str, Any]], messages: int) -> None:
    console = Console()
    for figures in rounds:
        console.print(
            f"{figures['partitions']:,} partitions in {figures['seconds']:.1f} s: "
            f"{_shares(figures)}"
        )
    tables = Table("table", "rows", "checksum", "again")
    for table, (rows, md5) in rounds[0]["tables"].items():
        same = rounds[-1]["tables"][table] == (rows, md5)
        tables.add_row(table, f"{rows:,}", md5[:16], "the same" if same else "DIFFERENT")
    console.print(tables)
    console.print(f"{messages} messages in {WEEKLY_RESET_STREAM}")


@contextlib.contextmanager
def _servers() -> Iterator[tuple[str, str, str]]:
    """URLs of the data's database, of Dagster's, and of Redis."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)  # noqa: S103  # PostgreSQL runs as another user if we are root
        postgres = EmbeddedPostgres(Path(folder) / "postgres", free_port(), new_password())
        postgres.start()
        stack.callback(postgres.stop)
        valkey = EmbeddedValkey(Path(folder) / "valkey", free_port(), new_password())
        valkey.start()
        stack.callback(valkey.stop)
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("create database mining")
            connection.execute("create database dagster")
        base = postgres.url.rpartition("/")[0]
        yield f"{base}/mining", f"{base}/dagster", valkey.url


if __name__ == "__main__":
    main()
