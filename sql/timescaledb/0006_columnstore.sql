-- depends: 0005_share_ledger
-- The columnstore for the rollups, which are kept forever, and the events. As for shares,
-- after 30 days: late shares do not change older hours.

-- Sorted by worker and not segmented: a worker has ten days of hours in a chunk, too few
-- for a batch of its own, and the batches' minima and maxima find a user or a worker.
alter materialized view shares_hourly set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = '',
    timescaledb.orderby = 'user_id, worker_id, bucket desc'
);
alter materialized view shares_daily set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = '',
    timescaledb.orderby = 'user_id, worker_id, bucket desc'
);

-- TimescaleDB grants a columnstore policy only beside a refresh policy, and refreshing is
-- Dagster's: these two never run (scheduled is false). Running one by hand would do
-- no harm: its window begins within retention, and long before the watermark.
select alter_job(
    add_continuous_aggregate_policy(
        'shares_hourly',
        start_offset => interval '29 days',
        end_offset => interval '1 hour',
        schedule_interval => interval '1 day'
    ),
    scheduled => false
);
select alter_job(
    add_continuous_aggregate_policy(
        'shares_daily',
        start_offset => interval '29 days',
        end_offset => interval '1 day',
        schedule_interval => interval '1 day'
    ),
    scheduled => false
);
call add_columnstore_policy('shares_hourly', after => interval '30 days', if_not_exists => true);
call add_columnstore_policy('shares_daily', after => interval '30 days', if_not_exists => true);

alter table mining_events set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'event',
    timescaledb.orderby = 'time desc'
);
call add_columnstore_policy('mining_events', after => interval '30 days', if_not_exists => true);

-- As before, but a session is looked for from the time on at which its user was last
-- seen: the columnstore has no index by user, and a user who left would otherwise cost a
-- look at all events since. The hour is for last_seen, which lags by seconds.
create or replace view user_bests as
select
    u.id as user_id,
    u.btc_address,
    u.display_name,
    session.since as session_since,
    session_best.best_difficulty as session_best,
    week.week_start,
    week.best_difficulty as week_best,
    week.best_share_time as week_best_at,
    alltime.best_difficulty as alltime_best,
    alltime.best_share_time as alltime_best_at,
    alltime.week_start as alltime_week
from users u
left join lateral (
    select e.time as since
    from mining_events e
    where e.event = 'miner_connected'
      and e.payload ->> 'user' = u.btc_address
      and e.time <= coalesce(u.last_seen, 'infinity') + interval '1 hour'
    order by e.time desc
    limit 1
) session on true
left join lateral (
    select max((e.payload ->> 'new_best_diff')::double precision) as best_difficulty
    from mining_events e
    where e.event = 'share_best_diff'
      and e.payload ->> 'user' = u.btc_address
      and e.payload ->> 'period' = 'session'
      and e.time >= session.since
) session_best on true
left join weekly_best_diff week
    on week.user_id = u.id
    and week.week_start = date_trunc('week', now() at time zone 'UTC')::date
left join lateral (
    select w.best_difficulty, w.best_share_time, w.week_start
    from weekly_best_diff w
    where w.user_id = u.id
    order by w.best_difficulty desc, w.best_share_time
    limit 1
) alltime on true;
