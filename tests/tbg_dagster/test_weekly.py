"""The weekly reset: boundaries, ties, corrections, and news told once."""

import json
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from tbg_core.names import WEEKLY_RESET_STREAM, leaderboard_key, week_start
from tbg_dagster import clock
from tbg_dagster.weekly.week import announce, bounds, finalise, ranking, result_of
from tests.tbg_dagster.conftest import (
    Connection,
    History,
    Run,
    last_monday,
    metadata_of,
    utc,
)


def week() -> date:
    """The week that closed last."""
    return last_monday().date()


def key() -> str:
    """Its partition."""
    return week().isoformat()


def rows(connection: Connection, of: date | None = None) -> list[dict[str, Any]]:
    return connection.execute(
        "select w.*, u.btc_address as user from weekly_best_diff w "
        "join users u on u.id = w.user_id where week_start = %s order by rank",
        [of or week()],
    ).fetchall()


def told(client: Any) -> list[dict[str, Any]]:
    return [json.loads(fields["data"]) for _, fields in client.xrange(WEEKLY_RESET_STREAM)]


def test_the_week_begins_on_monday_midnight_utc_and_not_a_microsecond_before(
    connection: Connection, history: History, run: Run
) -> None:
    monday = last_monday()
    history.share("early.x", monday - timedelta(microseconds=1), 9e9)  # Sunday 23:59:59.999999
    history.share("first.x", monday, 5000.0)
    history.share("last.x", monday + timedelta(days=7, microseconds=-1), 7000.0)
    history.share("late.x", monday + timedelta(days=7), 8e9)  # the next Monday 00:00:00
    run("weekly_reset", key())
    assert [(row["user"], row["rank"]) for row in rows(connection)] == [("last", 1), ("first", 2)]
    before = (monday - timedelta(days=7)).date()
    finalise(connection, before)
    assert [row["user"] for row in rows(connection, before)] == ["early"]


@pytest.mark.parametrize(
    ("moment", "monday", "name"),
    [
        (utc(2020, 12, 27, 23, 59, 59, 999999), date(2020, 12, 21), "2020-W52"),
        (utc(2020, 12, 28), date(2020, 12, 28), "2020-W53"),
        (utc(2021, 1, 3, 23, 59, 59, 999999), date(2020, 12, 28), "2020-W53"),
        (utc(2021, 1, 4), date(2021, 1, 4), "2021-W01"),
        (utc(2025, 12, 29), date(2025, 12, 29), "2026-W01"),
    ],
)
def test_weeks_across_a_new_year_are_the_iso_weeks(
    connection: Connection, history: History, moment: datetime, monday: date, name: str
) -> None:
    history.share("a.x", moment, 4000.0)
    assert week_start(moment) == monday
    assert finalise(connection, monday).users == 1
    assert result_of(monday, ranking(connection, monday))["week"] == name
    for other in (monday - timedelta(days=7), monday + timedelta(days=7)):
        assert finalise(connection, other).users == 0


def test_a_week_is_its_valid_shares_and_ties_go_to_the_earlier(
    connection: Connection, history: History, run: Run
) -> None:
    monday = last_monday()
    history.share("a.slow", monday + timedelta(hours=2), 5000.0, share_hash=b"\x02" * 32)
    history.share("a.fast", monday + timedelta(hours=1), 5000.0, share_hash=b"\x01" * 32)
    history.share("a.fast", monday + timedelta(hours=3), 10.0, difficulty=0.3)
    history.share("b.", monday + timedelta(hours=1, microseconds=1), 5000.0)
    history.share("c.", monday, 9e9, reject="stale")
    run("weekly_reset", key())
    found = rows(connection)
    assert [(row["user"], row["rank"]) for row in found] == [("a", 1), ("b", 2)]
    assert found[0]["best_share_time"] == monday + timedelta(hours=1)
    assert found[0]["best_worker_id"] == history.workers["a.fast"][1]
    assert found[0]["best_share_hash"] == b"\x01" * 32
    assert (found[0]["total_shares"], found[0]["total_work"]) == (3, 2000.3)
    assert found[0]["finalized_at"] is not None


