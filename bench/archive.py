"""Weeks of shares archived, dropped, restored and computed again, with checksums.

Starts PostgreSQL in a temporary folder, writes a history, and computes hours, days and
weeks. Then every day goes to the archive and out of the database, the rollups are emptied,
every day comes back, and everything is computed again: each table must be the same, and
so must each day's file, written once more from what came back.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import psycopg
from psycopg.rows import dict_row
from rich.console import Console

from bench.checksum import TABLES, checksum
from bench.history import write
from tbg.migrate import migrate
from tbg.stack.embedded import EmbeddedPostgres, free_port, new_password
from tbg_dagster.archive.day import archive, restore
from tbg_dagster.archive.retention import drop_archived
from tbg_dagster.archive.store import Store
from tbg_dagster.partitions import DAY, WEEK
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import rollup_of
from tbg_dagster.weekly.week import finalise

COMPARED = [name for name in TABLES if name not in ("worker_stats_daily", "weekly_publications")]


@click.command("archive")
@click.option("--weeks", default=13, show_default=True, help="Closed weeks of history.")
@click.option("--shares", default=1_000_000, show_default=True, help="In all of them.")
@click.option("--workers", default=200, show_default=True, help="Four to a user.")
def main(weeks: int, shares: int, workers: int) -> None:
    """Archive, drop, restore and recompute weeks of shares; fail if a checksum changes.

    \b
    Examples:
      python -m bench.archive
      python -m bench.archive --weeks 52 --shares 2000000
    """
    console = Console(highlight=False)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = today - timedelta(days=today.weekday())
    start = end - weeks * WEEK
    days = [(start + number * DAY).date() for number in range(weeks * 7)]
    with _server() as (url, folder):
        migrate(url)
        write(url, start, len(days), shares, workers, console.print)
        store = Store.open(str(folder / "archive"))
        with psycopg.connect(
            url, autocommit=True, row_factory=dict_row, options="-c timezone=UTC"
        ) as connection:
            rollup = rollup_of(connection)
            with _step(console, "hours, days and weeks computed"):
                _compute(connection, start, weeks)
            before = {name: checksum(url, name) for name in COMPARED}
            size = _size(connection)
            with _step(console, f"{len(days)} days archived"):
                for day in days:
                    archive(connection, store, day)
            first = [store.manifest(day) for day in days]
            with _step(console, f"{len(days)} days verified and dropped"):
                dropped, held = drop_archived(connection, rollup, store, days)
            assert not held, held
            assert dropped == days
            connection.execute("truncate shares_hourly, shares_daily")
            with _step(console, f"{len(days)} days restored"):
                rows = sum(restore(connection, store, day).shares for day in days)
            with _step(console, "hours, days and weeks computed again"):
                _compute(connection, start, weeks)
            after = {name: checksum(url, name) for name in COMPARED}
            second = Store.open(str(folder / "again"))
            with _step(console, f"{len(days)} days archived once more"):
                for day in days:
                    archive(connection, second, day)
        again = [second.manifest(day) for day in days]
    found = [manifest for manifest in first if manifest is not None]
    count = sum(manifest.shares.rows for manifest in found)
    archived = sum(manifest.shares.bytes for manifest in found)
    console.print(
        f"{count:,} shares archived, {rows:,} restored; {archived / count:.1f} bytes a share in "
        f"the archive, {size / count:.0f} in the database with indexes"
    )
    for name in COMPARED:
        same = "the same" if before[name] == after[name] else "DIFFERENT"
        console.print(f"{name}: {before[name][0]:,} rows, {before[name][1]}, {same}")
    equal = [one and one.shares for one in first] == [one and one.shares for one in again]
    console.print(f"files written once more: {'the same' if equal else 'DIFFERENT'}")
    if before != after or not equal or rows != count:
        raise click.ClickException("what came back gives something else than before")


def _compute(connection: Connection, start: datetime, weeks: int) -> None:
    rollup = rollup_of(connection)
    end = start + weeks * WEEK
    rollup.refresh_hours(connection, start, end)
    rollup.refresh_days(connection, start, end)
    for number in range(weeks):
        finalise(connection, (start + number * WEEK).date())


def _size(connection: Connection) -> int:
    row = connection.execute(
        "select sum(pg_total_relation_size(inhrelid))::bigint as bytes from pg_inherits "
        "where inhparent = 'shares'::regclass"
    ).fetchone()
    assert row is not None
    return int(row["bytes"])


@contextmanager
def _step(console: Console, said: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    console.print(f"{said} in {time.monotonic() - begun:.1f} s")


@contextmanager
def _server() -> Iterator[tuple[str, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="tbg-archive-"))
    os.chmod(folder, 0o755)  # noqa: S103  # PostgreSQL runs as another user where we are root
    postgres = EmbeddedPostgres(folder / "postgres", free_port(), new_password())
    try:
        postgres.start()
        yield postgres.url, folder
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
