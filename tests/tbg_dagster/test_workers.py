"""Workers: their day in numbers, and whether they are there."""

import json
import math
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbg_core.names import ALERTS_STREAM
from tbg_dagster import clock
from tbg_dagster.resources import Thresholds
from tbg_dagster.workers.liveness import LEAST_GAP, MOST_GAP, allowance, mark_silent
from tbg_dagster.workers.stats import poisson_interval, worker_stats
from tests.clock import Clock
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday, metadata_of

FALLBACK = timedelta(seconds=600)
PACE = 1000 * 2**32 / 10.0  # H/s at which difficulty 1000 gives a share in ten seconds


# --- A day in numbers ------------------------------------------------------------------


@pytest.mark.parametrize("mean", [5, 40, 3000])
def test_the_interval_holds_the_truth_in_95_of_100_cases(mean: int) -> None:
    counts = pd.Series(np.random.default_rng(7).poisson(mean, 20_000))
    low, high = poisson_interval(counts)
    covered = float(((low <= mean) & (mean <= high)).mean())
    assert 0.94 < covered < 0.985  # an exact interval of counts is never narrower


def test_a_worker_without_accepted_shares_has_no_hashrate_and_no_luck() -> None:
    row = {
        "user_id": 1, "worker_id": 2, "accepted": 0, "rejected": 4, "work": 0.0,
        "work_squared": 0.0, "best_share_diff": None, "longest_gap": None, "uptime": 0.0,
        "rejects_by_reason": {"stale": 4},
    }  # fmt: skip
    (found,) = worker_stats([row]).to_dict("records")
    assert found["reject_ratio"] == 1.0
    assert (found["hashrate"], found["hashrate_low"], found["hashrate_high"]) == (0.0, 0.0, 0.0)
    assert math.isnan(found["luck"])
    assert math.isnan(found["hashrate_up"])


def test_luck_is_uniform_for_honest_miners() -> None:
    generator = np.random.default_rng(11)
    rows = []
    for worker in range(2000):
        best = float((100.0 / (1 - generator.random(50))).max())
        rows.append(
            {
                "user_id": 1,
                "worker_id": worker,
                "accepted": 50,
                "rejected": 0,
                "work": 5000.0,
                "work_squared": 500_000.0,
                "best_share_diff": best,
                "longest_gap": 1.0,
                "uptime": 50.0,
                "rejects_by_reason": {},
            }
        )
    frame = worker_stats(rows)
    assert 0.47 < (frame["luck"] > 1).mean() < 0.53
    deciles = np.histogram(frame["luck_percentile"], bins=10, range=(0, 1))[0]
    assert deciles.min() > 150


def test_a_day_of_a_worker_is_computed_from_its_shares(
    connection: Connection, history: History, run: Run
) -> None:
    day = last_monday()
    # Ten in the hour before noon, a share a minute; an outage; ten more in the evening.
    for minute in range(10):
        history.share("a.1", day + timedelta(hours=11, minutes=minute), 2000.0 + minute)
        history.share("a.1", day + timedelta(hours=20, minutes=minute), 1500.0)
    history.share("a.1", day + timedelta(hours=20, minutes=10), None, reject="stale")
    history.share("a.1", day + timedelta(hours=20, minutes=11), None, reject="low-diff")
    history.share("a.1", day + timedelta(hours=20, minutes=12), None, reject="stale")
    history.share("a.1", day + timedelta(days=1), 9e9)  # the next day
    key = f"{day:%Y-%m-%d}"
    run("hourly_rollup", f"{key}-00:00", f"{key}-23:00")
    result = run("daily_rollup", key)
    (row,) = connection.execute("select * from worker_stats_daily").fetchall()
    assert (row["accepted"], row["rejected"], row["work"]) == (20, 3, 20_000.0)
    assert row["rejects_by_reason"] == {"stale": 2, "low-diff": 1}
    assert row["reject_ratio"] == pytest.approx(3 / 23)
    assert row["hashrate"] == pytest.approx(20_000 * 2**32 / 86_400)
    assert row["hashrate_low"] < row["hashrate"] < row["hashrate_high"]
    assert row["uptime_seconds"] == pytest.approx(9 * 60 + 12 * 60)
    assert row["longest_gap_seconds"] == pytest.approx((8 * 60 + 51) * 60)
    assert row["best_share_diff"] == 2009.0
    assert row["luck"] == pytest.approx(2009 * math.log(2) / 20_000)
    metadata = metadata_of(result, "worker_stats_daily")
    assert (metadata["accepted"], metadata["rejected"]) == (20, 3)
    assert metadata["hashrate"] == pytest.approx(row["hashrate"])
    run("daily_rollup", key)
    assert connection.execute("select * from worker_stats_daily").fetchall() == [row]


