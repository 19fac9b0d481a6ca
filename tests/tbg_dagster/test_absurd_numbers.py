"""Rows from before the contract bounded numbers: one absurd number stops nothing for the others.

On TimescaleDB, tests/timescaledb/test_absurd_numbers.py runs them again.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from tbg_dagster import clock
from tbg_dagster.resources.database import Connection
from tests.tbg_dagster.conftest import History, Run, last_monday

ABSURD = (1.7e308, 1e-310, float("inf"), float("nan"), 0.0, -1.0)


@pytest.fixture
def poisoned(history: History) -> Callable[..., None]:
    """Writes two shares of an absurd difficulty in one hour, and one in each of two more."""

    def write(hour: datetime, difficulty: float) -> None:
        for minutes in (1, 2, 61, 121):
            at = hour + timedelta(minutes=minutes)
            history.share("evil.1", at, difficulty, difficulty=difficulty)

    return write


@pytest.mark.parametrize("difficulty", ABSURD)
def test_hours_days_weeks_and_statistics_are_computed_for_the_others(
    connection: Connection, history: History, run: Run, poisoned: Callable[..., None],
    difficulty: float,
) -> None:  # fmt: skip
    monday = last_monday()
    history.shares(["a.1", "b.1"], monday, monday + timedelta(hours=3), 400)
    poisoned(monday, difficulty)
    for hour in range(3):
        run("hourly_rollup", f"{monday + timedelta(hours=hour):%Y-%m-%d-%H:%M}")
    run("daily_rollup", f"{monday:%Y-%m-%d}")
    run("weekly_reset", f"{monday:%Y-%m-%d}")
    hours = connection.execute(
        "select u.btc_address as user, sum(h.accepted)::int as accepted from shares_hourly h "
        "join users u on u.id = h.user_id group by 1 order by 1"
    ).fetchall()
    assert [row["user"] for row in hours] == ["a", "b", "evil"]
    assert hours[2]["accepted"] == 4
    stats = connection.execute("select count(*) as workers from worker_stats_daily").fetchone()
    assert stats is not None
    assert stats["workers"] == 3
    ranked = connection.execute(
        "select count(*) as users from weekly_best_diff where finalized_at is not null"
    ).fetchone()
    assert ranked is not None
    assert ranked["users"] == 3
    connection.execute("select * from weekly_standings").fetchall()
    assert len({row["btc_address"] for row in connection.execute("select * from bests")}) == 3


@pytest.mark.parametrize("difficulty", ABSURD)
def test_odds_and_liveness_look_at_everybody(
    connection: Connection, history: History, run: Run, poisoned: Callable[..., None],
    difficulty: float,
) -> None:  # fmt: skip
    now = clock.now()
    connection.execute(
        "insert into network_blocks (hash, height, network_difficulty, seen_at) "
        "values ('aa', 1, %s, now())",
        [difficulty],
    )
    history.shares(["a.1", "b.1", ".1"], now - timedelta(hours=3), now - timedelta(minutes=5), 400)
    history.shares(["evil.1"], now - timedelta(hours=3), now - timedelta(minutes=5), 50)
    poisoned(now - timedelta(hours=2, minutes=30), difficulty)
    connection.execute(
        "update workers set is_online = true, last_share = now() - interval '4 minutes', "
        "current_diff = %s, hashrate_1h = %s",
        [difficulty, 1 / difficulty if difficulty > 1e-300 else 1e308],
    )
    for job in ("quality", "liveness", "odds"):
        assert run(job).success, job
    odds = connection.execute("select scope, chance_day from block_odds").fetchall()
    assert len(odds) == (0 if difficulty <= 0 else 5)  # no block is as easy as that
    assert all(0 <= row["chance_day"] <= 1 for row in odds)


def test_numbers_within_the_contract_are_what_they_were(connection: Connection) -> None:
    for value in (0.0, 1e-12, 4.66e-10, 1.0, 2.0**100, 2.0**224, -1.0):
        row = connection.execute(
            "select bounded(%s::double precision) as bounded", [value]
        ).fetchone()
        assert row is not None
        assert row["bounded"] == value
    for value, bound in ((5e-324, 1e-12), (1.7e308, 2.0**224), (float("inf"), 2.0**224)):
        row = connection.execute("select bounded(%s::double precision) as b", [value]).fetchone()
        assert row is not None
        assert row["b"] == bound
    row = connection.execute(
        "select bounded(null) is null as empty, chance_of(1e-310, 1.7e308) as sure, "
        "chance_of(1.7e308, 1e-310) as never"
    ).fetchone()
    assert row is not None
    assert (row["empty"], row["sure"]) == (True, 1.0)
    assert 0 <= row["never"] < 1e-70
