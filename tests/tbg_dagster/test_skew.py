"""An engine's clock that jumps: what it touches is in no weekly result until a person decides."""

import json
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from tbg_core.names import WEEKLY_RESET_STREAM, week_start
from tbg_dagster.realtime import checks, skew
from tbg_dagster.resources import Database
from tbg_dagster.weekly.week import finalise
from tests.clock import Clock
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday, metadata_of

HOUR = timedelta(hours=1)


def mined(
    connection: Connection, history: History, worker: str, hour: datetime, first: int, best: float
) -> None:
    """Two shares of an engine boot in an hour, with their numbers and their line in the ledger."""
    connection.execute(
        "insert into engine_instances (instance) values ('pool/1') on conflict do nothing"
    )
    (row,) = connection.execute("select id from engine_instances").fetchall()
    for seq, diff in ((first, best), (first + 1, 1500.0)):
        when = hour + timedelta(minutes=seq % 50)
        history.share(worker, when, diff, instance_id=row["id"], seq=seq)
    connection.execute(
        "insert into ledger as l (instance_id, hour, received, first_seq, last_seq, committed) "
        "values (%s, %s, 2, %s, %s, 2) on conflict (instance_id, hour) do update set "
        "first_seq = least(l.first_seq, excluded.first_seq), "
        "last_seq = greatest(l.last_seq, excluded.last_seq)",
        [row["id"], hour, first, first + 1],
    )


def noted(connection: Connection) -> list[tuple[datetime, str]]:
    rows = connection.execute("select hour, kind from skewed_hours order by hour").fetchall()
    return [(row["hour"], row["kind"]) for row in rows]


def told(client: Any) -> list[tuple[str, str]]:
    """Kind and winner of every message."""
    messages = (json.loads(fields["data"]) for _, fields in client.xrange(WEEKLY_RESET_STREAM))
    return [(item["kind"], item["winner"]["user"]) for item in messages]


def test_shares_that_a_jump_back_put_into_a_finalised_week_publish_no_correction(
    connection: Connection, client: Any, history: History, run: Run, database_url: str
) -> None:
    monday, later = last_monday(3), last_monday(1)
    key = f"{monday:%Y-%m-%d}"
    mined(connection, history, "honest.1", monday + HOUR, 1, 5000.0)
    run("weekly_reset", key)
    # Two weeks on, the clock goes back for an hour.
    mined(connection, history, "honest.1", later, 3, 2000.0)
    mined(connection, history, "lucky.1", monday + 5 * HOUR, 5, 9000.0)
    mined(connection, history, "honest.1", monday + 6 * HOUR, 7, 7000.0)
    history.late(monday + 5 * HOUR, 2)
    mined(connection, history, "honest.1", later + HOUR, 9, 2000.0)
    result = run("weekly_reset", key)
    assert noted(connection) == [(monday + 5 * HOUR, "behind"), (monday + 6 * HOUR, "behind")]
    assert told(client) == [("result", "honest")]
    assert metadata_of(result, "weekly_best_diff")["shares_left_out"] == 4
    judged = checks.clocks_of_engines_are_right(Database(url=database_url))
    assert isinstance(judged, dg.AssetCheckResult)
    assert not judged.passed
    assert f"{monday + 5 * HOUR:%F %H}h pool/1: clock behind" in str(judged.description)

    connection.execute(
        "update skewed_hours set decision = case when hour = %s then 'keep' else 'leave out' end",
        [monday + 5 * HOUR],
    )
    run("weekly_reset", key)
    assert told(client) == [("result", "honest"), ("correction", "lucky")]
    judged = checks.clocks_of_engines_are_right(Database(url=database_url))
    assert isinstance(judged, dg.AssetCheckResult)
    assert judged.passed


def test_shares_from_the_future_are_in_no_result_when_their_week_has_come(
    connection: Connection, history: History, clock: Clock
) -> None:
    this_hour = clock.now().replace(minute=0, second=0, microsecond=0)
    ahead = this_hour + timedelta(days=14)
    mined(connection, history, "honest.1", this_hour - 5 * HOUR, 1, 2000.0)
    mined(connection, history, "lucky.1", ahead, 3, 9000.0)
    mined(connection, history, "honest.1", this_hour - 3 * HOUR, 5, 2000.0)
    assert skew.note(connection) == 1
    clock.move(timedelta(days=30))
    mined(connection, history, "honest.1", ahead + 3 * HOUR, 7, 3000.0)
    assert skew.note(connection) == 0
    assert noted(connection) == [(ahead, "ahead")]  # and nothing of the hours before
    finalise(connection, week_start(ahead))
    finalise(connection, week_start(ahead + 3 * HOUR))
    users = connection.execute(
        "select distinct btc_address from weekly_best_diff w join users u on u.id = w.user_id"
    ).fetchall()
    assert users == [{"btc_address": "honest"}]


def test_what_only_came_late_is_no_skew(connection: Connection, history: History) -> None:
    hour = last_monday(1)
    mined(connection, history, "a.1", hour, 1, 2000.0)
    mined(connection, history, "a.1", hour + 9 * HOUR, 21, 2000.0)
    mined(connection, history, "a.1", hour + 3 * HOUR, 11, 2000.0)  # out of a spool
    mined(connection, history, "a.1", hour + 8 * HOUR, 23, 2000.0)  # at the turn of an hour
    assert skew.note(connection) == 0


def test_a_clock_that_was_wrong_from_the_start_shows_by_the_time_of_receipt(
    connection: Connection, history: History, clock: Clock
) -> None:
    hour = clock.now().replace(minute=0, second=0, microsecond=0) - 50 * HOUR
    mined(connection, history, "slow.1", hour, 1, 5000.0)
    connection.execute("update ledger set skew_min = -9e9, skew_max = -8e9")
    connection.execute("update engine_instances set instance = 'sharelog/a/1'")
    assert skew.note(connection) == 0  # a share log is late by nature
    connection.execute("update engine_instances set instance = 'pool/1', source = 'simulated'")
    assert skew.note(connection) == 0
    connection.execute("update engine_instances set source = 'hosted'")
    # An outage: what came later came in time.
    mined(connection, history, "slow.1", hour + HOUR, 3, 5000.0)
    connection.execute("update ledger set skew_max = -5 where first_seq = 3")
    assert skew.note(connection) == 0
    connection.execute("update ledger set skew_min = -9e9, skew_max = -8e9")
    assert skew.note(connection) == 2
    assert noted(connection) == [(hour, "behind"), (hour + HOUR, "behind")]


def test_a_clock_that_was_ahead_is_noted_when_nobody_looked_at_the_time(
    connection: Connection, history: History, clock: Clock
) -> None:
    hour = clock.now().replace(minute=0, second=0, microsecond=0) - 50 * HOUR
    mined(connection, history, "fast.1", hour, 1, 5000.0)
    connection.execute("update ledger set skew_min = 0, skew_max = 599e6")
    assert skew.note(connection) == 0
    connection.execute("update ledger set skew_max = 601e6")
    assert skew.note(connection) == 1
    assert noted(connection) == [(hour, "ahead")]
