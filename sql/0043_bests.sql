-- depends: 0011_serving
-- The bests of one user cost what that user's workers have: those of all users had been computed.

-- The bests of one period ('session', 'week', 'month', 'round', 'alltime'), by one kind
-- ('worker', 'user'), of the user with an address, or of all users if it is null; see the view
-- bests. Of one user, the rows of its workers alone are read.
create function bests_of(wanted text, kind text, of_user text)
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
with asked as (
    select u.id from users u where u.btc_address = of_user
),
start as (
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
    where of_user is null and wanted = 'session' and e.event = 'miner_connected'
    group by 1, 2
    union all
    select w.id, w.user_id, c.since
    from workers w
    cross join lateral (
        select max(e.time) as since
        from mining_events e
        where e.event = 'miner_connected' and e.payload ->> 'user' = of_user
          and e.payload ->> 'worker' = w.worker_name
    ) c
    where wanted = 'session' and w.user_id = (select id from asked) and c.since is not null
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
    where of_user is null and wanted = 'session'
),
by_worker as (
    select s.since, b.*
    from start s
    cross join lateral worker_bests_since(s.since) b
    where of_user is null
    union all
    -- The rollups of one worker end where its own do: the end of all is found in all rows.
    select m.since, b.*
    from (
        select s.since, w.id as worker_id
        from start s
        cross join workers w
        where w.user_id = (select id from asked)
        union all
        select s.since, s.worker_id from sessions s where of_user is not null
    ) m
    cross join lateral (
        select
            coalesce(
                (select max(bucket) + interval '1 day' from shares_daily where worker_id = m.worker_id),
                '-infinity'
            ) as days,
            coalesce(
                (select max(bucket) + interval '1 hour' from shares_hourly where worker_id = m.worker_id),
                '-infinity'
            ) as hours
    ) e
    cross join lateral worker_bests_of(m.worker_id, m.since, e.days, e.hours) b
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
        where of_user is null and wanted = 'alltime'
        order by w.user_id, w.best_difficulty desc, w.best_share_time
    )
    union all
    select
        date_trunc('week', now(), 'UTC'), w.user_id, w.best_difficulty, w.best_share_time,
        w.best_worker_id, w.best_share_hash
    from weekly_best_diff w
    where of_user is null and wanted = 'week'
      and w.week_start = date_trunc('week', now() at time zone 'UTC')::date
    union all
    (
        select
            coalesce(s.since, '-infinity'), w.user_id, w.best_difficulty, w.best_share_time,
            w.best_worker_id, w.best_share_hash
        from start s
        join weekly_best_diff w on w.user_id = (select id from asked)
        where wanted = 'alltime'
           or (wanted = 'week'
               and w.week_start = date_trunc('week', now() at time zone 'UTC')::date)
        order by w.best_difficulty desc, w.best_share_time
        limit 1
    )
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

-- As bests_of, with names, and with the chance of doing as well or better.
create function named_bests(wanted text, kind text, of_user text)
returns table (
    scope text,
    period text,
    since timestamptz,
    btc_address text,
    worker_name text,
    best_difficulty double precision,
    found_at timestamptz,
    share_hash text,
    shares bigint,
    work double precision,
    chance double precision
)
language sql stable as $$
select
    kind,
    wanted,
    nullif(k.since, '-infinity'),
    u.btc_address,
    w.worker_name,
    k.best_difficulty,
    k.found_at,
    encode(k.share_hash, 'hex'),
    k.shares,
    k.work,
    case when k.work is not null then chance_of(k.best_difficulty, k.work) end
from bests_of(wanted, kind, of_user) k
join users u on u.id = k.user_id
left join workers w on w.id = k.worker_id
$$;

-- The best share of every user and worker: of the session (since the worker, or any of the
-- user's, last connected), the week, the month, the round (since the last block that the
-- pool found), and of all time. Times are UTC. Only what a query asks for is computed, but that
-- of all users: named_bests gives those of one.
create or replace view bests as
select k.*
from (
    values ('session'::text), ('week'), ('month'), ('round'), ('alltime')
) periods (period)
cross join (values ('worker'::text), ('user')) kinds (scope)
cross join lateral named_bests(periods.period, kinds.scope, null) k;

drop function bests_of(text, text);