# --- Liveness --------------------------------------------------------------------------


@given(st.floats(1e-3, 1e15), st.floats(1.0, 1e21))
def test_the_silence_allowed_is_never_under_a_minute_and_never_over_a_day(
    difficulty: float, hashrate: float
) -> None:
    limit = allowance(difficulty, hashrate, FALLBACK)
    assert LEAST_GAP <= limit.allowed <= MOST_GAP


def test_a_worker_may_be_silent_for_fourteen_of_its_own_gaps() -> None:
    assert allowance(1000, PACE, FALLBACK).allowed.total_seconds() == pytest.approx(138, abs=1)
    assert allowance(1000, PACE * 100, FALLBACK).allowed == LEAST_GAP
    assert allowance(None, PACE, FALLBACK).allowed == FALLBACK
    assert allowance(1000, 0.0, FALLBACK).allowed == FALLBACK


def online(connection: Connection, worker: int, last_share: datetime, hashrate: float) -> None:
    connection.execute(
        "update workers set is_online = true, last_share = %s, current_diff = 1000, "
        "hashrate_1h = %s where id = %s",
        [last_share, hashrate, worker],
    )


def is_online(connection: Connection, worker: int) -> bool:
    row = connection.execute("select is_online from workers where id = %s", [worker]).fetchone()
    assert row is not None
    return bool(row["is_online"])


def test_a_fast_worker_is_a_ghost_when_a_slow_one_is_merely_slow(
    connection: Connection, history: History, run: Run
) -> None:
    fast, slow = history.worker("a.fast")[1], history.worker("a.slow")[1]
    silent_since = clock.now() - timedelta(minutes=5)
    online(connection, fast, silent_since, PACE)
    online(connection, slow, silent_since, PACE / 100)  # a share in 17 minutes
    result = run("liveness")
    assert (is_online(connection, fast), is_online(connection, slow)) == (False, True)
    assert metadata_of(result, "worker_liveness")["marked_offline"] == 1


def test_alerts_come_once_after_a_while_and_once_when_it_is_back(
    connection: Connection, client: Any, history: History, run: Run, resources: dict[str, Any]
) -> None:
    resources["thresholds"] = Thresholds(liveness_debounce_seconds=0)
    worker = history.worker("a.1")[1]
    online(connection, worker, clock.now() - timedelta(hours=1), PACE)
    for _ in range(3):
        run("liveness")
    online(connection, worker, clock.now(), PACE)
    for _ in range(3):
        run("liveness")
    told = [json.loads(fields["data"]) for _, fields in client.xrange(ALERTS_STREAM)]
    assert [(item["state"], item["title"]) for item in told] == [
        ("firing", "1 worker offline"),
        ("recovered", "1 worker back"),
    ]
    assert told[0]["workers"][0]["user"] == "a"


