"""Statistics and hours are what the shares say, one by one."""

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tbg_dagster.partitions import DAY
from tbg_dagster.queries import query
from tbg_dagster.rollup import rollup_of
from tests.tbg_dagster.conftest import Connection, History, last_monday
from tests.tbg_dagster.test_weekly_from_hours import forget

# Each sum over the shares one by one, each gap by numeric seconds: slow, and exact.
SHARE_BY_SHARE = """
with day as (
    select
        *,
        extract(epoch from time - lag(time) over (partition by worker_id order by time))::float8
            as gap
    from shares
    where time >= %(start)s and time < %(end)s
),
per_worker as (
    select
        worker_id,
        min(user_id) as user_id,
        count(*) filter (where is_valid) as accepted,
        count(*) filter (where not is_valid) as rejected,
        coalesce(sum(difficulty::numeric) filter (where is_valid), 0)::float8 as work,
        coalesce(sum((difficulty * difficulty)::numeric) filter (where is_valid), 0)::float8
            as work_squared,
        max(share_diff) filter (where is_valid) as best_share_diff,
        max(gap) as longest_gap,
        percentile_cont(0.5) within group (order by gap) as median
    from day
    group by worker_id
)
select
    worker_id, user_id, accepted, rejected, work, work_squared, best_share_diff, longest_gap,
    (
        select coalesce(sum(gap order by gap), 0)
        from day d
        where d.worker_id = p.worker_id and gap <= greatest(60, 14 / ln(2.0) * median)
    ) as uptime,
    (
        select count(*)
        from day d
        where d.worker_id = p.worker_id and gap <= greatest(60, 14 / ln(2.0) * median)
    ) as explained,
    (
        select coalesce(jsonb_object_agg(reason, rejects), '{}')::text
        from (
            select coalesce(reject_reason, 'unknown') as reason, count(*) as rejects
            from shares r
            where r.worker_id = p.worker_id and not is_valid
                and time >= %(start)s and time < %(end)s
            group by 1
        ) counted
    ) as rejects_by_reason
from per_worker p
order by worker_id
"""
HOUR_BY_HOUR = """
select
    date_trunc('hour', time, 'UTC') as bucket, user_id, worker_id, count(*) as shares,
    count(*) filter (where is_valid) as accepted, count(*) filter (where not is_valid) as rejected,
    coalesce(sum(difficulty::numeric) filter (where is_valid), 0)::float8 as work,
    max(share_diff) filter (where is_valid) as best_share_diff, min(time) as first_share,
    max(time) as last_share
from shares
group by 1, 2, 3
order by 1, 2, 3
"""

MOMENTS = st.builds(
    lambda seconds, micros: timedelta(seconds=seconds, microseconds=micros),
    st.sampled_from([0, 1, 59, 600, 3599, 3600, 43_000, 86_399]),
    st.sampled_from([0, 1, 333_333, 999_999]),
)
SHARES = st.tuples(
    st.sampled_from(["a.1", "a.2", "b.", "c.1"]),
    MOMENTS,
    st.one_of(st.floats(1e-3, 1e9), st.sampled_from([0.1, 0.3, 1000.0])),
    st.sampled_from([None, None, "stale", 'a "quoted", reason\\', ""]),
)


def written(connection: Connection, history: History, shares: list[Any]) -> None:
    forget(connection)
    history.days(last_monday(), last_monday())
    for name, moment, difficulty, reject in shares:
        history.share(name, last_monday() + moment, difficulty * 1.5, difficulty, reject)


@settings(max_examples=40)
@given(shares=st.lists(SHARES, max_size=30))
def test_the_statistics_are_those_of_a_pass_share_by_share_to_the_last_bit(
    connection: Connection, history: History, shares: list[Any]
) -> None:
    written(connection, history, shares)
    # A reject without a reason is one of its own.
    connection.execute("update shares set reject_reason = null where reject_reason = ''")
    day = {"start": last_monday(), "end": last_monday() + DAY}
    found = connection.execute(query("tbg_dagster.workers", "stats.sql"), day).fetchall()
    assert found == connection.execute(SHARE_BY_SHARE, day).fetchall()


@settings(max_examples=30)
@given(shares=st.lists(SHARES, max_size=30))
def test_hours_hold_what_their_shares_say(
    connection: Connection, history: History, shares: list[Any]
) -> None:
    # Whole difficulties: their sums are exact as doubles.
    written(connection, history, [(w, at, round(d) + 1.0, reject) for w, at, d, reject in shares])
    rollup_of(connection).refresh_hours(connection, last_monday(), last_monday() + DAY)
    found = connection.execute(
        "select * from shares_hourly order by bucket, user_id, worker_id"
    ).fetchall()
    assert found == connection.execute(HOUR_BY_HOUR).fetchall()
