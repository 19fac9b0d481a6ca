-- depends: 0007_receipts
-- Shares and events on plain PostgreSQL: partitions by day (UTC), made ahead of time and on
-- demand, and rollups as tables that a function rebuilds.

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
) partition by range (time);

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

create index shares_user_time on shares (user_id, time desc);

create index shares_worker_time on shares (worker_id, time desc);

-- Rows arrive in the order of time: a block-range index finds an hour at almost no cost.
create index shares_time on shares using brin (time) with (pages_per_range = 16);

-- Few shares solve a block, and every check of blocks asks for them.
create index shares_blocks on shares (time) where is_block;

create table mining_events (
    time        timestamptz not null,
    seq         bigint,
    instance_id integer,
    event       text not null,
    source      varchar(16) not null default 'hosted',
    payload     jsonb not null
) partition by range (time);

comment on table mining_events is 'All other events, kept for RETENTION_DAYS.';
comment on column mining_events.time is 'time that the engine gave the event';
comment on column mining_events.seq is 'number in the engine boot; null if the engine does not number';
comment on column mining_events.instance_id is 'the engine boot; null if the event names none';
comment on column mining_events.event is 'kind, as in docs/events.md';
comment on column mining_events.source is 'hosted, or simulated';
comment on column mining_events.payload is 'data of the event, unknown fields included';

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

-- Makes the partitions of shares and mining_events for every day of the span,
-- both ends included, and returns how many it made. Safe to repeat, and safe from
-- several connections at once: they queue on an advisory lock, unless there is nothing to do.
-- A partition is made apart and then attached: that waits for no reader and no writer, and
-- none of them waits for it. A day that housekeeping had detached, and not dropped yet, is
-- attached again with its rows. One that is being detached stays away.
create function ensure_partitions(first_day date, last_day date) returns integer
language plpgsql as $$
declare
    day date := first_day;
    parent text;
    name text;
    locked boolean := false;
    made integer := 0;
begin
    while day <= last_day loop
        foreach parent in array array['shares', 'mining_events'] loop
            name := parent || '_p' || to_char(day, 'YYYYMMDD');
            if exists (
                select from pg_inherits
                where inhparent = parent::regclass and inhrelid = to_regclass(format('%I', name))
            ) then
                continue;
            end if;
            if not locked then
                perform pg_advisory_xact_lock(hashtext('tbg partitions'));
                locked := true;
                if exists (
                    select from pg_inherits
                    where inhparent = parent::regclass
                      and inhrelid = to_regclass(format('%I', name))
                ) then
                    continue;
                end if;
            end if;
            if to_regclass(format('%I', name)) is null then
                execute format('create table %I (like %I including all)', name, parent);
            end if;
            execute format(
                'alter table %I attach partition %I for values from (%L) to (%L)',
                parent,
                name,
                day::timestamp at time zone 'UTC',
                (day + 1)::timestamp at time zone 'UTC'
            );
            made := made + 1;
        end loop;
        day := day + 1;
    end loop;
    return made;
end
$$;

-- Drops every partition of shares and mining_events that ended before keep_from, and returns
-- the names of those it dropped: for a person. (Housekeeping drops a day at a time, and detaches
-- it first.) It needs every reader of the table to be gone for a moment; it asks for a tenth
-- of a second, so that no writer waits for longer behind it, and tries again for ten.
create function drop_partitions(keep_from date) returns setof text
language plpgsql
set lock_timeout = '100ms'
as $$
declare
    name text;
    holding boolean := false;
begin
    <<partitions>>
    for name in
        select child.relname
        from pg_inherits
        join pg_class child on child.oid = inhrelid
        where inhparent in ('shares'::regclass, 'mining_events'::regclass)
          -- As text: a date would be read from every name of the catalog, as the
          -- planner likes.
          and child.relname ~ '_p[0-9]{8}$'
          and right(child.relname, 8) < to_char(keep_from, 'YYYYMMDD')
        order by child.relname
    loop
        for try in 1..25 loop
            begin
                execute format('drop table %I', name);
                holding := true;
                return next name;
                exit;
            exception when lock_not_available then
                -- Not while a partition that was dropped before keeps everybody waiting.
                exit partitions when holding;
                perform pg_sleep(0.2 + random() * 0.2);
            end;
        end loop;
    end loop;