def test_a_worker_that_comes_and_goes_is_not_told_of(
    connection: Connection, history: History
) -> None:
    worker = history.worker("a.1")[1]
    debounce = timedelta(minutes=5)
    start = clock.now() - timedelta(hours=3)
    alerted = 0
    for number in range(10):
        now = start + timedelta(minutes=8 * number)
        online(connection, worker, now - timedelta(minutes=3), PACE)
        alerted += mark_silent(connection, now, FALLBACK, debounce).alerted  # silent
        assert not is_online(connection, worker)
        online(connection, worker, now + timedelta(minutes=4), PACE)
        alerted += mark_silent(connection, now + timedelta(minutes=4), FALLBACK, debounce).alerted
    assert alerted == 0

    online(connection, worker, start, PACE)
    assert mark_silent(connection, start + timedelta(hours=2), FALLBACK, debounce).alerted == 0
    later = start + timedelta(hours=2, minutes=6)
    assert mark_silent(connection, later, FALLBACK, debounce).alerted == 1
    # Back for a moment, and silent again: the same incident.
    online(connection, worker, later + timedelta(minutes=1), PACE)
    mark_silent(connection, later + timedelta(minutes=1), FALLBACK, debounce)
    for minutes in (10, 20):
        done = mark_silent(connection, later + timedelta(minutes=minutes), FALLBACK, debounce)
        assert (done.alerted, done.recovered) == (0, 0)


# --- Rows that lag behind the shares ------------------------------------------------------


def row_of(connection: Connection, table: str, worker: int) -> dict[str, Any]:
    query = {
        "workers": "select * from workers where id = %s",
        "worker_liveness": "select * from worker_liveness where worker_id = %s",
    }[table]
    row = connection.execute(query, [worker]).fetchone()
    assert row is not None
    return row


def test_a_worker_is_judged_by_its_last_share_and_not_by_a_row_that_lags(
    connection: Connection, history: History, clock: Clock
) -> None:
    now = clock.now()
    busy, silent = history.worker("a.busy")[1], history.worker("a.silent")[1]
    history.share("a.busy", now - timedelta(seconds=50), 2000.0)
    history.share("a.silent", now - timedelta(minutes=3), 2000.0)
    for worker in (busy, silent):
        online(connection, worker, now - timedelta(minutes=50), PACE)
    done = mark_silent(connection, now, FALLBACK, timedelta(0))
    assert done.marked_offline == ["a.silent"]
    assert is_online(connection, busy)
    since = now - timedelta(minutes=3)
    assert row_of(connection, "worker_liveness", silent)["silent_since"] == since
    assert row_of(connection, "workers", silent)["last_share"] == since


@pytest.mark.parametrize("how", ["silence", "goodbye"])
def test_a_worker_is_back_with_a_share_that_its_row_does_not_tell(
    connection: Connection, history: History, clock: Clock, how: str
) -> None:
    worker = history.worker("a.1")[1]
    history.share("a.1", clock.now() - timedelta(minutes=9), 2000.0)
    (online if how == "silence" else lambda *given: offline(*given[:3]))(
        connection, worker, clock.now() - timedelta(minutes=9), PACE
    )
    done = mark_silent(connection, clock.now(), FALLBACK, timedelta(0))
    assert (is_online(connection, worker), done.alerted) == (False, 1)
    # The same share, and one that says nothing of the present, are no return.
    clock.move(timedelta(minutes=20))
    history.share("a.1", clock.now() - timedelta(minutes=11), 2000.0)
    mark_silent(connection, clock.now(), FALLBACK, timedelta(0))
    assert not is_online(connection, worker)
    back = clock.now() - timedelta(seconds=5)
    history.share("a.1", back, 2000.0)
    done = mark_silent(connection, clock.now(), FALLBACK, timedelta(0))
    assert (is_online(connection, worker), done.recovered) == (True, 1)
    assert row_of(connection, "workers", worker)["last_share"] == back


