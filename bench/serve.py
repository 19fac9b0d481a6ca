"""What ``tbg serve`` takes: of a large pool, and beside the realtime path.

``python -m bench.serve`` is started by :func:`asking` alone: it asks at an even pace over
connections that stay, and says what became of it as JSON.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import psycopg

from bench.figures import Report
from bench.load import Load
from bench.stack import Servers
from bench.whole import SHARES, daemon
from tbg.stack.embedded import free_port
from tests.processes import PYTHON, Process

PART: Final = "serve"
BIG: Final = "bc1qbig"  # the user with many workers
CONNECTIONS: Final = 32
COLD_SECONDS: Final = 60.0
GOAL: Final = "p99 < 100 ms"

# A pool with a week: users with four workers each, and one with many; yesterday is counted by
# day, today by hour.
_POOL: Final = """
insert into users (btc_address, last_seen, hashrate_1m, hashrate_5m, hashrate_1h, hashrate_24h)
select 'bc1qpool' || n, now(), 1e12, 1e12, 1e12, 1e12 from generate_series(1, %(users)s) n;
insert into users (btc_address, last_seen, hashrate_1m, hashrate_5m, hashrate_1h, hashrate_24h)
values ('bc1qbig', now(), 1e15, 1e15, 1e15, 1e15);
insert into workers (user_id, worker_name, last_share, current_diff, is_online, user_agent,
    hashrate_1m, hashrate_5m, hashrate_1h, hashrate_24h)
select u.id, 'rig-' || n, now(), 512, true, 'agent/' || (n % 50), 1e12, 1e12, 1e12, 1e12
from users u
cross join lateral generate_series(
    1, case when u.btc_address = 'bc1qbig' then %(many)s else 4 end
) n;
analyze users, workers;  -- or the next statement reads all workers for each user
insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time,
    best_worker_id, best_share_hash, total_shares, total_work)
select u.id, date_trunc('week', now() at time zone 'UTC')::date, 1e3 / (random() + 1e-6), now(),
    (select min(w.id) from workers w where w.user_id = u.id),
    sha256(convert_to(u.btc_address, 'UTF8')), null, null
from users u;
insert into worker_stats_daily (day, user_id, worker_id, accepted, rejected, reject_ratio,
    rejects_by_reason, work, hashrate, hashrate_low, hashrate_high, uptime_seconds, best_share_diff)
select (now() at time zone 'UTC')::date - back, w.user_id, w.id, 25000, 100, 0.004,
    '{"stale": 100}', 1e7, 1e12, 1e12, 1e12, 86400, 1e6
from workers w join users u on u.id = w.user_id, generate_series(1, 6) back
where u.btc_address = 'bc1qbig';
insert into shares_hourly
select date_trunc('hour', now(), 'UTC') - interval '1 hour' * back, w.user_id, w.id, 1084, 1080, 4,
    5e5, 1e5, now() - interval '1 hour' * (back + 1), now() - interval '1 hour' * back
