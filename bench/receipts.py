"""Measures the tree of an hour: CPU and memory of the process that builds it, and a receipt's size.

python -m bench.receipts --shares 1000000 --workers 100000
"""

import argparse
import resource
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import dict_row

from tbg.migrate import migrate
from tbg.stack.embedded import EmbeddedPostgres, free_port, new_password
from tbg_core.receipts import stored
from tbg_core.receipts.boot import Stated, build
from tbg_dagster.resources.database import Connection

BOOT: Final = "bench/1"

_FILL: Final = """
insert into users (btc_address)
select 'bc1q' || lpad(n::text, 38, '0') from generate_series(1, %(users)s) n;
"""
_WORKERS: Final = """
insert into workers (user_id, worker_name)
select 1 + n %% %(users)s, 'rig' || n from generate_series(1, %(workers)s) n
"""
_SHARES: Final = """
insert into shares (time, seq, instance_id, user_id, worker_id, difficulty, share_diff, is_valid,
    reject_reason, share_hash, job_id, nonce, nonce2, ip_address)
select
    %(hour)s::timestamptz + interval '1 hour' * (n - 1) / %(shares)s, n, 1,
    (1 + (1 + n * 7919 %% %(workers)s) %% %(users)s)::integer,
    (1 + n * 7919 %% %(workers)s)::integer,
    1 << (8 + n %% 6)::integer, 1000 / (1 - random()), n %% 50 <> 0,
    case when n %% 50 = 0 then 'stale' end, sha256(int8send(n)), 'job', int8send(n),
    int8send(n), '192.0.2.1'
from generate_series(1, %(shares)s::bigint) n
"""


def fill(connection: Connection, shares: int, workers: int, users: int) -> datetime:
    """Writes an hour of shares of one boot; returns its start."""
    [row] = connection.execute(
        "select date_trunc('hour', now(), 'UTC') - interval '3 hours' as hour"
    ).fetchall()
    hour: datetime = row["hour"]
    connection.execute(
        "select ensure_partitions(%s, %s)", [hour.date(), (hour + timedelta(hours=1)).date()]
    )
    wanted = {"hour": hour, "shares": shares, "workers": workers, "users": users}
    for statement in (_FILL, _WORKERS):
        connection.execute(statement, wanted)
    connection.execute(
        "insert into engine_instances (instance, seq_max) values (%s, %s)", [BOOT, shares]
    )
    connection.execute(_SHARES, wanted)
    connection.execute(
        "insert into ledger (instance_id, hour, first_seq, last_seq, committed, received) "
        "values (1, %(hour)s, 1, %(shares)s, %(shares)s, %(shares)s)",
        wanted,
    )
    connection.execute("analyze")
    return hour


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shares", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tbg-bench-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres", free_port(), new_password(), {})
        try:
            server.start()
            migrate(server.url)
            with psycopg.connect(
                server.url, autocommit=True, row_factory=dict_row, options="-c timezone=UTC"
            ) as connection:
                hour = fill(connection, asked.shares, asked.workers, asked.users)
                before, began = time.process_time(), time.monotonic()
                with connection.transaction():
                    rows = stored.database_rows(connection, hour, 1, 1, asked.shares)
                    built = build(1, asked.shares, rows, Stated([], [], []))
                cpu, took = time.process_time() - before, time.monotonic() - began
        finally:
            server.stop()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{asked.shares:,} leaves of {asked.workers:,} workers: {cpu:.1f} CPU s, {took:.1f} s, "
        f"{most:.0f} MiB, {built.root.valid:,} valid"
    )


if __name__ == "__main__":
    main()
