"""The weekly result from the hours is what the raw shares say."""

from datetime import timedelta
from fractions import Fraction
from typing import Any

import dagster as dg
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbg_dagster.partitions import DAY, HOUR, WEEK
from tbg_dagster.rollup import rollup_of
from tbg_dagster.rollup.rollup import TimescaleRollup
from tbg_dagster.weekly.week import finalise, stale_spans, wrong_users
from tests.tbg_dagster.conftest import Connection, History, Run, last_monday

# The same from the raw shares, summed exactly.
RAW = """
with kept as (
    select s.* from shares s
    where time >= %(start)s and time < %(start)s + interval '7 days' and is_valid
      and not exists (
          select from skewed_hours k
          where k.hour = date_trunc('hour', s.time, 'UTC')
            and k.instance_id = coalesce(s.instance_id, 0)
            and k.decision is distinct from 'keep'
      )
),
sums as (
    select user_id, count(*) as total_shares, sum(difficulty::numeric)::float8 as total_work
    from kept group by 1
),
bests as (
    select distinct on (user_id)
        user_id, share_diff as best_difficulty, time as best_share_time,
        worker_id as best_worker_id, share_hash as best_share_hash
    from kept order by user_id, share_diff desc, time, worker_id, share_hash
)
select
    *,
    row_number() over (order by best_difficulty desc, best_share_time, user_id)::integer as rank
from bests join sums using (user_id) order by user_id
"""
FOUND = """
select user_id, best_difficulty, best_share_time, best_worker_id, best_share_hash,
    total_shares, total_work, rank
from weekly_best_diff where week_start = %(week)s order by user_id
"""

# Few values, so that ties are many: within a user, a worker, an hour, and at one moment.
MOMENTS = st.builds(
    lambda hour, micros: hour * HOUR + timedelta(microseconds=micros),
    st.sampled_from([0, 1, 30, 31, 100, 167]),
    st.sampled_from([0, 1, 1_800_000_000, 3_599_999_999]),
)
# And of few digits: an hour's sum of more than 15 is rounded, as the next property has it.
DIFFICULTIES = st.one_of(
    st.integers(1, 10**6).map(float),
    st.integers(1, 10**6).map(lambda number: number / 64),
    st.sampled_from([0.1, 0.3, 0.001, 1000.7]),
)
SHARES = st.tuples(
    st.sampled_from(["a.1", "a.2", "b.", "b.x", "c.1"]),
    MOMENTS,
    DIFFICULTIES,
    st.sampled_from([1.0, 1.5, 7.25]),  # how many times its difficulty a share reached
    st.sampled_from([None, None, None, "stale"]),
    st.integers(0, 3),
    st.sampled_from([0, 1]),  # the engine's boot
)


def rows(connection: Connection, statement: str) -> list[dict[str, Any]]:
    monday = last_monday()
    return connection.execute(
        statement.encode(), {"start": monday, "week": monday.date()}
    ).fetchall()


def forget(connection: Connection) -> None:
    """Empties the week, its hours and days included: they are no rollups of dropped shares."""
    monday = last_monday()
    for table in ("shares", "weekly_best_diff", "skewed_hours"):
        connection.execute(psycopg.sql.SQL("delete from {}").format(psycopg.sql.Identifier(table)))
    for view in ("shares_hourly", "shares_daily"):
        if isinstance(rollup_of(connection), TimescaleRollup):
            connection.execute(
                "call refresh_continuous_aggregate(%s, %s::timestamptz, %s::timestamptz)",
                [view, monday, monday + WEEK],
            )
        else:
            connection.execute(
                psycopg.sql.SQL("delete from {}").format(psycopg.sql.Identifier(view))
            )


@settings(max_examples=40)
@given(data=st.data())
def test_the_result_from_the_hours_is_that_of_the_raw_shares_to_the_last_bit(
    connection: Connection, history: History, data: st.DataObject
) -> None:
    monday = last_monday()
    history.days(monday, monday + WEEK)
    forget(connection)
    shares = data.draw(st.lists(SHARES, max_size=40))
    for name, moment, difficulty, times, reject, number, boot in shares:
        history.share(
            name, monday + moment, difficulty * times, difficulty, reject,
            bytes([number]) * 32, instance_id=boot or None,
        )  # fmt: skip
    for hour in data.draw(st.sets(st.sampled_from([0, 30, 167]))):
        connection.execute(
            "insert into skewed_hours (hour, instance_id, kind) values (%s, %s, 'behind')",
            [monday + hour * HOUR, data.draw(st.sampled_from([0, 1]))],
        )
    # As the schedules do.
    rollup_of(connection).refresh_hours(connection, monday, monday + WEEK)
    finalise(connection, monday.date())
    assert rows(connection, FOUND) == rows(connection, RAW)
    assert wrong_users(connection, monday.date()) == []


