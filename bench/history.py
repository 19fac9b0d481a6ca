"""Weeks of shares, written straight into the database."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import psycopg

from tbg_core.flavour import flavour_of

# Shares a day of a fleet in which worker n of N has the weight 1 / (n + 5): a few big
# miners and many small ones. Difficulties are d / u for uniform u, as real ones are.
_DAY: Final = """
insert into shares (time, user_id, worker_id, difficulty, share_diff, is_valid, reject_reason,
                    instance_id, seq, nonce, nonce2, share_hash, job_id, ip_address, source)
select
    %(day)s::timestamptz + random() * interval '86399.999 seconds',
    1 + (w - 1) / 4, w, d, d / (1 - random()), n %% 83 <> 0,
    case when n %% 83 = 0 then (array['stale', 'duplicate', 'above target'])[1 + n %% 3] end,
    1, %(first)s + n, substr(hash, 1, 4), substr(hash, 5, 8),
    hash, to_hex(n / 500), '127.0.0.1', 'simulated'
from (
    select n, w, sha256(convert_to(%(day)s::text || n, 'UTF8')) as hash, 256 * power(2, 5 * (%(workers)s - w) / %(workers)s) as d
    from (
        select n, least(greatest(
            (5 * (power((%(workers)s + 5.0) / 5, random()) - 1))::integer + 1, 1), %(workers)s) as w
        from generate_series(1, %(shares)s) as n
    ) picked
) judged
"""


def write(
    database_url: str,
    start: datetime,
    days: int,
    shares: int,
    workers: int,
    say: Callable[[str], None],
) -> None:
    """Writes ``shares`` shares of ``workers`` workers over ``days`` days, the same every time."""
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        connection.execute("select setseed(0.42)")
        if flavour_of(connection) == "postgresql":
            connection.execute(
                "select ensure_partitions(%s, %s)",
                [start.date(), (start + timedelta(days=days)).date()],
            )
        connection.execute(
            "insert into users (btc_address) "
            "select 'tb1q' || substr(md5(n::text) || md5((-n)::text), 1, 38) "
            "from generate_series(1, %s) as n",
            [(workers + 3) // 4],
        )
        connection.execute(
            "insert into workers (user_id, worker_name) "
            "select 1 + (n - 1) / 4, 'rig' || n from generate_series(1, %s) as n",
            [workers],
        )
        connection.execute(
            "insert into engine_instances (instance, source) values ('bench/1', 'simulated')"
        )
        per_day = -(-shares // days)
        for number in range(days):
            connection.execute(
                _DAY,
                {
                    "day": start + timedelta(days=number),
                    "first": number * per_day,
                    "shares": per_day,
                    "workers": workers,
                },
            )
            if number % 14 == 13 or number == days - 1:
                say(f"{(number + 1) * per_day:,} shares written")
        connection.commit()
        connection.execute("analyze")
