"""The best shares of every period, from rollups and stored bests."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from tbg.bests import _QUERY, PERIODS
from tbg.cli import main
from tests.tbg_dagster.conftest import Connection, History, connection, history

__all__ = ["connection", "history"]

HOUR = timedelta(hours=1)
FOUND = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def bests(database_url: str, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(
        main,
        ["bests", "--json", *arguments],
        env={"DATABASE_URL": database_url, "REDIS_URL": "redis://x"},
    )
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.output)
    return found


def rolled(connection: Connection, first: datetime, last: datetime) -> None:
    """What Dagster does after the hours and days have closed."""
    connection.execute("select rebuild_shares_hourly(%s, %s)", [first, last])
    day = first.replace(hour=0)
    end = last.replace(hour=0)
    if day < end:
        connection.execute("select rebuild_shares_daily(%s, %s)", [day, end])


@pytest.mark.plain_postgresql
@pytest.mark.parametrize("value", [2.0**32 + 1, 2.0**53 + 2, 2.0**60 * 3, 1e18])
def test_difficulties_of_any_size_come_out_as_they_went_in(
    database_url: str, connection: Connection, history: History, value: float
) -> None:
    at = FOUND - timedelta(days=3)
    history.share("a.1", at + timedelta(seconds=5), value, 1000.0, share_hash=b"\xab" * 32)
    history.share("a.1", at + timedelta(seconds=9), value / 3, 1000.0)
    for roll in (False, True):
        if roll:
            rolled(connection, at.replace(hour=0), FOUND)
        (best,) = bests(database_url, "--period", "alltime")
        assert best["best_difficulty"] == value
        assert best["share_hash"] == "ab" * 32
        assert best["found_at"] == (at + timedelta(seconds=5)).isoformat()
        assert best["work"] == 2000
        assert best["shares"] == 2
        # The chance of one in 10^15 keeps its digits.
        assert best["chance"] == pytest.approx(-math.expm1(-2000 / value), rel=1e-4)


@pytest.mark.plain_postgresql
def test_days_hours_and_raw_shares_add_up_to_every_share_once(
    database_url: str, connection: Connection, history: History
) -> None:
    start = FOUND - timedelta(days=4)
    moments = [start + n * 7 * timedelta(minutes=13) for n in range(60)]
    for number, at in enumerate(moments):
        history.share("a.1", at, 1000.0 + number, 10.0)
    for until in (None, start + timedelta(days=2, hours=5), FOUND):
        if until:
            rolled(connection, start.replace(hour=0), until)
        for since in (start, start + timedelta(hours=30, minutes=11), FOUND - HOUR):
            (row,) = connection.execute(
                "select * from worker_bests_since(%s)", [since]
            ).fetchall() or [{"shares": 0, "best_difficulty": None}]
            inside = [n for n, at in enumerate(moments) if at >= since]
            assert row["shares"] == len(inside)
            assert row["best_difficulty"] == (1000.0 + inside[-1] if inside else None)


@pytest.mark.plain_postgresql
def test_the_round_begins_with_the_last_block_and_the_session_with_the_connect(
    database_url: str, connection: Connection, history: History
) -> None:
    for hours, value in ((30, 9e12), (20, 5e12), (10, 3e12), (2, 1e12)):
        history.share("a.1", FOUND - hours * HOUR, value)
    history.block("b.1", 1, "ab" * 32, FOUND - 25 * HOUR, "confirmed")
    history.block("b.1", 2, "cd" * 32, FOUND - HOUR, "rejected")
    connection.execute(
        "insert into mining_events (time, event, payload) values (%s, 'miner_connected', "
        '\'{"user": "a", "worker": "1"}\')',
        [FOUND - 15 * HOUR],
    )
    found = {
        period: bests(database_url, "--period", period, "--workers", "--user", "a")[0][
            "best_difficulty"
        ]
        for period in ("alltime", "round", "session")
    }
    assert found == {"alltime": 9e12, "round": 5e12, "session": 3e12}


@pytest.mark.plain_postgresql
def test_a_best_survives_the_raw_shares_and_weeks_before_the_rollups(
    database_url: str, connection: Connection, history: History
) -> None:
    at = FOUND - timedelta(days=3)
    history.share("a.1", at, 7e12)
    history.share("a.2", at, 6e12)
    rolled(connection, at.replace(hour=0), FOUND)
    connection.execute("delete from shares")
    (best, second) = bests(database_url, "--period", "alltime", "--workers")
    assert (best["best_difficulty"], best["worker_name"]) == (7e12, "1")
    assert second["best_difficulty"] == 6e12
    user, worker = history.worker("a.1")
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time, "
        "best_worker_id, best_share_hash) values (%s, '2025-01-06', 8e15, '2025-01-07Z', %s, '\\xcd')",
        [user, worker],
    )
    (best,) = bests(database_url, "--period", "alltime")
    assert (best["best_difficulty"], best["share_hash"]) == (8e15, "cd")


@pytest.mark.plain_postgresql
def test_a_best_that_is_in_no_hour_yet_counts_at_once(
    database_url: str, connection: Connection, history: History
) -> None:
    # A week ago, in hours that are rolled up without it: an import, or a late share.
    old = FOUND - timedelta(days=45)
    history.share("a.1", old, 1e9)
    rolled(connection, old, FOUND)
    for name, best, at in (("b.1", 5e9, old), ("a.2", 3e9, old), ("c.1", 2e9, datetime.now(UTC))):
        user, worker = history.worker(name)
        connection.execute(
            "insert into weekly_best_diff (user_id, week_start, best_difficulty, "
            "best_share_time, best_worker_id) values (%s, date_trunc('week', %s at time zone "
            "'UTC')::date, %s, %s, %s)",
            [user, at, best, at, worker],
        )
    for options in ((), ("--workers",)):
        found = bests(database_url, "--period", "alltime", *options)
        names = [f"{row['btc_address']}.{row['worker_name']}" for row in found]
        workers = ["b.1", "a.2", "c.1", "a.1"]
        assert names == (workers if options else workers[:3])
        (week,) = bests(database_url, "--period", "week", *options)
        assert (week["btc_address"], week["best_difficulty"]) == ("c", 2e9)
        assert week["chance"] is None
    result = CliRunner().invoke(
        main, ["bests"], env={"DATABASE_URL": database_url, "REDIS_URL": "redis://x"}
    )
    assert result.exit_code == 0


@pytest.mark.plain_postgresql
def test_the_table_shows_a_name_as_text(
    database_url: str, connection: Connection, history: History
) -> None:
    history.share("a.[red]\x1b[31mx", FOUND - HOUR, 5e9)
    result = CliRunner().invoke(
        main, ["bests"], env={"DATABASE_URL": database_url, "REDIS_URL": "redis://x", "COLUMNS": "200"}
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "a.[red]�[31mx" in result.output
    assert "5G" in result.output


@pytest.mark.plain_postgresql
@pytest.mark.parametrize("period", ["session", "week", "alltime"])
def test_four_times_the_workers_cost_four_times_as_much(
    connection: Connection, history: History, period: str
) -> None:
    """Each has connected at a moment of its own: sessions have nothing in common."""
    buffers = []
    for workers in (30, 120):
        names = [f"{workers}.{number}" for number in range(workers)]
        history.shares(names, FOUND - 30 * HOUR, FOUND, workers * 20)
        for number, name in enumerate(names):
            user, _, worker = name.partition(".")
            connection.execute(
                "insert into mining_events (time, event, payload) values "
                "(%s, 'miner_connected', jsonb_build_object('user', %s::text, 'worker', %s::text))",
                [FOUND - 20 * HOUR + number * timedelta(minutes=7), user, worker],
            )
        rolled(connection, (FOUND - 30 * HOUR).replace(hour=0), FOUND)
        connection.execute("analyze")
        row = connection.execute(
            "explain (analyze, buffers, format json) select * from bests "
            "where scope = 'worker' and period = %s",
            [period],
        ).fetchone()
        assert row is not None
        plan = row["QUERY PLAN"][0]["Plan"]
        buffers.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    assert buffers[1] < 12 * buffers[0]  # five times the workers by then; 25 times if squared


@pytest.mark.plain_postgresql
def test_the_bests_of_one_user_cost_what_that_user_has(
    database_url: str, connection: Connection, history: History
) -> None:
    """And are those that the bests of all users hold."""
    history.block("ours.0", 1, "ab" * 32, FOUND - 25 * HOUR, "confirmed")
    cost: dict[tuple[str, str], list[int]] = {}
    for others in (40, 400):
        names = ["ours.0", "ours.1", *(f"{others} {number}.w" for number in range(others))]
        history.shares(names, FOUND - 40 * HOUR, FOUND + HOUR / 3, len(names) * 12)
        # Whatever week and month begin before the test ends, each has a share in them.
        history.shares(names, FOUND + HOUR / 3, FOUND + 3 * HOUR, len(names) * 4)
        history.connection.execute(
            "insert into mining_events (time, event, payload) select %s + w.id * interval '1 s', "
            "'miner_connected', jsonb_build_object('user', u.btc_address, 'worker', w.worker_name) "
            "from workers w join users u on u.id = w.user_id",
            [FOUND - 20 * HOUR],
        )
        history.connection.execute(
            "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time, "
            "best_worker_id) select user_id, date_trunc('week', time at time zone 'UTC')::date, "
            "max(share_diff), max(time), min(worker_id) from shares where is_valid group by 1, 2 "
            "on conflict do nothing"
        )
        rolled(connection, (FOUND - 40 * HOUR).replace(hour=0), FOUND)
        connection.execute("analyze")
        for period in PERIODS:
            for scope in ("user", "worker"):
                asked = {"period": period, "scope": scope, "user": "ours", "most": 10}
                row = connection.execute(
                    "explain (analyze, buffers, format json) " + _QUERY, asked
                ).fetchone()
                assert row is not None
                plan = row["QUERY PLAN"][0]["Plan"]
                blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
                cost.setdefault((period, scope), []).append(blocks)
    for period in PERIODS:
        for scope in ("user", "worker"):
            everybody = connection.execute(
                "select * from bests where period = %s and scope = %s and btc_address = 'ours' "
                "order by best_difficulty desc",
                [period, scope],
            ).fetchall()
            asked = {"period": period, "scope": scope, "user": "ours", "most": 10}
            assert connection.execute(_QUERY, asked).fetchall() == everybody
            assert len(everybody) == (1 if scope == "user" else 2)
            few, many = cost[period, scope]
            assert many < 3 * few, (period, scope, few, many)  # ten times as many others
    assert bests(database_url, "--user", "nobody") == []
