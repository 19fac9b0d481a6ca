-- depends: 0008_balance
-- Alerts on their way to people, and the bests that they are about.

-- The notifier hands every message of the outbox to the routes that want it, once.
-- What was written before it existed is old news.
alter table outbox add column planned_at timestamptz;
update outbox set planned_at = now();
create index outbox_unplanned on outbox (id) where planned_at is null;

-- One row per message and route. workers: those that the message names on this route.
create table alert_deliveries (
    message_id bigint not null references outbox on delete cascade,
    route      text not null,
    state      text not null check (state in ('waiting', 'sent', 'dropped', 'failed')),
    reason     text,  -- why it was dropped, or the channel's last answer
    workers    text[] not null default '{}',
    planned_at timestamptz not null,
    due_at     timestamptz not null,
    attempts   integer not null default 0,
    sent_at    timestamptz,
    primary key (message_id, route)
);

create index alert_deliveries_waiting on alert_deliveries (route, due_at)
where state = 'waiting';
create index alert_deliveries_planned on alert_deliveries (route, planned_at);

-- Nothing about these workers until then; all_workers: nor about any other of the user.
create table alert_mutes (
    btc_address text not null,
    worker      text not null,
    all_workers boolean not null default false,
    until       timestamptz not null,
    primary key (btc_address, worker, all_workers)
);

-- What was last sent about a subject: 'best:<user id>', 'leader:<week>'.
create table alert_marks (
    subject text primary key,
    value   jsonb not null,
    told_at timestamptz not null
);

-- How often a worker went silent, by hour: one that does so all day flaps.
create table worker_naps (
    worker_id integer not null references workers,
    hour      timestamptz not null,
    naps      integer not null,
    primary key (worker_id, hour)
);

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

-- The short silences of the last message; the next message waits for four times as many.
create table worker_flaps (
    worker_id integer primary key references workers,
    naps      integer not null,
    told_at   timestamptz not null
);

-- What each worker did since a moment: its work, and its best share. Whole days and hours
-- come from the rollups, as far as these go; the rest from the raw shares. The hash is
-- null, and the time that of the hour or day, once the raw share was dropped.
create function worker_bests_since(since timestamptz)
returns table (
    user_id integer,
    worker_id integer,
    best_difficulty double precision,
    found_at timestamptz,
    share_hash bytea,
    shares bigint,
    work double precision
)
language sql stable as $$
    with edges as (
        select
            since as start,
            case when isfinite(since) then date_bin('1 hour', since + interval '1 hour'
                - interval '1 microsecond', '2000-01-01Z') else since end as first_hour,
            case when isfinite(since) then date_bin('1 day', since + interval '1 day'
                - interval '1 microsecond', '2000-01-01Z') else since end as first_day,
            coalesce((select max(bucket) + interval '1 day' from shares_daily), '-infinity')
                as days_end,
            coalesce((select max(bucket) + interval '1 hour' from shares_hourly), '-infinity')
                as hours_end
    ),
    parts as (
        select d.user_id, d.worker_id, d.best_share_diff, d.bucket, interval '1 day' as span,
            d.accepted, d.work
        from edges e
        join shares_daily d on d.bucket >= e.first_day and d.bucket < e.days_end
        union all
        select h.user_id, h.worker_id, h.best_share_diff, h.bucket, interval '1 hour',
            h.accepted, h.work
        from edges e
        join shares_hourly h on h.bucket >= e.first_hour and h.bucket < e.hours_end
            and (h.bucket < e.first_day or h.bucket >= e.days_end)
        union all
        select s.user_id, s.worker_id, s.share_diff, s.time, interval '0', 1, s.difficulty
        from edges e
        join shares s on s.time >= e.start and s.is_valid
            and (s.time < e.first_hour or s.time >= greatest(e.days_end, e.hours_end))
    ),
    sums as (
        select p.user_id, p.worker_id, sum(p.accepted)::bigint as shares, sum(p.work) as work
        from parts p
        group by 1, 2
    ),
    tops as (
        select distinct on (p.worker_id) p.worker_id, p.best_share_diff, p.bucket, p.span
        from parts p
        where p.best_share_diff is not null
        order by p.worker_id, p.best_share_diff desc, p.bucket
    )
    select s.user_id, s.worker_id, t.best_share_diff, coalesce(r.time, t.bucket), r.share_hash,
        s.shares, s.work
    from sums s
    join tops t on t.worker_id = s.worker_id
    left join lateral (
        select x.time, x.share_hash
        from shares x
        where x.worker_id = t.worker_id and x.is_valid and x.share_diff = t.best_share_diff
          and x.time >= t.bucket and x.time <= t.bucket + t.span
        order by x.time
        limit 1
    ) r on true