def test_the_result_replaces_what_realtime_had_said(
    connection: Connection, history: History, run: Run
) -> None:
    history.share("a.x", last_monday(), 5000.0)
    for user, best in (("a.x", 7777.0), ("ghost.x", 1e12)):
        connection.execute(
            "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
            "values (%s, %s, %s, %s)",
            [history.worker(user)[0], week(), best, last_monday()],
        )
    run("weekly_reset", key())
    assert [(row["user"], row["best_difficulty"]) for row in rows(connection)] == [("a", 5000.0)]


def test_a_result_is_written_in_the_order_of_the_users_as_the_writer_writes_bests(
    connection: Connection, history: History
) -> None:
    # Two that write rows of the same users in two orders would wait for each other.
    for user, best in (("a", 1000.0), ("b", 3000.0), ("c", 2000.0)):
        history.share(f"{user}.1", last_monday(), best)
    assert finalise(connection, last_monday().date()).users == 3
    written = connection.execute("select user_id from weekly_best_diff order by ctid").fetchall()
    assert [row["user_id"] for row in written] == sorted(row["user_id"] for row in written)


def test_the_news_are_told_once_and_repeating_changes_nothing(
    connection: Connection, client: Any, history: History, run: Run
) -> None:
    for number in range(12):
        history.share(
            f"user{number:02d}.w", last_monday() + timedelta(hours=number), 2000.0 + number
        )
    result = run("weekly_reset", key())
    before = rows(connection)
    assert metadata_of(result, "weekly_leaderboard")["told"] == "result"

    result = run("weekly_reset", key())
    assert metadata_of(result, "weekly_leaderboard")["told"] == "unchanged"
    assert rows(connection) == before  # finalized_at included
    (news,) = told(client)
    assert (news["kind"], news["revision"], news["entrants"]) == ("result", 1, 12)
    assert (news["week"], news["week_start"]) == (f"{week():%G-W%V}", key())
    assert news["winner"]["user"] == "user11"
    assert [row["rank"] for row in news["top"]] == list(range(1, 11))


def test_late_shares_that_change_the_result_are_told_as_a_correction(
    connection: Connection, client: Any, history: History, run: Run
) -> None:
    monday = last_monday()
    history.share("a.x", monday, 5000.0)
    history.share("b.x", monday, 4000.0)
    run("weekly_reset", key())
    first = {row["user"]: row["finalized_at"] for row in rows(connection)}

    history.share("a.x", monday + timedelta(minutes=1), 1500.0)  # changes no place
    history.late(monday, 1)
    run("weekly_reset", key())
    assert len(told(client)) == 1

    history.share("b.x", monday + timedelta(days=6), 9000.0)
    history.late(monday + timedelta(days=6), 1)
    result = run("weekly_reset", key())
    assert metadata_of(result, "weekly_leaderboard")["told"] == "correction"
    news = told(client)
    assert [(item["kind"], item["revision"]) for item in news] == [("result", 1), ("correction", 2)]
    assert [item["winner"]["user"] for item in news] == ["a", "b"]
    assert rows(connection)[0]["finalized_at"] > first["b"]
    settled = connection.execute(
        "select bool_and(settled_weekly = shares) as all from late_share_hours"
    ).fetchone()
    assert settled == {"all": True}


def test_a_week_without_shares_is_published_as_empty(client: Any, run: Run) -> None:
    result = run("weekly_reset", key())
    assert metadata_of(result, "weekly_best_diff")["dagster/partition_row_count"] == 0
    (news,) = told(client)
    assert (news["winner"], news["entrants"], news["top"]) == (None, 0, [])


def test_the_closed_leaderboard_is_frozen_and_the_new_one_begins_empty(
    client: Any, history: History, run: Run
) -> None:
    history.share("a.x", last_monday(), 5000.0)
    board = leaderboard_key(week())
    client.zadd(board, {"a": 4999.0, "gone": 1.0})
    run("weekly_reset", key())
    assert client.zrange(board, 0, -1, withscores=True) in ([("a", 5000.0)], [["a", 5000.0]])
    end = bounds(week())[1]
    assert client.expiretime(board) == int((end + timedelta(days=35)).timestamp())
    assert client.exists(leaderboard_key(week_start(clock.now()))) == 0


