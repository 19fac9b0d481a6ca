"""A long table: what a share costs that joins it, and how long its indexes' questions take."""

import random
import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import psycopg
from psycopg import sql

from bench.alone import store_cost
from bench.batch import timed
from bench.figures import Report
from bench.stack import Servers
from tbg_dagster.partitions import DAY
from tbg_dagster.resources import Database
from tbg_dagster.workers.liveness import mark_silent

PART: Final = "long table"
PER_WORKER: Final = 100  # shares
PACE: Final = timedelta(seconds=20)  # from one to the next
_SLICE: Final = 1_000_000  # rows of a statement
_ASKED: Final = 200  # times, each for another worker

_ROWS: Final = """
insert into {table} (time, user_id, worker_id, difficulty, share_diff, is_valid, reject_reason,
                     seq, nonce, nonce2, share_hash, job_id, ip_address, source)
select
    %(start)s::timestamptz + n * %(apart)s, 1 + (w - 1) / 4, w, 512, 512 / (1 - random()),
    n %% 83 <> 0, case when n %% 83 = 0 then 'stale' end, n, '1234', '12345678',
    sha256(convert_to(n::text, 'UTF8')), 'bench', '192.0.2.1', 'simulated'
from (
    select n, 1 + (random() * (%(workers)s - 1))::integer as w
    from generate_series(%(first)s, %(last)s) as n
) picked
"""

_QUESTIONS: Final = {
    "last share of a worker": "select last_share from workers_seen where id = %(worker)s",
    "newest hundred shares of a worker": (
        "select time, difficulty from shares where worker_id = %(worker)s and time <= %(end)s "
        "order by time desc limit 100"
    ),
    "best share of a user in ten minutes": (
        "select share_diff, share_hash from shares where user_id = %(user)s and is_valid "
        "and time >= %(end)s - interval '10 minutes' order by share_diff desc limit 1"
    ),
    "count of a tenth of a second": (
        "select count(*) from shares where time >= %(end)s - interval '1.1 seconds' "
        "and time < %(end)s - interval '1 second'"
    ),
}


def measure(report: Report, servers: Servers, rows: int, count: int) -> None:
    """One of a million rows, and one of ``rows``; ``count`` events join each."""
    if "TimescaleDB" in report.database:
        report.left_out.append("long table: it is made of partitions of plain PostgreSQL")
        return
    workers = rows // PER_WORKER
    basis: dict[str, float] = {}
    for many in (min(1_000_000, rows // 10), rows):
        url = servers.database()
        end = datetime.now(UTC)
        written = timed(partial(write, url, many, workers, end))
        note = f"{workers:,} workers"

        def add(what: str, value: float, unit: str, note: str = note, many: int = many) -> None:
            report.add(
                PART, f"{what}, {many:,} rows", value, unit, limit=basis.setdefault(what, value),
                limit_is="with the short one", note=note,
            )  # fmt: skip

        with Database(url=url).connect() as connection:
            size = connection.execute(
                "select sum(pg_total_relation_size(relid)) as bytes from pg_partition_tree('shares')"
            ).fetchone()
            assert size is not None
            add("a row and its indexes", float(size["bytes"]) / many, "bytes", f"{written:.0f} s")
            for what, question in _QUESTIONS.items():
                add(what, _median_ms(connection, question, workers, end), "ms")
        cost = store_cost(servers, url, 1, count, 1000)
        add("a share that joins it", cost.known, "CPU µs")
    with Database(url=url).connect() as connection:
        seconds = timed(partial(mark_silent, connection, end, DAY, DAY))
    report.add(PART, f"a look at the liveness of {workers:,} workers", seconds, "s", note=note)


def write(url: str, rows: int, workers: int, end: datetime) -> None:
    """So many rows of today up to ``end``, indexed once they are there."""
    table = sql.Identifier(f"shares_p{end:%Y%m%d}")
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    apart = min(PACE / workers * 1_000_000, (end - midnight) / rows * 1_000_000)
    start = end - apart * (rows / 1_000_000)
    with psycopg.connect(url, autocommit=True) as connection:
        run: Callable[..., Any] = connection.execute
        run("set timezone = 'UTC'")
        run("set maintenance_work_mem = '1GB'")
        run("select setseed(0.42)")
        run(
            "insert into users (btc_address) select 'long' || n from generate_series(1, %s) n",
            [workers // 4 + 1],
        )
        run(
            "insert into workers (user_id, worker_name, is_online, last_share) "
            "select 1 + (n - 1) / 4, 'rig' || n, true, %s from generate_series(1, %s) n",
            [start, workers],
        )
        run(sql.SQL("drop table if exists {}").format(table))
        run(sql.SQL("create table {} (like shares including defaults)").format(table))
        for first in range(0, rows, _SLICE):
            run(
                sql.SQL(_ROWS).format(table=table),
                {
                    "start": start,
                    "apart": apart / 1_000_000,
                    "workers": workers,
                    "first": first,
                    "last": min(first + _SLICE, rows) - 1,
                },
            )
        # Attaching makes the indexes of the parent, and is faster than filling them row by row.
        run(
            sql.SQL("alter table shares attach partition {} for values from ({}) to ({})").format(
                table, sql.Literal(midnight), sql.Literal(midnight + DAY)
            )
        )
        run("vacuum analyze")
        run("checkpoint")


def _median_ms(connection: Any, question: str, workers: int, end: datetime) -> float:
    chosen = random.Random(42)  # noqa: S311  # a sample, no secret
    seconds = []
    for _ in range(_ASKED):
        worker = chosen.randint(1, workers)
        asked = {"worker": worker, "user": 1 + (worker - 1) // 4, "end": end}
        seconds.append(timed(partial(_ask, connection, question, asked)))
    return 1000 * statistics.median(seconds)


def _ask(connection: Any, question: str, asked: dict[str, Any]) -> None:
    connection.execute(question, asked).fetchall()
