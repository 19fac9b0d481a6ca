"""What each batch job costs beside the bare statement: hours, days, and the weekly reset.

Two weeks of shares from workers of equal size, two to a user, so that most hours of most
workers have a row: the case in which rollups help least.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console

from bench.figures import Report
from bench.stack import Servers, servers
from tbg_core.flavour import flavour_of
from tbg_core.names import week_start
from tbg_core.periods import midnight
from tbg_dagster.partitions import DAY, HOUR, WEEK
from tbg_dagster.resources import Database, Thresholds
from tbg_dagster.resources.database import Connection
from tbg_dagster.rollup import rollup_of
from tbg_dagster.weekly import checks
from tbg_dagster.weekly.week import finalise

PART: Final = "batch"
SHARES: Final = 10_000_000
WORKERS: Final = 40_000

_DAY: Final = """
insert into shares (time, user_id, worker_id, difficulty, share_diff, is_valid, reject_reason,
                    instance_id, seq, nonce, nonce2, share_hash, job_id, ip_address, source)
select
    %(day)s::timestamptz + n * interval '1 day' / %(shares)s, 1 + (w - 1) / 2, w, d,
    d / (1 - random()), n %% 83 <> 0, case when n %% 83 = 0 then 'stale' end,
    1, %(first)s + n, '1234', '12345678', sha256(convert_to(%(day)s::text || n, 'UTF8')),
    'bench', '127.0.0.1', 'simulated'
from (
    select n, w, 256 * (1 + w %% 64) as d
    from (
        select n, 1 + (random() * (%(workers)s - 1))::integer as w
        from generate_series(0, %(shares)s - 1) as n
    ) picked
) judged
"""

CHANGE: Final = """
update shares s
set difficulty = s.difficulty + 1
from generate_series(%(start)s::timestamptz, %(end)s::timestamptz - interval '1 hour', '1 hour') h
cross join lateral (
    select time, worker_id, seq from shares
    where time >= h and time < h + interval '1 hour' and is_valid
    order by time, seq
    limit 1
) f
where s.time = f.time and s.worker_id = f.worker_id and s.seq = f.seq
  and s.time >= %(start)s and s.time < %(end)s