def test_the_hashrate_of_a_worker_without_a_name_is_taken_up_to_its_last_share(
    connection: Connection, history: History, clock: Clock
) -> None:
    end = clock.now() - timedelta(seconds=10)
    worker = history.worker("a.")[1]
    for number in range(60):
        history.share("a.", end - number * timedelta(minutes=1), 2000.0)
    online(connection, worker, end - timedelta(minutes=40), 1.0)
    mark_silent(connection, clock.now(), FALLBACK, timedelta(0))
    rate = row_of(connection, "workers", worker)["hashrate_1h"]
    assert rate == pytest.approx(60 * 1000 * 2**32 / 3600)


# --- Goodbyes --------------------------------------------------------------------------


def event(
    connection: Connection, history: History, name: str, when: datetime, **payload: Any
) -> None:
    history.days(when, when)
    connection.execute(
        "insert into mining_events (time, event, instance_id, payload) values (%s, %s, %s, %s)",
        [when, name, payload.pop("instance", None), json.dumps({"user": "a", **payload})],
    )


def offline(connection: Connection, worker: int, last_share: datetime) -> None:
    """As the writer leaves it after a goodbye."""
    connection.execute(
        "update workers set is_online = false, last_share = %s where id = %s", [last_share, worker]
    )


def test_a_worker_that_says_goodbye_and_stays_away_is_told_once_and_its_return_once(
    connection: Connection, client: Any, history: History, run: Run, clock: Clock
) -> None:
    worker = history.worker("a.1")[1]
    history.worker("a.long-gone")
    offline(connection, worker, clock.now() - timedelta(seconds=20))
    run("liveness")
    assert client.xlen(ALERTS_STREAM) == 0  # the debounce
    for _ in range(3):
        clock.move(timedelta(minutes=5))
        run("liveness")
    online(connection, worker, clock.now(), PACE)
    run("liveness")
    clock.move(timedelta(minutes=5))
    online(connection, worker, clock.now(), PACE)
    run("liveness")
    told = [json.loads(fields["data"]) for _, fields in client.xrange(ALERTS_STREAM)]
    assert [(item["title"], [each["worker"] for each in item["workers"]]) for item in told] == [
        ("1 worker offline", ["1"]),
        ("1 worker back", ["1"]),
    ]


def test_a_worker_that_says_goodbye_and_is_back_at_once_is_not_told_of(
    connection: Connection, client: Any, history: History, run: Run, clock: Clock
) -> None:
    worker = history.worker("a.1")[1]
    for _ in range(4):
        offline(connection, worker, clock.now())
        run("liveness")
        clock.move(timedelta(minutes=4))
        online(connection, worker, clock.now(), PACE)
        run("liveness")
        clock.move(timedelta(minutes=4))
    assert client.xlen(ALERTS_STREAM) == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_a_worker_is_offline_when_its_last_connection_is_gone(
    connection: Connection, history: History, clock: Clock, restarted: bool
) -> None:
    worker = history.worker("a.1")[1]
    start = clock.now() - timedelta(minutes=30)
    boots = [
        connection.execute(
            "insert into engine_instances (instance) values (%s) returning id", [f"pool/{boot}"]
        ).fetchone()
        for boot in range(1 + restarted)
    ]
    instance = boots[0]["id"]  # type: ignore[index]  # there is a row
    for client_id in ("c1", "c2"):
        event(
            connection, history, "miner_connected", start, worker="1", client_id=client_id,
            instance=instance,
        )  # fmt: skip
    event(
        connection, history, "miner_disconnected", start + timedelta(minutes=1), worker="1",
        client_id="c1", instance=instance,
    )  # fmt: skip
    offline(connection, worker, clock.now())
    now = clock.now()
    done = mark_silent(connection, now, FALLBACK, timedelta(0))
    # What an engine that was started again had connected is gone.
    assert (is_online(connection, worker), done.alerted) == (not restarted, restarted)
    if restarted:
        return
    event(
        connection, history, "miner_disconnected", now, worker="1", client_id="c2",
        instance=instance,
    )  # fmt: skip
    offline(connection, worker, now)
    done = mark_silent(connection, now + timedelta(minutes=1), FALLBACK, timedelta(0))
    assert (is_online(connection, worker), done.disconnected, done.alerted) == (False, 1, 1)


