-- Users, their workers, and what the batch side knows of each worker.

create table users (
    id           integer generated always as identity primary key,
    btc_address  text not null unique,
    display_name text,
    country_code char(2),
    created_at   timestamptz not null default now(),
    last_seen    timestamptz,
    is_verified  boolean not null default false,
    hashrate_1m  double precision,
    hashrate_5m  double precision,
    hashrate_1h  double precision,
    hashrate_24h double precision
);

comment on table users is 'Miners, known by the address that they mine to.';
comment on column users.id is 'number of the user, in this database alone';
comment on column users.btc_address is 'Bitcoin address; text of a stranger';
comment on column users.display_name is 'name for pages; nothing writes it yet';
comment on column users.country_code is 'ISO 3166-1 code of two letters; nothing writes it yet';
comment on column users.created_at is 'time of the first event';
comment on column users.last_seen is 'time of the newest event';
comment on column users.is_verified is 'whether the user proved to own the address; nothing writes it yet';
comment on column users.hashrate_1m is 'hashes per second over 1 minute, as the engine says';
comment on column users.hashrate_5m is 'hashes per second over 5 minutes, as the engine says';
comment on column users.hashrate_1h is 'hashes per second over 1 hour, as the engine says';
comment on column users.hashrate_24h is 'hashes per second over 24 hours, as the engine says';

-- last_share is written now and then, not with every share (see workers_seen): room on each page
-- keeps those updates off the indexes (heap-only tuples).
create table workers (
    id           integer generated always as identity primary key,
    user_id      integer not null references users,
    worker_name  text not null,
    first_seen   timestamptz not null default now(),
    last_share   timestamptz,
    current_diff double precision,
    hashrate_1m  double precision,
    hashrate_5m  double precision,
    hashrate_1h  double precision,
    hashrate_24h double precision,
    is_online    boolean not null default false,
    user_agent   text,
    source       varchar(16) not null default 'hosted',
    unique (user_id, worker_name)
)
with (fillfactor = 70);

comment on table workers is 'Workers of users: the part of a Stratum name after the address.';
comment on column workers.id is 'number of the worker, in this database alone';
comment on column workers.user_id is 'the user';
comment on column workers.worker_name is 'name; empty if the miner gave none; text of a stranger';
comment on column workers.first_seen is 'time of the first event';
comment on column workers.last_share is 'time of the last share that was noted; see the view workers_seen for the newest';
comment on column workers.current_diff is 'difficulty that the worker is held to';
comment on column workers.hashrate_1m is 'hashes per second over 1 minute, as the engine says';
comment on column workers.hashrate_5m is 'hashes per second over 5 minutes, as the engine says';
comment on column workers.hashrate_1h is 'hashes per second over 1 hour, as the engine says';
comment on column workers.hashrate_24h is 'hashes per second over 24 hours, as the engine says';
comment on column workers.is_online is 'whether it is connected, or not silent for longer than its pace allows';
comment on column workers.user_agent is 'software of the miner; text of a stranger';
comment on column workers.source is 'hosted, or simulated';

create index workers_online on workers (last_share) where is_online;

-- One row for each worker and day (UTC) with at least one share.
create table worker_stats_daily (
    day                date not null,
    user_id            integer not null,
    worker_id          integer not null,
    accepted           bigint not null,
    rejected           bigint not null,
    reject_ratio       double precision not null,
    rejects_by_reason  jsonb not null,
    work               double precision not null,
    hashrate           double precision not null,
    hashrate_low       double precision not null,
    hashrate_high      double precision not null,
    hashrate_up        double precision,
    uptime_seconds     double precision not null,
    longest_gap_seconds double precision,
    best_share_diff    double precision,
    luck               double precision,
    luck_percentile    double precision,
    primary key (day, worker_id)
);

