"""Bytes of a row before and after the columnstore: ``python -m tests.timescaledb.sizes``.

Ten days of 40,000 shares from 500 workers, a few big and many small ones, with hashes and
nonces as random as real ones; and ten days of what 400 workers tell besides shares.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from tests.timescaledb.server import Connection, apply, connecting, serving
from tests.timescaledb.test_retention import run_policy

# Where the ten-day chunks of the rollups begin, and past the columnstore's 30 days.
START: Final = datetime.fromtimestamp(0, UTC) + timedelta(days=10) * (
    (datetime.now(UTC) - timedelta(days=50)).timestamp() // 864_000
)
DAYS: Final = 10

_SHARES: Final = """
insert into shares (time, user_id, worker_id, difficulty, share_diff, is_valid, reject_reason,
                    instance_id, seq, nonce, nonce2, share_hash, job_id, ip_address)
select
    %(day)s::timestamptz + n * interval '86400 s' / 40000, 1 + w / 4, w, d, d / (1 - random()),
    n %% 83 <> 0, case when n %% 83 = 0 then 'stale' end, 1, n,
    substr(bytes, 1, 4), substr(bytes, 5, 8), sha256(bytes), to_hex(n / 14),
    ('10.0.' || w / 4 || '.7')::inet
from (
    select n, w, 256 * power(2, (500 - w) / 40)::integer as d,
        sha256(convert_to(%(day)s || ' ' || n, 'UTF8')) as bytes
    from (
        select n, least((5 * (power(101, random()) - 1))::integer, 499) as w
        from generate_series(0, 39999) as n
    ) picked
) judged
"""
_EVENTS: Final = """
insert into mining_events (time, seq, instance_id, event, payload)
select
    %(day)s::timestamptz + n * interval '86400 s' / 20000, n, 1, kind,
    jsonb_build_object('user', 'bcrt1q' || md5((w / 4)::text), 'worker', 'rig-' || w) ||
    case kind when 'hashrate_update' then jsonb_build_object(
        'hashrate_1m', random() * 1e13, 'hashrate_5m', random() * 1e13,
        'hashrate_1h', random() * 1e13, 'hashrate_24h', random() * 1e13
    ) else jsonb_build_object(
        'ip', '10.0.' || w / 4 || '.7', 'initial_diff', 1.0, 'client_id', n,
        'user_agent', 'bitaxe/BM1370/v2.9.0', 'protocol', 'stratum_v1'
    ) end
from (
    select n, n %% 400 as w,
        case when n %% 50 = 0 then 'miner_connected' else 'hashrate_update' end as kind
    from generate_series(0, 19999) as n
) told
"""
_SIZES: Final = """
with tables as (
    select hypertable_name as name, format('%I.%I', hypertable_schema, hypertable_name) as stored
    from timescaledb_information.hypertables where hypertable_schema = 'public'
    union all
    select view_name, format('%I.%I', materialization_hypertable_schema,
        materialization_hypertable_name)
    from timescaledb_information.continuous_aggregates
)
select name, table_bytes + toast_bytes as bytes, index_bytes, total_bytes
from tables, hypertable_detailed_size(stored::regclass)
order by name
"""


def show(connection: Connection, rows: dict[str, int], when: str) -> None:
    """Prints bytes per row of every table."""
    for size in connection.execute(_SIZES.encode()).fetchall():
        count = rows[size["name"]]
        print(
            f"{when:<10} {size['name']:<14} {count:>7} rows: {size['bytes'] / count:6.1f} + "
            f"{size['index_bytes'] / count:5.1f} of indexes = {size['total_bytes'] / count:6.1f}"
        )


def main() -> None:
    """Fills a database of its own, compresses it, and prints what each step came to."""
    with serving() as url, connecting(url) as connection:
        apply(connection, "timescaledb")
        for day in range(DAYS):
            connection.execute(_SHARES, {"day": START + timedelta(days=day)})
            connection.execute(_EVENTS, {"day": START + timedelta(days=day)})
        end = START + timedelta(days=DAYS)
        for name in ("shares_hourly", "shares_daily"):
            connection.execute("call refresh_continuous_aggregate(%s, %s, %s)", [name, START, end])
        rows = {
            name: connection.execute(f"select from {name}").rowcount  # our own names
            for name in ("shares", "mining_events", "shares_hourly", "shares_daily")
        }
        show(connection, rows, "written")
        for name in rows:
            run_policy(connection, "policy_compression", name)
        show(connection, rows, "compressed")


if __name__ == "__main__":
    main()