# --- Pace ------------------------------------------------------------------------------


def steady(
    history: History, worker: str, end: datetime, gap: timedelta, count: int, difficulty: float
) -> None:
    """Shares one ``gap`` after the other, the last at ``end``."""
    for number in reversed(range(count)):
        history.share(worker, end - number * gap, 2 * difficulty, difficulty)


def test_a_worker_without_a_name_is_judged_by_its_own_pace_beside_a_mighty_one(
    connection: Connection, history: History, clock: Clock
) -> None:
    # 60 kH/s at difficulty 0.001: a share in 72 s. Beside it 200 TH/s, and their total.
    end = clock.now() - timedelta(minutes=10)
    unnamed, named = history.worker("a.")[1], history.worker("a.s21")[1]
    steady(history, "a.", end, timedelta(seconds=72), 60, 0.001)
    online(connection, unnamed, end, 2e14)
    online(connection, named, clock.now(), 2e14)
    connection.execute("update workers set current_diff = 0.001 where id = %s", [unnamed])
    mark_silent(connection, clock.now(), FALLBACK, timedelta(0))
    assert is_online(connection, unnamed)  # ten minutes are eight gaps
    row = connection.execute("select hashrate_1h from workers where id = %s", [unnamed]).fetchone()
    assert row is not None
    assert row["hashrate_1h"] == pytest.approx(0.001 * 2**32 / 72, rel=0.05)
    clock.move(timedelta(minutes=20))
    done = mark_silent(connection, clock.now(), FALLBACK, timedelta(0))
    assert not is_online(connection, unnamed)
    assert "a." in done.marked_offline


@pytest.mark.parametrize(
    ("difficulty", "hashrate"),
    [(1e-9, 1e18), (0.001, 2e14), (1e300, 1e-300), (math.nan, PACE), (1.0, math.inf), (-1.0, 1.0)],
)
def test_no_numbers_of_one_worker_hide_the_silence_of_the_others(
    connection: Connection, history: History, clock: Clock, difficulty: float, hashrate: float
) -> None:
    odd, other = history.worker("a.odd")[1], history.worker("a.other")[1]
    for worker in (odd, other):
        online(connection, worker, clock.now() - timedelta(days=2), PACE)
    connection.execute(
        "update workers set current_diff = %s, hashrate_1h = %s where id = %s",
        [difficulty, hashrate, odd],
    )
    done = mark_silent(connection, clock.now(), FALLBACK, timedelta(0))
    assert not is_online(connection, other)
    assert not is_online(connection, odd)
    assert done.not_judged == []


def test_an_engine_restart_does_not_make_a_fast_worker_slow(
    connection: Connection, history: History, clock: Clock
) -> None:
    # A share in ten seconds; three minutes after the restart the engine's hour says 1/20.
    end = clock.now() - timedelta(minutes=5)
    worker = history.worker("a.1")[1]
    steady(history, "a.1", end, timedelta(seconds=10), 60, 1000.0)
    online(connection, worker, end, PACE / 20)
    done = mark_silent(connection, clock.now(), FALLBACK, timedelta(minutes=5))
    assert done.marked_offline == ["a.1"]


def test_a_nap_does_not_make_a_worker_slow_and_another_difficulty_does_not_make_it_fast(
    connection: Connection, history: History, clock: Clock
) -> None:
    end = clock.now() - timedelta(minutes=5)
    worker = history.worker("a.1")[1]
    steady(history, "a.1", end - timedelta(hours=3), timedelta(seconds=1), 30, 100.0)
    steady(history, "a.1", end, timedelta(seconds=10), 30, 1000.0)
    online(connection, worker, end, 1.0)
    mark_silent(connection, end + timedelta(seconds=120), FALLBACK, timedelta(0))
    assert is_online(connection, worker)
    mark_silent(connection, clock.now(), FALLBACK, timedelta(0))
    assert not is_online(connection, worker)