comment on table worker_stats_daily is 'Statistics of each worker and day (UTC).';
comment on column worker_stats_daily.day is 'the day';
comment on column worker_stats_daily.user_id is 'the user';
comment on column worker_stats_daily.worker_id is 'the worker';
comment on column worker_stats_daily.accepted is 'valid shares';
comment on column worker_stats_daily.rejected is 'refused shares';
comment on column worker_stats_daily.reject_ratio is '0 to 1: refused of all';
comment on column worker_stats_daily.rejects_by_reason is 'refused shares by reason';
comment on column worker_stats_daily.work is 'sum of the difficulty of valid shares';
comment on column worker_stats_daily.hashrate is 'hashes per second over the whole day';
comment on column worker_stats_daily.hashrate_low is 'the same: lower end of the 95 % confidence interval';
comment on column worker_stats_daily.hashrate_high is 'upper end of it';
comment on column worker_stats_daily.hashrate_up is 'hashes per second while the worker was up';
comment on column worker_stats_daily.uptime_seconds is 'seconds that the worker was up';
comment on column worker_stats_daily.longest_gap_seconds is 'seconds between two shares of the day, at most';
comment on column worker_stats_daily.best_share_diff is 'greatest share difficulty';
comment on column worker_stats_daily.luck is 'best share difficulty over the median for this work';
comment on column worker_stats_daily.luck_percentile is '0 to 1: chance of doing no better with this work';

create index worker_stats_daily_user on worker_stats_daily (user_id, day desc);

-- A user's days with what is summed, without a look at the rows.
create index worker_stats_daily_sums on worker_stats_daily (user_id, day)
include (worker_id, accepted, rejected, work, best_share_diff);

-- Workers that went silent without a disconnect.
create table worker_liveness (
    worker_id            integer primary key references workers,
    silent_since         timestamptz not null,
    marked_at            timestamptz not null default now(),
    expected_gap_seconds double precision,
    allowed_gap_seconds  double precision not null,
    alerted_at           timestamptz,
    back_since           timestamptz
);

comment on table worker_liveness is 'Workers that were silent for longer than their pace allows.';
comment on column worker_liveness.worker_id is 'the worker';
comment on column worker_liveness.silent_since is 'time of its last sign of life';
comment on column worker_liveness.marked_at is 'time at which it was marked offline';
comment on column worker_liveness.expected_gap_seconds is 'average seconds between two shares';
comment on column worker_liveness.allowed_gap_seconds is 'seconds that it may be silent';
comment on column worker_liveness.alerted_at is 'time of the alert; null before';
comment on column worker_liveness.back_since is 'time of its return; null while it is silent';

-- How long each worker may be silent, as it was judged last: until half of it has passed, or
-- the row has grown old, or the difficulty is another, nobody looks at the worker's shares.
create table worker_allowances (
    worker_id  integer primary key references workers,
    allowed    interval not null,
    difficulty double precision,
    judged_at  timestamptz not null
);

comment on table worker_allowances is 'How long a worker may be silent, from the last look at its pace.';
comment on column worker_allowances.worker_id is 'the worker';
comment on column worker_allowances.allowed is 'length of silence that is allowed';
comment on column worker_allowances.difficulty is 'difficulty that it was held to then';
comment on column worker_allowances.judged_at is 'time of the look';

-- How often a worker went silent, by hour: one that does so all day flaps.
create table worker_naps (
    worker_id integer not null references workers,
    hour      timestamptz not null,
    naps      integer not null,
    primary key (worker_id, hour)
);

comment on table worker_naps is 'Short silences of workers, by hour.';
comment on column worker_naps.worker_id is 'the worker';
comment on column worker_naps.hour is 'beginning of the hour';
comment on column worker_naps.naps is 'short silences that began in it';

-- Every time that the batch side marks a worker silent counts, sent or not.
create function count_nap() returns trigger
language plpgsql as $$
begin
    insert into worker_naps as n (worker_id, hour, naps)
    values (new.worker_id, date_trunc('hour', new.marked_at, 'UTC'), 1)
    on conflict (worker_id, hour) do update set naps = n.naps + 1;
    return null;
end
$$;

create trigger worker_liveness_naps_new after insert on worker_liveness
for each row execute function count_nap();

create trigger worker_liveness_naps_again after update of marked_at on worker_liveness
for each row when (new.marked_at is distinct from old.marked_at) execute function count_nap();

-- The next message waits for four times as many short silences.
create table worker_flaps (
    worker_id integer primary key references workers,
    naps      integer not null,
    told_at   timestamptz not null
);

comment on table worker_flaps is 'Workers that come and go all day.';
comment on column worker_flaps.worker_id is 'the worker';
comment on column worker_flaps.naps is 'short silences at the last message';
comment on column worker_flaps.told_at is 'time of the last message';
