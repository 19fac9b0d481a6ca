-- depends: 0007_receipts
-- Shares and events on TimescaleDB: hypertables with one-day chunks, and continuous aggregates for
-- the rollups. Raw rows are dropped by housekeeping alone, as on plain PostgreSQL: a retention policy
-- knows neither of days that were brought back, nor of shares that are not counted yet. The
-- columnstore begins after 30 days: late shares do not change older hours.

create extension if not exists timescaledb;

-- Columns stand in order of size, so that no row pays for padding; hashes and nonces are bytes (the
-- view shares_hex shows them). There is no foreign key: the writer resolves users and workers
-- itself, and a check per share would cost more than the share. (instance_id, seq) is kept unique by
-- the writer (engine_instances): a unique index would have to contain time and be written for every
-- share.
create table shares (
    time          timestamptz not null,
    share_diff    double precision,
    difficulty    double precision not null,
    seq           bigint,
    user_id       integer not null,
    worker_id     integer not null,
    instance_id   integer,
    is_valid      boolean not null,
    is_block      boolean not null default false,
    source        varchar(16) not null default 'hosted',
    nonce         bytea,
    nonce2        bytea,
    share_hash    bytea,
    job_id        text,
    ip_address    inet,
    reject_reason text
);

comment on table shares is 'Raw shares, kept for RETENTION_DAYS.';
comment on column shares.time is 'time that the engine gave the share';
comment on column shares.share_diff is 'share difficulty; 1 is 2^32 hashes; null if the engine does not know it';
comment on column shares.difficulty is 'difficulty that the share had to reach';
comment on column shares.seq is 'number in the engine boot; null if the engine does not number';
comment on column shares.user_id is 'the user';
comment on column shares.worker_id is 'the worker; null if the event names none';
comment on column shares.instance_id is 'the engine boot; null if the event names none';
comment on column shares.is_valid is 'whether the engine accepted it';
comment on column shares.is_block is 'whether it solves a block';
comment on column shares.source is 'hosted, or simulated';
comment on column shares.nonce is 'nonce as the miner sent it';
comment on column shares.nonce2 is 'extranonce 2 as the miner sent it';
comment on column shares.share_hash is 'hash of the header, in the order in which explorers show it';
comment on column shares.job_id is 'job that the share answers';
comment on column shares.ip_address is 'address of the miner';
comment on column shares.reject_reason is 'why it was refused; null if it is valid';

select create_hypertable(
    'shares', by_range('time', interval '1 day'), create_default_indexes => false
);

create index shares_user_time on shares (user_id, time desc);

create index shares_worker_time on shares (worker_id, time desc);

-- Rows arrive in the order of time: a block-range index finds an hour at almost no cost.
create index shares_time on shares using brin (time) with (pages_per_range = 16);

-- Few shares solve a block, and every check of blocks asks for them.
create index shares_blocks on shares (time) where is_block;

alter table shares set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'user_id',
    timescaledb.orderby = 'time desc'
);
call add_columnstore_policy('shares', after => interval '30 days', if_not_exists => true);

create table mining_events (
    time        timestamptz not null,
    seq         bigint,
    instance_id integer,
    event       text not null,
    source      varchar(16) not null default 'hosted',
    payload     jsonb not null
);

comment on table mining_events is 'All other events, kept for RETENTION_DAYS.';
comment on column mining_events.time is 'time that the engine gave the event';
comment on column mining_events.seq is 'number in the engine boot; null if the engine does not number';
comment on column mining_events.instance_id is 'the engine boot; null if the event names none';
comment on column mining_events.event is 'kind, as in docs/events.md';
comment on column mining_events.source is 'hosted, or simulated';
comment on column mining_events.payload is 'data of the event, unknown fields included';

select create_hypertable(
    'mining_events', by_range('time', interval '1 day'), create_default_indexes => false
);

create index mining_events_event_time on mining_events (event, time desc);

-- Sessions and bests of a user: few events, asked for by user.
create index mining_events_bests on mining_events ((payload ->> 'user'), time desc)
where event in ('share_best_diff', 'miner_connected');

-- Which connections of a worker are open.
create index mining_events_connections on mining_events ((payload ->> 'user'), time desc)
where event in ('miner_connected', 'miner_disconnected');