end
$$;

-- The days (UTC) that have a place for raw rows. A day without one was dropped; a day that has
-- one and lacks rows has lost them.
create function raw_days()
returns setof date
language sql stable as $$
    select distinct to_date(right(child.relname, 8), 'YYYYMMDD')
    from pg_inherits
    join pg_class child on child.oid = inhrelid
    where inhparent in ('shares'::regclass, 'mining_events'::regclass) and not inhdetachpending
$$;

create table shares_hourly (
    bucket          timestamptz not null,
    user_id         integer not null,
    worker_id       integer not null,
    shares          bigint not null,
    accepted        bigint not null,
    rejected        bigint not null,
    work            double precision not null,
    best_share_diff double precision,
    first_share     timestamptz not null,
    last_share      timestamptz not null,
    primary key (bucket, user_id, worker_id)
);

comment on table shares_hourly is 'Shares by hour (UTC) and worker; kept for ever.';
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

create index shares_hourly_worker on shares_hourly (worker_id, bucket desc);

create table shares_daily (like shares_hourly including all);

comment on table shares_daily is 'Shares by day (UTC) and worker; kept for ever.';
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

-- Computes the hours of [range_start, range_end) once more from the raw shares and
-- returns the number of rows. Safe to repeat: it replaces what was there. The
-- range must begin and end on whole hours. Work is the sum of difficulties within the contract's
-- bounds.
-- Inserted by worker: in that order both indexes are filled from page to page, and a worker's hours
-- lie together. date_bin takes half the time of date_trunc with a zone.
create function rebuild_shares_hourly(range_start timestamptz, range_end timestamptz)
returns bigint
language plpgsql as $$
declare
    made bigint;
begin
    if date_trunc('hour', range_start, 'UTC') <> range_start
        or date_trunc('hour', range_end, 'UTC') <> range_end then
        raise exception 'rebuild_shares_hourly: % to % are not whole hours', range_start, range_end;
    end if;
    -- Two rebuilds of one range would each delete the other's rows too late.
    perform pg_advisory_xact_lock(hashtext('tbg rollup'));
    delete from shares_hourly where bucket >= range_start and bucket < range_end;
    insert into shares_hourly
    select
        date_bin('1 hour', time, 'epoch'),
        user_id,
        worker_id,
        count(*),
        count(*) filter (where is_valid),
        count(*) filter (where not is_valid),
        coalesce(sum(bounded(difficulty)) filter (where is_valid), 0),
        max(share_diff) filter (where is_valid),
        min(time),
        max(time)
    from shares
    where time >= range_start and time < range_end
    group by user_id, worker_id, 1
    order by user_id, worker_id, 1;
    get diagnostics made = row_count;
    return made;
end
$$;

-- Computes the days (UTC) of [range_start, range_end) once more from shares_hourly and
-- returns the number of rows. Safe to repeat. The range must begin and end on
-- whole days. A day at a time: its workers fit into memory.
create function rebuild_shares_daily(range_start timestamptz, range_end timestamptz)
returns bigint
language plpgsql as $$
declare
    day timestamptz := range_start;
    made bigint;
    total bigint := 0;
begin
    if date_trunc('day', range_start, 'UTC') <> range_start
        or date_trunc('day', range_end, 'UTC') <> range_end then
        raise exception 'rebuild_shares_daily: % to % are not whole days', range_start, range_end;
    end if;
    perform pg_advisory_xact_lock(hashtext('tbg rollup'));
    delete from shares_daily where bucket >= range_start and bucket < range_end;
    while day < range_end loop
        insert into shares_daily
        select
            day,
            user_id,
            worker_id,
            sum(shares)::bigint,
            sum(accepted)::bigint,
            sum(rejected)::bigint,
            sum(least(work, 1e290)),
            max(best_share_diff),
            min(first_share),
            max(last_share)
        from shares_hourly
        where bucket >= day and bucket < day + interval '24 hours'
        group by user_id, worker_id
        order by user_id, worker_id;
        get diagnostics made = row_count;
        total := total + made;
        day := day + interval '24 hours';
    end loop;
    return total;
end
$$;

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
