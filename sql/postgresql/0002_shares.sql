-- depends: 0001_core
-- Shares and events on plain PostgreSQL: partitions by day (UTC), made ahead of
-- time and on demand, and rollups as tables that a function rebuilds.

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
) partition by range (time);

create index shares_user_time on shares (user_id, time desc);
create index shares_worker_time on shares (worker_id, time desc);
-- Rows arrive in the order of time: a block-range index finds an hour at almost no cost.
create index shares_time on shares using brin (time) with (pages_per_range = 16);

create table mining_events (
    time        timestamptz not null,
    seq         bigint,
    instance_id integer,
    event       text not null,
    source      varchar(16) not null default 'hosted',
    payload     jsonb not null
) partition by range (time);

create index mining_events_event_time on mining_events (event, time desc);

-- Makes the partitions of shares and mining_events for every day of the span,
-- both ends included, and returns how many it made. Safe to repeat, and safe from
-- several connections at once: they queue on an advisory lock.
create function ensure_partitions(first_day date, last_day date) returns integer
language plpgsql as $$
declare
    day date := first_day;
    parent text;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtext('tbg partitions'));
    while day <= last_day loop
        foreach parent in array array['shares', 'mining_events'] loop
            if to_regclass(format('%I', parent || '_p' || to_char(day, 'YYYYMMDD'))) is null then
                execute format(
                    'create table %I partition of %I for values from (%L) to (%L)',
                    parent || '_p' || to_char(day, 'YYYYMMDD'),
                    parent,
                    day::timestamp at time zone 'UTC',
                    (day + 1)::timestamp at time zone 'UTC'
                );
                made := made + 1;
            end if;
        end loop;
        day := day + 1;
    end loop;
    return made;
end
$$;

-- Drops every partition of shares and mining_events that ended before keep_from,
-- and returns the names of those it dropped.
create function drop_partitions(keep_from date) returns setof text
language plpgsql as $$
declare
    name text;
begin
    perform pg_advisory_xact_lock(hashtext('tbg partitions'));
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
        execute format('drop table %I', name);
        return next name;
    end loop;
end
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

create index shares_hourly_worker on shares_hourly (worker_id, bucket desc);

create table shares_daily (like shares_hourly including all);

-- Computes the hours of [range_start, range_end) once more from the raw shares and
-- returns the number of rows. Safe to repeat: it replaces what was there. The
-- range must begin and end on whole hours.
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
        date_trunc('hour', time, 'UTC'),
        user_id,
        worker_id,
        count(*),
        count(*) filter (where is_valid),
        count(*) filter (where not is_valid),
        coalesce(sum(difficulty) filter (where is_valid), 0),
        max(share_diff) filter (where is_valid),
        min(time),
        max(time)
    from shares
    where time >= range_start and time < range_end
    group by 1, 2, 3;
    get diagnostics made = row_count;
    return made;
end
$$;

-- Computes the days (UTC) of [range_start, range_end) once more from shares_hourly and
-- returns the number of rows. Safe to repeat. The range must begin and end on
-- whole days.
create function rebuild_shares_daily(range_start timestamptz, range_end timestamptz)
returns bigint
language plpgsql as $$
declare
    made bigint;
begin
    if date_trunc('day', range_start, 'UTC') <> range_start
        or date_trunc('day', range_end, 'UTC') <> range_end then
        raise exception 'rebuild_shares_daily: % to % are not whole days', range_start, range_end;
    end if;
    perform pg_advisory_xact_lock(hashtext('tbg rollup'));
    delete from shares_daily where bucket >= range_start and bucket < range_end;
    insert into shares_daily
    select
        date_trunc('day', bucket, 'UTC'),
        user_id,
        worker_id,
        sum(shares)::bigint,
        sum(accepted)::bigint,
        sum(rejected)::bigint,
        sum(work),
        max(best_share_diff),
        min(first_share),
        max(last_share)
    from shares_hourly
    where bucket >= range_start and bucket < range_end
    group by 1, 2, 3;
    get diagnostics made = row_count;
    return made;
end
$$;