@pytest.mark.plain_postgresql
def test_a_week_whose_raw_shares_are_going_is_left_as_it_stands(
    connection: Connection, history: History, run: Run
) -> None:
    monday = last_monday()
    history.share("a.x", monday, 5000.0)
    history.share("a.x", monday + timedelta(days=2), 100.0)
    run("hourly_rollup", f"{key()}-00:00")
    run("hourly_rollup", f"{(monday + timedelta(days=2)).date()}-00:00")
    run("daily_rollup", key())
    run("daily_rollup", f"{(monday + timedelta(days=2)).date()}")
    run("weekly_reset", key())
    before = rows(connection)
    connection.execute("select drop_partitions(%s)", [(monday + timedelta(days=1)).date()])
    result = run("weekly_reset", key(), raise_on_error=False)
    assert not result.success
    assert "The result stands" in str(result.failure_data_for_node("weekly_best_diff"))
    assert rows(connection) == before


def test_a_wrong_rollup_keeps_the_week_from_being_published(
    connection: Connection, client: Any, history: History, run: Run, flavour: str
) -> None:
    if flavour != "postgresql":
        pytest.skip("a continuous aggregate cannot be falsified by hand")
    history.share("a.x", last_monday(), 5000.0)
    run("hourly_rollup", f"{key()}-00:00")
    connection.execute("update shares_hourly set work = work + 1")
    result = run("weekly_reset", key(), raise_on_error=False)
    assert not result.success
    found = {item.check_name: item.passed for item in result.get_asset_check_evaluations()}
    assert found == {
        "weeks_equal_hours": False,
        "bests_reach_their_hours": True,
        "winners_are_proven": True,
        "week_stands_on_its_roots": True,
    }
    assert told(client) == []

    connection.execute("update shares_hourly set work = work - 1")
    run("weekly_reset", key())
    assert len(told(client)) == 1


def test_weeks_that_are_not_finalised_are_not_published(
    connection: Connection, history: History
) -> None:
    user, _ = history.worker("a.x")
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
        "values (%s, %s, 1, now())",
        [user, week()],
    )
    with pytest.raises(dg.Failure, match="not finalised"):
        ranking(connection, week())


def test_a_message_survives_a_delivery_that_died_halfway(
    connection: Connection, client: Any, history: History, run: Run
) -> None:
    history.share("a.x", last_monday(), 5000.0)
    finalise(connection, week())
    announce(connection, week(), result_of(week(), ranking(connection, week())))
    run("weekly_reset", key())
    # As if the process had died after Redis had answered.
    connection.execute("update outbox set sent_at = null, entry_id = null")
    run("weekly_reset", key())
    assert len(told(client)) == 1


def test_everybody_sees_the_bests_of_session_week_and_all_time(
    connection: Connection, history: History
) -> None:
    now = clock.now()
    user, _ = history.worker("alice.x")
    history.worker("bob.x")
    history.days(now - timedelta(days=1), now)

    def event(name: str, age: timedelta, **payload: Any) -> None:
        connection.execute(
            "insert into mining_events (time, event, payload) values (%s, %s, %s)",
            [now - age, name, json.dumps({"user": "alice", "worker": "x", **payload})],
        )

    event("share_best_diff", timedelta(hours=3), period="session", new_best_diff=99999.0)
    event("miner_connected", timedelta(hours=2))
    event("share_best_diff", timedelta(hours=1), period="session", new_best_diff=300.0)
    event("share_best_diff", timedelta(minutes=9), period="session", new_best_diff=700.0)
    event("share_best_diff", timedelta(minutes=9), period="alltime", new_best_diff=5e5)
    connection.execute(
        "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
        "values (%s, '2024-01-01', 1e6, now())",
        [user],
    )
    with connection.transaction():  # one now()
        connection.execute(
            "insert into weekly_best_diff (user_id, week_start, best_difficulty, best_share_time) "
            "values (%s, date_trunc('week', now() at time zone 'UTC'), 800, now())",
            [user],
        )
        found = connection.execute("select * from user_bests order by btc_address").fetchall()
    assert [
        (row["btc_address"], row["session_best"], row["week_best"], row["alltime_best"])
        for row in found
    ] == [("alice", 700.0, 800.0, 1e6), ("bob", None, None, None)]