"""


def measure(report: Report, made: Servers, scale: float) -> None:
    """Adds every job; a restart empties the server's own cache, though not the system's."""
    url = made.database()
    shares, workers = int(SHARES * scale), max(int(WORKERS * scale), 2)
    monday = week_start(datetime.now(UTC)) - 2 * WEEK
    start = midnight(monday)
    database = Database(url=url)
    with database.connect() as connection:
        write(connection, start, shares, workers)
        rollup = rollup_of(connection)
        flavour = rollup.name
        half, end = start + WEEK, start + 2 * WEEK

        def add(what: str, seconds: float, note: str = "", **limit: Any) -> None:
            report.add(
                PART, f"{what}, {flavour}", seconds, "s", note=note or f"{shares:,} shares", **limit
            )

        def bare_hours() -> None:
            rollup.refresh_hours(connection, start, half)

        def bare_days() -> None:
            rollup.refresh_days(connection, start, end)

        # Once before it counts: the job replaces rows, and so must what it is held against.
        rollup.refresh_hours(connection, start, end)
        _change(connection, start, half)
        bare = timed(bare_hours)
        _change(connection, start, half)
        add(
            "hourly rollup of 168 hours, its asset and check",
            timed(lambda: run(url, "hourly_rollup", start, half - HOUR, "%Y-%m-%d-%H:%M")),
            limit=bare,
            limit_is="the bare refresh",
        )
        bare_days()
        _change(connection, start, end)
        rollup.refresh_hours(connection, start, end)
        bare = timed(bare_days)
        _change(connection, start, end)
        rollup.refresh_hours(connection, start, end)
        add(
            "daily rollup of 14 days, its assets and check",
            timed(lambda: run(url, "daily_rollup", start, end - DAY, "%Y-%m-%d")),
            limit=bare,
            limit_is="the bare refresh",
        )
        _analyze(connection)
        raw = timed(
            lambda: connection.execute(
                "select user_id, max(share_diff), count(*), sum(difficulty::numeric) from shares "
                "where time >= %s and time < %s and is_valid group by user_id",
                [half, end],
            ).fetchall()
        )
    made.restart()
    with database.connect() as connection:
        week = monday + WEEK
        once = timed(lambda: finalise(connection, week))
        add(
            "weekly result after a restart of the server",
            once,
            limit=raw,
            limit_is="the bare aggregate of its raw shares",
        )
        # As at the reset: the last day has no statistics yet.
        connection.execute("delete from worker_stats_daily where day = %s", [week + 6 * DAY])
        add("the same, five minutes after the week", timed(lambda: finalise(connection, week)))
        add("its check", timed(lambda: checks.weeks_equal_hours(database)))
        _days(connection, half, range(14, 21), shares // 14, workers)
        rollup.refresh_hours(connection, half, end)
        run(url, "daily_rollup", half, end - DAY, "%Y-%m-%d")
        _analyze(connection)
        add(
            "weekly result of twice the shares",
            timed(lambda: finalise(connection, week)),
            limit=once,
            limit_is="with half the shares in the same hours",
        )


def write(connection: Connection, start: datetime, shares: int, workers: int) -> None:
    """Two weeks of shares."""
    if flavour_of(connection) == "postgresql":
        connection.execute(
            "select ensure_partitions(%s, %s)", [start.date(), (start + 2 * WEEK).date()]
        )
    connection.execute("select setseed(0.42)")
    connection.execute(
        "insert into users (btc_address) select 'bench' || n from generate_series(1, %s) n",
        [(workers + 1) // 2],
    )
    connection.execute(
        "insert into workers (user_id, worker_name) "
        "select 1 + (n - 1) / 2, 'rig' || n from generate_series(1, %s) n",
        [workers],
    )
    _days(connection, start, range(14), shares // 14, workers)
    _analyze(connection)


def _days(
    connection: Connection, start: datetime, numbers: range, shares: int, workers: int
) -> None:
    """So many days of shares from ``start`` on; the numbers make their sequence numbers."""
    for day, number in enumerate(numbers):
        connection.execute(
            _DAY,
            {
                "day": start + day * DAY,
                "first": number * shares,
                "shares": shares,
                "workers": workers,
            },
        )


def _change(connection: Connection, start: datetime, end: datetime) -> None:
    """Changes a share of every hour: TimescaleDB's refresh leaves alone what did not change."""
    connection.execute(CHANGE, {"start": start, "end": end})
    _analyze(connection)


def _analyze(connection: Connection) -> None:
    connection.execute("vacuum analyze")
    connection.execute("checkpoint")


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def run(url: str, job: str, first: datetime, last: datetime, key: str) -> None:
    """Runs a job of the code location over a range of partitions, in this process."""
    import dagster as dg  # seconds, which other steps need not wait for

    from tbg_dagster.definitions import defs

    definitions = dg.Definitions(
        assets=defs.assets,
        asset_checks=defs.asset_checks,
        jobs=defs.jobs,
        executor=defs.executor,
        resources={
            **(defs.resources or {}),
            "database": Database(url=url),
            "thresholds": Thresholds(),
        },
    )
    with dg.DagsterInstance.ephemeral() as instance:
        definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": first.strftime(key),
                "dagster/asset_partition_range_end": last.strftime(key),
            },
        )


@click.command("batch")
@click.option("--scale", default=1.0, show_default=True, help="Of 10 million shares.")
def main(scale: float) -> None:
    """Measure the batch jobs beside the bare statements.

    On plain PostgreSQL, or on the server that TBG_TEST_DATABASE_URL names.

    \b
    Examples:
      python -m bench.batch --scale 0.1
    """
    report = Report(quick=scale < 1)
    with servers() as made:
        report.database = made.version()
        measure(report, made, scale)
    report.show(Console())


if __name__ == "__main__":
    main()
