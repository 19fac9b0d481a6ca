-- depends: 0001_core
-- Shares and events on TimescaleDB: hypertables with one-day chunks, and
-- continuous aggregates for the rollups.

create extension if not exists timescaledb;

-- Columns stand in order of size, so that no row pays for padding; hashes and
-- nonces are bytes (the view shares_hex shows them). There is no foreign key: the
-- writer resolves users and workers itself, and a check per share would cost more
-- than the share. (instance_id, seq) is kept unique by the writer (engine_instances):
-- a unique index would have to contain time and be written for every share.
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

select create_hypertable('shares', by_range('time', interval '1 day'), create_default_indexes => false);

create index shares_user_time on shares (user_id, time desc);
create index shares_worker_time on shares (worker_id, time desc);
-- Rows arrive in the order of time: a block-range index finds an hour at almost no cost.
create index shares_time on shares using brin (time) with (pages_per_range = 16);

alter table shares set (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'user_id',
    timescaledb.orderby = 'time desc'
);
call add_columnstore_policy('shares', after => interval '30 days', if_not_exists => true);
select add_retention_policy('shares', drop_after => interval '90 days', if_not_exists => true);

create table mining_events (
    time        timestamptz not null,
    seq         bigint,
    instance_id integer,
    event       text not null,
    source      varchar(16) not null default 'hosted',
    payload     jsonb not null
);

select create_hypertable('mining_events', by_range('time', interval '1 day'), create_default_indexes => false);

create index mining_events_event_time on mining_events (event, time desc);
select add_retention_policy('mining_events', drop_after => interval '90 days', if_not_exists => true);

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
