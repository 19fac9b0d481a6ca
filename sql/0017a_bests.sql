-- depends: 0016e_bests
-- The bests cost what is asked for: of one period and kind, and of each session the rows of its
-- own worker. Together, all sessions had read the rows of all workers.

-- As worker_bests_since, of one worker; where the rollups end is the caller's to look up.
create function worker_bests_of(
    of_worker integer, since timestamptz, days_end timestamptz, hours_end timestamptz
)
returns table (
    user_id integer,
    worker_id integer,
    best_difficulty double precision,
    found_at timestamptz,
    share_hash bytea,
    shares bigint,
    work double precision
)
language plpgsql stable as $$
#variable_conflict use_column
declare
    first_hour timestamptz := date_bin(
        '1 hour', since + interval '1 hour' - interval '1 microsecond', '2000-01-01Z');
    first_day timestamptz := date_bin(
        '1 day', since + interval '1 day' - interval '1 microsecond', '2000-01-01Z');
    rest timestamptz := greatest(first_hour, days_end, hours_end);
begin
    return query
    with parts as (
        select d.user_id, d.best_share_diff, d.bucket, interval '1 day' as span, d.accepted, d.work
        from shares_daily d
        where d.worker_id = of_worker and d.bucket >= first_day and d.bucket < days_end
        union all
        select h.user_id, h.best_share_diff, h.bucket, interval '1 hour', h.accepted, h.work
        from shares_hourly h
        where h.worker_id = of_worker and h.bucket < hours_end
          and h.bucket >= greatest(first_hour, case when days_end > first_day then days_end end)
        union all
        select h.user_id, h.best_share_diff, h.bucket, interval '1 hour', h.accepted, h.work
        from shares_hourly h
        where h.worker_id = of_worker and h.bucket < hours_end
          and h.bucket >= first_hour and h.bucket < first_day and days_end > first_day
        union all
        select s.user_id, s.share_diff, s.time, interval '0', 1, s.difficulty
        from shares s
        where s.worker_id = of_worker and s.is_valid and s.time >= since and s.time < first_hour
        union all
        select s.user_id, s.share_diff, s.time, interval '0', 1, s.difficulty
        from shares s
        where s.worker_id = of_worker and s.is_valid and s.time >= rest
    ),
    top as (
        select p.user_id, p.best_share_diff, p.bucket, p.span
        from parts p
        where p.best_share_diff is not null
        order by p.best_share_diff desc, p.bucket
        limit 1
    )
    select t.user_id, of_worker, t.best_share_diff, coalesce(r.time, t.bucket), r.share_hash,
        p.shares, p.work
    from top t
    cross join (select sum(accepted)::bigint as shares, sum(work) as work from parts) p
    left join lateral (
        select x.time, x.share_hash
        from shares x
        where x.worker_id = of_worker and x.is_valid and x.share_diff = t.best_share_diff
          and x.time >= t.bucket and x.time <= t.bucket + t.span
        order by x.time
        limit 1
    ) r on true;
end
$$;