$$;

-- The chance that this work finds a share of this difficulty or better: none of n shares
-- of difficulty d reaches x with probability exp(-n * d / x). A small chance is its own
-- series: 1 - exp(-q) loses its digits.
create function chance_of(difficulty double precision, work double precision)
returns double precision
language sql immutable as $$
    select case
        when difficulty <= 0 then 1
        when work / difficulty < 1e-5 then work / difficulty
        else 1 - exp(greatest(-work / difficulty, -700))
    end
$$;

-- The best share of every user and worker: of the session (since the worker, or any of the
-- user's, last connected), the week, the month, the round (since the last block that the
-- pool found), and of all time. Times are UTC.
create view bests as
with periods (period, since) as (
    select 'week', date_trunc('week', now(), 'UTC')
    union all
    select 'month', date_trunc('month', now(), 'UTC')
    union all
    select 'round', coalesce(max(found_at), '-infinity') from blocks where status <> 'rejected'
    union all
    select 'alltime', '-infinity'
),
connected as (
    select w.id as worker_id, w.user_id, max(e.time) as since
    from mining_events e
    join users u on u.btc_address = e.payload ->> 'user'
    join workers w on w.user_id = u.id and w.worker_name = e.payload ->> 'worker'
    where e.event = 'miner_connected'
    group by 1, 2
),
-- All sessions that began at one moment are computed at once.
sessions as (
    select c.since, b.*
    from (select distinct since from connected) c
    cross join lateral worker_bests_since(c.since) b
),
by_worker as (
    select p.period, p.since, b.*
    from periods p
    cross join lateral worker_bests_since(p.since) b
    union all
    select 'session', s.*
    from sessions s
    join connected c on c.worker_id = s.worker_id and c.since = s.since
),
of_user as (
    select w.* from by_worker w where w.period <> 'session'
    union all
    select 'session', s.*
    from sessions s
    join (select user_id, max(since) as since from connected group by 1) c
        on c.user_id = s.user_id and c.since = s.since
),
by_user as (
    select distinct on (period, user_id)
        period, since, user_id, worker_id, best_difficulty, found_at, share_hash,
        (sum(shares) over same)::bigint as shares, sum(work) over same as work
    from of_user
    window same as (partition by period, user_id)
    order by period, user_id, best_difficulty desc, found_at
),
-- Weeks before the rollups begin have the user's best alone.
stored as (
    select distinct on (user_id)
        user_id, best_difficulty, best_share_time, best_worker_id, best_share_hash
    from weekly_best_diff
    order by user_id, best_difficulty desc, best_share_time
),
both_kinds as (
    select 'worker' as scope, period, since, user_id, worker_id, best_difficulty, found_at,
        share_hash, shares, work
    from by_worker
    union all
    select 'user', b.period, b.since, b.user_id,
        case when s.user_id is null then b.worker_id else s.best_worker_id end,
        coalesce(s.best_difficulty, b.best_difficulty),
        coalesce(s.best_share_time, b.found_at),
        case when s.user_id is null then b.share_hash else s.best_share_hash end,
        b.shares, b.work
    from by_user b
    left join stored s on b.period = 'alltime' and s.user_id = b.user_id
        and s.best_difficulty >= b.best_difficulty
)
select
    k.scope,
    k.period,
    nullif(k.since, '-infinity') as since,
    u.btc_address,
    w.worker_name,
    k.best_difficulty,
    k.found_at,
    encode(k.share_hash, 'hex') as share_hash,
    k.shares,
    k.work,
    chance_of(k.best_difficulty, k.work) as chance
from both_kinds k
join users u on u.id = k.user_id
left join workers w on w.id = k.worker_id;
