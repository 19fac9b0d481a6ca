-- depends: 0003_views
-- What the batch side computes, and how it publishes that exactly once.

-- Messages of the batch side on their way to Redis. A message commits with the
-- change that it reports, and is sent afterwards: neither is there without the
-- other. The key says what the message is about, so that it is written once.
create table outbox (
    id         bigint generated always as identity primary key,
    stream     text not null,
    key        text not null unique,
    event      text not null,
    source     varchar(16) not null default 'hosted',
    payload    jsonb not null,
    created_at timestamptz not null default now(),
    sent_at    timestamptz,
    entry_id   text
);

create index outbox_unsent on outbox (id) where sent_at is null;

-- What was published of each week: revision 1 is the result, each later one a
-- correction of the one before.
create table weekly_publications (
    week_start   date not null,
    revision     integer not null,
    result       jsonb not null,
    published_at timestamptz not null default now(),
    primary key (week_start, revision)
);

-- One row per worker and day (UTC) with at least one share.
create table worker_stats_daily (
    day                date not null,
    user_id            integer not null,
    worker_id          integer not null,
    accepted           bigint not null,
    rejected           bigint not null,
    reject_ratio       double precision not null,
    rejects_by_reason  jsonb not null,
    work               double precision not null,  -- sum of accepted assigned difficulty
    hashrate           double precision not null,  -- H/s, over the whole day
    hashrate_low       double precision not null,  -- 95 % confidence interval
    hashrate_high      double precision not null,
    hashrate_up        double precision,           -- H/s while it was up
    uptime_seconds     double precision not null,
    longest_gap_seconds double precision,          -- between two shares of the day
    best_share_diff    double precision,
    luck               double precision,           -- best difficulty over the median for this work
    luck_percentile    double precision,           -- chance of doing no better with this work
    primary key (day, worker_id)
);

create index worker_stats_daily_user on worker_stats_daily (user_id, day desc);

-- Workers that went silent without a goodbye.
create table worker_liveness (
    worker_id            integer primary key references workers,
    silent_since         timestamptz not null,  -- its last share
    marked_at            timestamptz not null default now(),
    expected_gap_seconds double precision,      -- between two shares; null where unknown
    allowed_gap_seconds  double precision not null,
    alerted_at           timestamptz,
    back_since           timestamptz
);

-- One row per value that the network difficulty had, in order of height.
create table network_difficulty (
    first_height       integer primary key,
    last_height        integer not null,
    network_difficulty double precision not null,
    blocks             integer not null,
    first_seen         timestamptz not null,
    last_seen          timestamptz not null,
    block_seconds      double precision  -- mean time between blocks seen; null for one block
);

-- How long a block takes, at the work of the last 24 hours.
create table block_odds (
    scope              text not null check (scope in ('pool', 'worker')),
    worker_id          integer not null,  -- 0 for the pool
    user_id            integer,
    hashrate           double precision not null,  -- H/s
    network_difficulty double precision not null,
    expected_seconds   double precision not null,
    chance_day         double precision not null,
    chance_week        double precision not null,
    chance_year        double precision not null,
    computed_at        timestamptz not null,
    primary key (scope, worker_id)
);

-- Transitions that a block has made: numbers their messages.
alter table blocks add column status_changes integer not null default 0;

-- How many late shares of an hour each rollup has taken in. Below shares: to be
-- computed again.
alter table late_share_hours
    add column settled_hourly bigint not null default 0,
    add column settled_daily  bigint not null default 0,
    add column settled_weekly bigint not null default 0;

create index late_share_hours_unsettled on late_share_hours (hour)
where shares > least(settled_hourly, settled_daily, settled_weekly);

-- Few shares solve a block, and every check of blocks asks for them.
create index shares_blocks on shares (time) where is_block;

-- Sessions and bests of a user: few events, asked for by user.
create index mining_events_bests on mining_events ((payload ->> 'user'), time desc)
where event in ('share_best_diff', 'miner_connected');

-- Every user's best difficulties: of the session, of the running week, of all time.
-- The session is the one that began when a worker of the user last connected.
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
    where e.event = 'miner_connected' and e.payload ->> 'user' = u.btc_address
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