from workers w join users u on u.id = w.user_id, generate_series(0, 23) back
where u.btc_address = 'bc1qbig' or back < 3;
insert into network_blocks (hash, height, network_difficulty, seen_at)
values ('aa', 900000, 1.2e14, now());
"""


def large_pool(report: Report, servers: Servers, users: int, many: int) -> None:
    """A pool of so many users, and one with ``many`` workers: the first answer, and the others."""
    if "TimescaleDB" in report.database:
        report.left_out.append("serve: its pool is made of rollups of plain PostgreSQL")
        return
    url = servers.database()
    with psycopg.connect(url, autocommit=True) as connection:
        made = _POOL.replace("%(users)s", str(users)).replace("%(many)s", str(many))
        connection.execute(made)
        connection.execute("vacuum analyze")
    note = f"{users:,} users; one has {many:,} workers"
    routes = {
        "a week's standing": ["/v1/week"],
        "a user of many workers": [f"/v1/users/{BIG}"],
        "its workers in /api": [f"/api/client/{BIG}"],
        "its file in ckpool's words": [f"/users/{BIG}"],
        "its chart": [f"/api/client/{BIG}/chart"],
        "one of its workers": [f"/v1/users/{BIG}/workers/rig-{n}" for n in range(1, 500)],
        "users": [f"/v1/users/bc1qpool{n}" for n in range(1, 500)],
        "the pool": ["/api/pool", "/api/info", "/api/info/chart", "/pool/pool.status", "/v1/odds"],
    }
    with serving(servers, url) as base:
        for what, paths in routes.items():
            report.add(PART, f"{what}: first answer", 1e3 * cold(base, paths[0]), "ms", note=note)
            for path in paths[1:]:
                if len(paths) < 10:
                    cold(base, path)
            result = asking(servers, base, paths, 100, 10)
            report.add(PART, f"{what}: p99", result["p99"], "ms", goal=GOAL, note=note)
            if result["refused"]:
                report.left_out.append(f"serve: {what}: {result['refused']} were not answered")


def beside(report: Report, servers: Servers, rate: int, events: int, seconds: int) -> None:
    """Requests beside mixed events: p99 of both, and of shares to Redis without requests."""
    for asks in (0, rate):
        client = servers.client()
        url = servers.database()
        folder = servers.new_folder()
        count = events * seconds
        with (
            daemon(servers, url, folder, stream_keep=count + 100_000),
            serving(servers, url) as base,
        ):
            load = Load(folder / "events.sock", "paced", count, events)
            load.go()
            if asks:
                users = [f"/v1/users/bcrt1qbench{n:028d}" for n in range(200)]
                paths = ["/v1/week", "/api/pool", "/v1/odds", "/pool/pool.status", *users]
                result = asking(servers, base, paths, asks, seconds)
                report.add(
                    PART, f"{asks:,} requests/s beside {events:,} events/s: answered",
                    result["answered"] / seconds, "requests/s", goal="≥ 1,000",
                    note=f"{result['refused']:.0f} not answered",
                )  # fmt: skip
                report.add(PART, "requests beside events: p99", result["p99"], "ms", goal=GOAL)
            load.result()
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], client.xrange(SHARES))
        latency = [
            int(name.partition(b"-")[0]) + 0.5 - int(fields[b"timestamp"]) / 1000
            for name, fields in entries
        ]
        which = "beside requests" if asks else "without requests"
        p99 = statistics.quantiles(latency, n=100)[98]
        report.add(PART, f"shares to Redis, {which}: p99", p99, "ms", note=f"{events:,} events/s")


@contextlib.contextmanager
def serving(servers: Servers, url: str) -> Iterator[str]:
    """``tbg serve`` on a database, with its ordinary settings; yields its URL."""
    port = free_port()
    folder = servers.new_folder()
    environment = {
        "DATABASE_URL": url, "REDIS_URL": servers.valkey.url, "SERVE_PORT": str(port)
    }  # fmt: skip
    process = Process([PYTHON, "-m", "tbg.cli", "serve"], folder / "serve.log", environment)
    try:
        process.start()
        base = f"http://127.0.0.1:{port}"
        cold(base, "/readyz")
        yield base
    finally:
        process.kill()


def cold(base: str, path: str) -> float:
    """Seconds until a path is answered with 200, asked again where it is not."""
    begun = time.monotonic()
    while time.monotonic() < begun + COLD_SECONDS:
        try:
            with urllib.request.urlopen(base + path, timeout=60) as answer:  # noqa: S310  ours
                if answer.status == 200:
                    return time.monotonic() - begun
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{path} was not answered")


def asking(
    servers: Servers, base: str, paths: list[str], rate: int, seconds: int
) -> dict[str, float]:
    """Asks for so many seconds: how many were answered, how many not, p50 and p99 in ms."""
    words = {"port": int(base.rpartition(":")[2]), "paths": paths, "rate": rate, "seconds": seconds}
    log: Path = servers.new_folder() / "asking"
    process = Process([PYTHON, "-m", "bench.serve", json.dumps(words)], log)
    try:
        process.start().wait(900)
        return dict(json.loads(process.output.splitlines()[-1]))
    finally:
        process.kill()


async def _ask(port: int, paths: list[str], rate: int, seconds: int) -> dict[str, float]:
    """The asker: a request is late from the moment that it was due."""
    begun = time.monotonic()
    number, taken, refused = 0, list[float](), 0

    async def one() -> None:
        nonlocal number, refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (turn := number) < rate * seconds:
            number += 1
            due = begun + turn / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            path = paths[turn % len(paths)]
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            if head.split(b" ", 2)[1] in (b"200", b"404"):
                taken.append(1e3 * (time.monotonic() - due))
            else:
                refused += 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    cuts = statistics.quantiles(taken, n=100) if len(taken) > 1 else [0.0] * 99
    return {"answered": len(taken), "refused": refused, "p50": cuts[49], "p99": cuts[98]}


def main() -> None:
    """Does what the one argument says."""
    words: dict[str, Any] = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(_ask(**words))))


if __name__ == "__main__":
    main()
