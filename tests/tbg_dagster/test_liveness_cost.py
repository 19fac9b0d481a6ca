"""Liveness looks at few workers, and finds whom a look at all of them would find."""

import itertools
import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from tbg_core.difficulty import HASHES_PER_DIFFICULTY
from tbg_dagster import clock
from tbg_dagster.queries import query
from tbg_dagster.workers.liveness import (
    ENOUGH_GAPS,
    allowance,
    mark_silent,
)
from tests.tbg_dagster.conftest import Connection, History

FALLBACK = timedelta(seconds=600)


def plainly_silent(connection: Connection, now: datetime) -> set[int]:
    """Computed from all shares of every online worker, by the definition alone."""
    found = set()
    for worker in connection.execute("select * from workers where is_online").fetchall():
        shares = connection.execute(
            "select time, difficulty, is_valid from shares where worker_id = %s and time <= %s "
            "order by time",
            [worker["id"], now],
        ).fetchall()
        last = max([worker["last_share"], *(one["time"] for one in shares)])
        if now - last <= timedelta(minutes=1):
            continue
        valid = [
            one for one in shares if one["is_valid"] and one["time"] > last - timedelta(days=1)
        ]
        valid = valid[-100:]
        gaps = sorted(
            (later["time"] - one["time"]).total_seconds() / later["difficulty"]
            for one, later in itertools.pairwise(valid)
        )
        rate = worker["hashrate_1h"]
        if len(gaps) >= ENOUGH_GAPS:
            middle = len(gaps) // 2
            median = gaps[middle] if len(gaps) % 2 else (gaps[middle - 1] + gaps[middle]) / 2
            rate = 0.6931471805599453 * HASHES_PER_DIFFICULTY / median
        if now - last > allowance(worker["current_diff"], rate, FALLBACK).allowed:
            found.add(worker["id"])
    return found


@pytest.mark.parametrize("seed", range(4))
def test_it_marks_whom_a_look_at_every_share_of_every_worker_would_mark(
    connection: Connection, history: History, seed: int
) -> None:
    chosen = random.Random(seed)
    start = clock.now() - timedelta(hours=5)
    ends: dict[str, datetime] = {}
    for number in range(24):
        name = f"u{number}.w"
        pace = chosen.choice([5, 20, 120, 900])
        ends[name] = start + timedelta(minutes=chosen.choice([60, 150, 400, 400]))
        moment = start
        history.worker(name)
        while (moment := moment + timedelta(seconds=chosen.expovariate(1 / pace))) < min(
            ends[name], clock.now()
        ):
            history.share(name, moment, 2000.0)
    marked: set[int] = set()
    for minutes in range(30, 300, 30):
        now = start + timedelta(minutes=minutes)
        # Rows lag, as the writer leaves them, and shares of the future are not there yet.
        connection.execute(
            "update workers w set is_online = is_online or %(first)s, current_diff = 1000, "
            "hashrate_1h = 1e11, last_share = coalesce((select min(time) from (select time, "
            "max(time) over () as newest from shares s where s.worker_id = w.id "
            "and time <= %(now)s order by time desc limit 1 + w.id %% 8) lag "
            "where time > newest - interval '1 hour'), w.last_share, %(now)s) "
            "where id <> all(%(marked)s)",
            {"now": now, "first": minutes == 30, "marked": list(marked)},
        )
        connection.execute(
            "create temporary table later as select * from shares where time > %s", [now]
        )
        connection.execute("delete from shares where time > %s", [now])
        expected = plainly_silent(connection, now)
        done = mark_silent(connection, now, FALLBACK, timedelta(minutes=5))
        rows = connection.execute("select id from workers where not is_online").fetchall()
        offline = {row["id"] for row in rows}
        assert offline - marked == expected, minutes
        assert len(done.marked_offline) == len(expected)
        marked = offline
        connection.execute("insert into shares select * from later")
        connection.execute("drop table later")
    assert marked


def test_workers_within_what_they_may_be_silent_are_not_looked_at_again(
    connection: Connection, history: History
) -> None:
    now = clock.now()
    for number in range(6):
        name = f"u{number}.w"
        for share in range(30):
            history.share(name, now - timedelta(minutes=10 + 20 * share), 2000.0)
    connection.execute(
        "update workers set is_online = true, current_diff = 1000, last_share = %s",
        [now - timedelta(minutes=10)],
    )

    def looked(minutes: float) -> int:
        return mark_silent(
            connection, now + timedelta(minutes=minutes), FALLBACK, timedelta(0)
        ).looked_at

    assert looked(0) == 6  # nothing is known of them
    assert looked(5) == 0
    # Another difficulty is another pace.
    connection.execute("update workers set current_diff = 500 where id <= 2")
    assert looked(10) == 2
    # After half of what is allowed, each is judged by its shares.
    assert looked(200) == 6
    assert mark_silent(connection, now + timedelta(hours=9), FALLBACK, timedelta(0)).marked_offline


def buffers(connection: Connection, known: dict[str, Any]) -> int:
    [plan] = connection.execute(
        "explain (analyze, buffers, format json) " + query("tbg_dagster.workers", "ghosts.sql"),
        known,
    ).fetchall()
    found = plan["QUERY PLAN"][0]["Plan"]
    return int(found["Shared Hit Blocks"]) + int(found["Shared Read Blocks"])


@pytest.mark.plain_postgresql
def test_a_look_costs_a_pass_over_the_newest_minute_and_not_a_look_up_for_each_worker(
    connection: Connection, history: History
) -> None:
    now, count = clock.now(), 2000
    history.days(now - timedelta(hours=1), now)
    connection.execute(
        "insert into users (btc_address) select 'u' || n from generate_series(1, %s) n", [count]
    )
    connection.execute(
        "insert into workers (user_id, worker_name, is_online, current_diff, hashrate_1h, last_share) "
        "select id, 'w', true, 1000, 2e11, %s from users",
        [now - timedelta(minutes=2)],
    )
    # A share every 20 seconds each, for ten minutes.
    connection.execute(
        "insert into shares (time, difficulty, share_diff, user_id, worker_id, is_valid) "
        "select %(now)s::timestamptz - (600 - 20 * k - (w.id %% 20)) * interval '1 second', "
        "1000, 2000, user_id, w.id, true from generate_series(0, 29) k, workers w order by 1",
        {"now": now},
    )
    connection.execute("analyze")
    known = {"now": now, "hashes": HASHES_PER_DIFFICULTY, "enough": ENOUGH_GAPS}
    assert mark_silent(connection, now, FALLBACK, timedelta(0)).looked_at == 0
    assert buffers(connection, known) < count / 2