@given(st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=30))
@settings(max_examples=20)
def test_work_of_any_difficulty_is_the_sum_to_fifteen_digits(
    connection: Connection, history: History, difficulties: list[float]
) -> None:
    monday = last_monday()
    history.days(monday, monday)
    forget(connection)
    for number, difficulty in enumerate(difficulties):
        history.share("a.x", monday + number * HOUR / 10, difficulty, difficulty)
    rollup_of(connection).refresh_hours(connection, monday, monday + DAY)
    finalise(connection, monday.date())
    (row,) = rows(connection, FOUND)
    exact = sum(map(Fraction, difficulties))
    assert abs(Fraction(row["total_work"]) - exact) <= exact * Fraction(1, 10**14)


def test_hours_rebuilt_in_another_order_change_no_result(
    connection: Connection, history: History
) -> None:
    monday = last_monday()
    for number, difficulty in enumerate([1e16, 1.0, 1.0, 1.0, 1.0]):
        history.share("a.x", monday + timedelta(seconds=number), 1e17, difficulty)
    finalise(connection, monday.date())
    before = connection.execute("select * from weekly_best_diff").fetchall()
    moved = connection.execute("delete from shares where difficulty = 1e16 returning *").fetchall()
    for share in moved:
        history.share(
            "a.x", share["time"], share["share_diff"], share["difficulty"], None,
            share["share_hash"],
        )  # fmt: skip
    rollup_of(connection).refresh_hours(connection, monday, monday + DAY)
    assert finalise(connection, monday.date()).changed == 0
    assert connection.execute("select * from weekly_best_diff").fetchall() == before


def test_only_what_the_daily_statistics_do_not_prove_is_counted_again(
    connection: Connection, history: History, run: Run
) -> None:
    monday = last_monday()
    tuesday = monday + DAY
    for day in (monday, tuesday):
        for hour in (0, 1, 5):
            history.share("a.x", day + hour * HOUR, 5000.0)
    run("hourly_rollup", f"{monday:%Y-%m-%d}-00:00", f"{tuesday:%Y-%m-%d}-23:00")
    run("daily_rollup", f"{monday:%Y-%m-%d}")
    assert stale_spans(connection, monday.date()) == []
    # On a proven day, only shares that the books mention are looked for; on other days, all.
    history.share("a.x", monday + 2 * HOUR)
    history.share("a.x", tuesday + HOUR)
    history.share("a.x", tuesday + 2 * HOUR)
    assert stale_spans(connection, monday.date()) == [(tuesday + HOUR, tuesday + 3 * HOUR)]
    history.late(monday + 2 * HOUR, 1)
    assert stale_spans(connection, monday.date()) == [
        (monday + 2 * HOUR, monday + 3 * HOUR),
        (tuesday + HOUR, tuesday + 3 * HOUR),
    ]


@pytest.mark.parametrize("counted", [True, False])
def test_a_result_that_differs_from_the_raw_shares_is_found_with_and_without_statistics(
    connection: Connection, history: History, run: Run, counted: bool
) -> None:
    monday = last_monday()
    for name, best in (("a.x", 5000.0), ("b.x", 4000.0)):
        history.share(name, monday, best)
    run("hourly_rollup", f"{monday:%Y-%m-%d}-00:00")
    if counted:
        run("daily_rollup", f"{monday:%Y-%m-%d}")
    finalise(connection, monday.date())
    assert wrong_users(connection, monday.date()) == []
    for column, value in (("total_shares", 2), ("total_work", 1001), ("best_difficulty", 4999)):
        with connection.transaction(force_rollback=True):
            connection.execute(
                psycopg.sql.SQL("update weekly_best_diff set {} = %s where user_id = 1").format(
                    psycopg.sql.Identifier(column)
                ),
                [value],
            )
            assert wrong_users(connection, monday.date()) == [1]


def test_statistics_that_wait_to_be_computed_again_make_no_result_wrong(
    connection: Connection, history: History, run: Run
) -> None:
    monday = last_monday()
    history.share("a.x", monday, 5000.0)
    run("hourly_rollup", f"{monday:%Y-%m-%d}-00:00")
    run("daily_rollup", f"{monday:%Y-%m-%d}")
    history.share("a.x", monday + timedelta(minutes=1), 6000.0)
    history.late(monday, 1)
    run("weekly_reset", f"{monday:%Y-%m-%d}")
    row = connection.execute("select * from weekly_best_diff").fetchone()
    assert row is not None
    assert (row["best_difficulty"], row["total_shares"]) == (6000.0, 2)


@pytest.mark.plain_postgresql
def test_an_hour_that_names_a_best_that_no_share_has_leaves_the_result_as_it_stands(
    connection: Connection, history: History, flavour: str
) -> None:
    if flavour != "postgresql":
        pytest.skip("a continuous aggregate cannot be falsified by hand")
    monday = last_monday()
    history.share("a.x", monday, 5000.0)
    rollup_of(connection).refresh_hours(connection, monday, monday + HOUR)
    finalise(connection, monday.date())
    before = connection.execute("select * from weekly_best_diff").fetchall()
    connection.execute("update shares_hourly set best_share_diff = 5001")
    with pytest.raises(dg.Failure, match="no raw share has the best difficulty"):
        finalise(connection, monday.date())
    assert connection.execute("select * from weekly_best_diff").fetchall() == before