-- The bests of one period ('session', 'week', 'month', 'round', 'alltime'), by one kind
-- ('worker', 'user'); see the view bests.
create function bests_of(wanted text, kind text)
returns table (
    since timestamptz,
    user_id integer,
    worker_id integer,
    best_difficulty double precision,
    found_at timestamptz,
    share_hash bytea,
    shares bigint,
    work double precision
)
language sql stable as $$
with start as (
    select case wanted
        when 'week' then date_trunc('week', now(), 'UTC')
        when 'month' then date_trunc('month', now(), 'UTC')
        when 'round' then
            (select coalesce(max(b.found_at), '-infinity') from blocks b where b.status <> 'rejected')
        when 'alltime' then '-infinity'
    end as since
    where wanted <> 'session'
),
connected as (
    select w.id as worker_id, w.user_id, max(e.time) as since
    from mining_events e
    join users u on u.btc_address = e.payload ->> 'user'
    join workers w on w.user_id = u.id and w.worker_name = e.payload ->> 'worker'
    where wanted = 'session' and e.event = 'miner_connected'
    group by 1, 2
),
-- A user's session is that of the worker who connected last, with the shares of all workers.
sessions as (
    select c.worker_id, c.since from connected c where kind = 'worker'
    union all
    select w.id, c.since
    from (select user_id, max(since) as since from connected group by 1) c
    join workers w on w.user_id = c.user_id
    where kind = 'user'
),
ends as (
    select
        coalesce((select max(bucket) + interval '1 day' from shares_daily), '-infinity') as days,
        coalesce((select max(bucket) + interval '1 hour' from shares_hourly), '-infinity') as hours
    where wanted = 'session'
),
by_worker as (
    select s.since, b.* from start s cross join lateral worker_bests_since(s.since) b
    union all
    select s.since, b.*
    from ends e
    cross join sessions s
    cross join lateral worker_bests_of(s.worker_id, s.since, e.days, e.hours) b
),
by_user as (
    select distinct on (b.user_id)
        b.since, b.user_id, b.worker_id, b.best_difficulty, b.found_at, b.share_hash,
        (sum(b.shares) over same)::bigint as shares, sum(b.work) over same as work
    from by_worker b
    where kind = 'user'
    window same as (partition by b.user_id)
    order by b.user_id, b.best_difficulty desc, b.found_at
),
-- The weeks' bests commit with their shares: they hold weeks from before the rollups, and
-- shares that came late and are in no hour yet, of users who have no hour at all, too.
stored as (
    (
        select distinct on (w.user_id)
            '-infinity'::timestamptz as since, w.user_id, w.best_difficulty, w.best_share_time,
            w.best_worker_id, w.best_share_hash
        from weekly_best_diff w
        where wanted = 'alltime'
        order by w.user_id, w.best_difficulty desc, w.best_share_time
    )
    union all
    select
        date_trunc('week', now(), 'UTC'), w.user_id, w.best_difficulty, w.best_share_time,
        w.best_worker_id, w.best_share_hash
    from weekly_best_diff w
    where wanted = 'week' and w.week_start = date_trunc('week', now() at time zone 'UTC')::date
)
select
    coalesce(b.since, s.since), coalesce(b.user_id, s.user_id),
    coalesce(b.worker_id, s.best_worker_id),
    case when higher then s.best_difficulty else b.best_difficulty end,
    case when higher then s.best_share_time else b.found_at end,
    case when higher then s.best_share_hash else b.share_hash end,
    b.shares, b.work
from (select * from by_worker where kind = 'worker') b
full join (select * from stored where kind = 'worker' and best_worker_id is not null) s
    on s.best_worker_id = b.worker_id
cross join lateral (
    select coalesce(s.best_difficulty >= b.best_difficulty, b.user_id is null) as higher
) c
union all
select
    coalesce(b.since, s.since), coalesce(b.user_id, s.user_id),
    case when higher then s.best_worker_id else b.worker_id end,
    case when higher then s.best_difficulty else b.best_difficulty end,
    case when higher then s.best_share_time else b.found_at end,
    case when higher then s.best_share_hash else b.share_hash end,
    b.shares, b.work
from by_user b
full join (select * from stored where kind = 'user') s on s.user_id = b.user_id
cross join lateral (
    select coalesce(s.best_difficulty >= b.best_difficulty, b.user_id is null) as higher
) c
$$;

-- The best share of every user and worker: of the session (since the worker, or any of the
-- user's, last connected), the week, the month, the round (since the last block that the
-- pool found), and of all time. Times are UTC. Only what a query asks for is computed.
create or replace view bests as
select
    kinds.scope,
    periods.period,
    nullif(k.since, '-infinity') as since,
    u.btc_address,
    w.worker_name,
    k.best_difficulty,
    k.found_at,
    encode(k.share_hash, 'hex') as share_hash,
    k.shares,
    k.work,
    case when k.work is not null then chance_of(k.best_difficulty, k.work) end as chance
from (
    values ('session'::text), ('week'), ('month'), ('round'), ('alltime')
) periods (period)
cross join (values ('worker'::text), ('user')) kinds (scope)
cross join lateral bests_of(periods.period, kinds.scope) k
join users u on u.id = k.user_id
left join workers w on w.id = k.worker_id;
