-- depends: 0010_alerts
-- The bests of the running week and of all time hold every stored best of a week, also of users
-- and workers whose hours are not computed yet.

-- The best share of every user and worker: of the session (since the worker, or any of the
-- user's, last connected), the week, the month, the round (since the last block that the
-- pool found), and of all time. Times are UTC.
create or replace view bests as
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
-- The weeks' bests commit with their shares: they hold weeks from before the rollups, and
-- shares that came late and are in no hour yet, of users who have no hour at all, too.
stored as (
    (
        select distinct on (user_id)
            'alltime' as period, '-infinity'::timestamptz as since, user_id, best_difficulty,
            best_share_time, best_worker_id, best_share_hash
        from weekly_best_diff
        order by user_id, best_difficulty desc, best_share_time
    )
    union all
    select
        'week', date_trunc('week', now(), 'UTC'), user_id, best_difficulty, best_share_time,
        best_worker_id, best_share_hash
    from weekly_best_diff
    where week_start = date_trunc('week', now() at time zone 'UTC')::date
),
both_kinds as (
    select 'worker' as scope, coalesce(b.period, s.period) as period,
        coalesce(b.since, s.since) as since, coalesce(b.user_id, s.user_id) as user_id,
        coalesce(b.worker_id, s.best_worker_id) as worker_id,
        case when higher then s.best_difficulty else b.best_difficulty end as best_difficulty,
        case when higher then s.best_share_time else b.found_at end as found_at,
        case when higher then s.best_share_hash else b.share_hash end as share_hash,
        b.shares, b.work
    from by_worker b
    full join (select * from stored where best_worker_id is not null) s
        on s.period = b.period and s.best_worker_id = b.worker_id
    cross join lateral (
        select coalesce(s.best_difficulty >= b.best_difficulty, b.user_id is null) as higher
    ) c
    union all
    select 'user', coalesce(b.period, s.period), coalesce(b.since, s.since),
        coalesce(b.user_id, s.user_id),
        case when higher then s.best_worker_id else b.worker_id end,
        case when higher then s.best_difficulty else b.best_difficulty end,
        case when higher then s.best_share_time else b.found_at end,
        case when higher then s.best_share_hash else b.share_hash end,
        b.shares, b.work
    from by_user b
    full join stored s on s.period = b.period and s.user_id = b.user_id
    cross join lateral (
        select coalesce(s.best_difficulty >= b.best_difficulty, b.user_id is null) as higher
    ) c
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
    case when k.work is not null then chance_of(k.best_difficulty, k.work) end as chance
from both_kinds k
join users u on u.id = k.user_id
left join workers w on w.id = k.worker_id;