-- When a worker connected last: a user with many workers has many connections.
create index mining_events_sessions
on mining_events ((payload ->> 'user'), (payload ->> 'worker'), time desc)
where event = 'miner_connected';

alter table mining_events set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'event',
    timescaledb.orderby = 'time desc'
);
call add_columnstore_policy('mining_events', after => interval '30 days', if_not_exists => true);

-- The days (UTC) that have a place for raw rows. A day without one was dropped; a day that has
-- one and lacks rows has lost them.
create function raw_days()
returns setof date
language sql stable as $$
    select distinct (range_start at time zone 'UTC')::date
    from timescaledb_information.chunks
    where hypertable_name in ('shares', 'mining_events')
$$;

-- Real-time: hours not yet refreshed are computed from the raw shares. No refresh
-- policy: Dagster drives the refreshes (docs/operations.md says why).
create materialized view shares_hourly
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select
    time_bucket(interval '1 hour', time) as bucket,
    user_id,
    worker_id,
    count(*) as shares,
    count(*) filter (where is_valid) as accepted,
    count(*) filter (where not is_valid) as rejected,
    coalesce(sum(difficulty) filter (where is_valid), 0) as work,
    max(share_diff) filter (where is_valid) as best_share_diff,
    min(time) as first_share,
    max(time) as last_share
from shares
group by 1, 2, 3
with no data;

comment on view shares_hourly is 'Shares by hour (UTC) and worker; kept for ever.';
comment on column shares_hourly.bucket is 'beginning of the hour';
comment on column shares_hourly.user_id is 'the user';
comment on column shares_hourly.worker_id is 'the worker; null if the events name none';
comment on column shares_hourly.shares is 'shares, valid or not';
comment on column shares_hourly.accepted is 'valid shares';
comment on column shares_hourly.rejected is 'refused shares';
comment on column shares_hourly.work is 'sum of the difficulty of valid shares; times 2^32 it is hashes';
comment on column shares_hourly.best_share_diff is 'greatest share difficulty of a valid share';
comment on column shares_hourly.first_share is 'time of the first share';
comment on column shares_hourly.last_share is 'time of the last share';

create materialized view shares_daily
with (timescaledb.continuous, timescaledb.materialized_only = false) as
select
    time_bucket(interval '1 day', bucket) as bucket,
    user_id,
    worker_id,
    sum(shares)::bigint as shares,
    sum(accepted)::bigint as accepted,
    sum(rejected)::bigint as rejected,
    sum(work) as work,
    max(best_share_diff) as best_share_diff,
    min(first_share) as first_share,
    max(last_share) as last_share
from shares_hourly
group by 1, 2, 3
with no data;

comment on view shares_daily is 'Shares by day (UTC) and worker; kept for ever.';
comment on column shares_daily.bucket is 'beginning of the day';
comment on column shares_daily.user_id is 'the user';
comment on column shares_daily.worker_id is 'the worker; null if the events name none';
comment on column shares_daily.shares is 'shares, valid or not';
comment on column shares_daily.accepted is 'valid shares';
comment on column shares_daily.rejected is 'refused shares';
comment on column shares_daily.work is 'sum of the difficulty of valid shares; times 2^32 it is hashes';
comment on column shares_daily.best_share_diff is 'greatest share difficulty of a valid share';
comment on column shares_daily.first_share is 'time of the first share';
comment on column shares_daily.last_share is 'time of the last share';

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

-- Every user's best difficulties: of the session, of the running week, of all time.
-- The session is the one that began when a worker of the user last connected. It is
-- looked for from the time on at which its user was last seen: the columnstore has no index by user,
-- and a user who left would otherwise cost a look at all events since. The hour is for last_seen,
-- which lags by seconds.
create view user_bests as
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

comment on view user_bests is 'Each user''s bests side by side.';
comment on column user_bests.user_id is 'the user';
comment on column user_bests.btc_address is 'address';
comment on column user_bests.display_name is 'as in users';
comment on column user_bests.session_since is 'beginning of the newest engine boot that has a best';
comment on column user_bests.session_best is 'share difficulty';
comment on column user_bests.week_start is 'Monday of the running week';
comment on column user_bests.week_best is 'share difficulty';
comment on column user_bests.week_best_at is 'time of that share';
comment on column user_bests.alltime_best is 'share difficulty';
comment on column user_bests.alltime_best_at is 'time of that share';
comment on column user_bests.alltime_week is 'Monday of its week';
