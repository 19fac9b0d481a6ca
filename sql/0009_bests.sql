-- depends: 0008_shares
-- What is read of shares, on both flavours: bests, standings, and shares with their names.

-- A number as the contract bounds difficulties: from 1e-12 to 2^224, or 0. The sums, squares and
-- quotients of any double are more than PostgreSQL computes, and one absurd number must stop nobody.
-- (Not declared strict, which would keep it from being inlined.)
create function bounded(number double precision) returns double precision
language sql immutable parallel safe as $$
    select case
        when number > 26959946667150639794667015087019630673637144422540572481103610249216
            then 26959946667150639794667015087019630673637144422540572481103610249216
        when number > 0 and number < 1e-12 then 1e-12
        else number
    end::double precision
$$;

-- The chance that this work finds a share of this difficulty or better: none of n shares
-- of difficulty d reaches x with probability exp(-n * d / x). A small chance is its own
-- series: 1 - exp(-q) loses its digits.
create function chance_of(difficulty double precision, work double precision)
returns double precision
language sql immutable as $$
    select case
        when difficulty <= 0 then 1
        when bounded(work) / bounded(difficulty) < 1e-5 then bounded(work) / bounded(difficulty)
        else 1 - exp(greatest(-bounded(work) / bounded(difficulty), -700))
    end
$$;

-- Shares as a person reads them: names instead of numbers, hex instead of bytes.
create view shares_hex as
select
    s.time,
    u.btc_address,
    w.worker_name,
    s.difficulty,
    s.share_diff,
    s.is_valid,
    s.reject_reason,
    s.is_block,
    s.job_id,
    encode(s.nonce, 'hex') as nonce,
    encode(s.nonce2, 'hex') as nonce2,
    encode(s.share_hash, 'hex') as share_hash,
    s.ip_address,
    s.source,
    i.instance,
    s.seq,
    s.user_id,
    s.worker_id,
    s.instance_id
from shares s
join users u on u.id = s.user_id
join workers w on w.id = s.worker_id
left join engine_instances i on i.id = s.instance_id;

comment on view shares_hex is 'Shares with names instead of numbers, and hashes as text.';
comment on column shares_hex.time is 'as in shares';
comment on column shares_hex.btc_address is 'address of the user';
comment on column shares_hex.worker_name is 'name of the worker';
comment on column shares_hex.difficulty is 'as in shares';
comment on column shares_hex.share_diff is 'as in shares';
comment on column shares_hex.is_valid is 'as in shares';
comment on column shares_hex.reject_reason is 'as in shares';
comment on column shares_hex.is_block is 'as in shares';
comment on column shares_hex.job_id is 'as in shares';
comment on column shares_hex.nonce is 'hex';
comment on column shares_hex.nonce2 is 'hex';
comment on column shares_hex.share_hash is '64 hex digits, as explorers show a block''s hash';
comment on column shares_hex.ip_address is 'as in shares';
comment on column shares_hex.source is 'as in shares';
comment on column shares_hex.instance is 'the engine boot';
comment on column shares_hex.seq is 'as in shares';
comment on column shares_hex.user_id is 'as in shares';
comment on column shares_hex.worker_id is 'as in shares';
comment on column shares_hex.instance_id is 'as in shares';

-- Workers with the time of their last share. The row's own (noted_share) may be up to an
-- hour older; of a worker that is offline it is the last one before it went.
create view workers_seen as
select
    w.id,
    w.user_id,
    w.worker_name,
    w.first_seen,
    greatest(w.last_share, s.time) as last_share,
    w.last_share as noted_share,
    w.current_diff,
    w.hashrate_1m,
    w.hashrate_5m,
    w.hashrate_1h,
    w.hashrate_24h,
    w.is_online,
    w.user_agent,
    w.source
from workers w
left join lateral (
    select s.time
    from shares s
    where s.worker_id = w.id
      and s.time > w.last_share
      and s.time <= w.last_share + interval '61 minutes'
    order by s.time desc
    limit 1
) s on true;

comment on view workers_seen is 'Workers with their newest share, whether its row was updated yet or not.';
comment on column workers_seen.id is 'as in workers';
comment on column workers_seen.user_id is 'as in workers';
comment on column workers_seen.worker_name is 'as in workers';
comment on column workers_seen.first_seen is 'as in workers';
comment on column workers_seen.last_share is 'time of the newest share';
comment on column workers_seen.noted_share is 'last_share of the row in workers';
comment on column workers_seen.current_diff is 'as in workers';
comment on column workers_seen.hashrate_1m is 'as in workers';
comment on column workers_seen.hashrate_5m is 'as in workers';
comment on column workers_seen.hashrate_1h is 'as in workers';
comment on column workers_seen.hashrate_24h is 'as in workers';
comment on column workers_seen.is_online is 'as in workers';
comment on column workers_seen.user_agent is 'as in workers';
comment on column workers_seen.source is 'as in workers';

-- Every user's week with its totals. Of a week that is not finalised they are provisional:
-- the hours that are rolled up, and the raw shares after those. Shares that came late for a
-- rolled-up hour are missing until that hour is computed again.
-- By worker and by user's time, because these are the indexes of shares_hourly and shares.
create view weekly_standings as
select
    w.user_id,
    w.week_start,
    w.best_difficulty,
    w.best_share_time,
    w.best_worker_id,
    w.best_share_hash,
    case when w.finalized_at is null then coalesce(h.shares, 0) + r.shares
        else w.total_shares end as total_shares,
    case when w.finalized_at is null then coalesce(h.work, 0) + coalesce(r.work, 0)
        else w.total_work end as total_work,
    w.rank,
    w.finalized_at,
    w.finalized_at is null as provisional
from weekly_best_diff w
cross join lateral (
    select
        w.week_start::timestamp at time zone 'UTC' as first,
        (w.week_start + 7)::timestamp at time zone 'UTC' as last
) week
left join lateral (
    select
        sum(h.accepted)::bigint as shares,
        sum(least(h.work, 1e290)::numeric)::double precision as work,
        max(h.last_share) as until
    from workers k
    join shares_hourly h on h.worker_id = k.id and h.bucket >= week.first and h.bucket < week.last
    where k.user_id = w.user_id and w.finalized_at is null
) h on true
left join lateral (
    select count(*) as shares, sum(bounded(s.difficulty)::numeric)::double precision as work
    from shares s
    where s.user_id = w.user_id and s.is_valid and w.finalized_at is null
      and s.time >= week.first and s.time < week.last
      and s.time > coalesce(h.until, '-infinity')
) r on true;

comment on view weekly_standings is 'The weeks with a rank in each, the running one included.';
comment on column weekly_standings.user_id is 'the user';
comment on column weekly_standings.week_start is 'Monday of the ISO week (UTC)';
comment on column weekly_standings.best_difficulty is 'greatest share difficulty';
comment on column weekly_standings.best_share_time is 'time of that share';
comment on column weekly_standings.best_worker_id is 'its worker';
comment on column weekly_standings.best_share_hash is 'its hash';
comment on column weekly_standings.total_shares is 'valid shares of the week';
comment on column weekly_standings.total_work is 'sum of the difficulty of valid shares';
comment on column weekly_standings.rank is '1 leads';
comment on column weekly_standings.finalized_at is 'time of the reset; null while the week is open';
comment on column weekly_standings.provisional is 'whether the week is not final';

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
            d.accepted, least(d.work, 1e290) as work
        from edges e
        join shares_daily d on d.bucket >= e.first_day and d.bucket < e.days_end
        union all
        select h.user_id, h.worker_id, h.best_share_diff, h.bucket, interval '1 hour',
            h.accepted, least(h.work, 1e290)
        from edges e
        join shares_hourly h on h.bucket >= e.first_hour and h.bucket < e.hours_end
            and (h.bucket < e.first_day or h.bucket >= e.days_end)
        union all
        select s.user_id, s.worker_id, s.share_diff, s.time, interval '0', 1, bounded(s.difficulty)
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
        select d.user_id, d.best_share_diff, d.bucket, interval '1 day' as span, d.accepted,
            least(d.work, 1e290) as work
        from shares_daily d
        where d.worker_id = of_worker and d.bucket >= first_day and d.bucket < days_end
        union all
        select h.user_id, h.best_share_diff, h.bucket, interval '1 hour', h.accepted, least(h.work, 1e290)
        from shares_hourly h
        where h.worker_id = of_worker and h.bucket < hours_end
          and h.bucket >= greatest(first_hour, case when days_end > first_day then days_end end)
        union all
        select h.user_id, h.best_share_diff, h.bucket, interval '1 hour', h.accepted, least(h.work, 1e290)
        from shares_hourly h
        where h.worker_id = of_worker and h.bucket < hours_end
          and h.bucket >= first_hour and h.bucket < first_day and days_end > first_day
        union all
        select s.user_id, s.share_diff, s.time, interval '0', 1, bounded(s.difficulty)
        from shares s
        where s.worker_id = of_worker and s.is_valid and s.time >= since and s.time < first_hour
        union all
        select s.user_id, s.share_diff, s.time, interval '0', 1, bounded(s.difficulty)
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

-- 0043_bests.sql replaces bests_of and the view bests: see there. (Up to 0011 this is the schema of the
-- databases that tbg/predecessor.py marks; they run 0043, too.)

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
create view bests as
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

comment on view bests is 'Best shares by user and worker, of a session, a week and all time.';
comment on column bests.scope is 'user or worker';
comment on column bests.period is 'session, week or alltime';
comment on column bests.since is 'beginning of the period';
comment on column bests.btc_address is 'address of the user';
comment on column bests.worker_name is 'name of the worker; null for a user';
comment on column bests.best_difficulty is 'greatest share difficulty';
comment on column bests.found_at is 'time of the share; null if only the engine knows it';
comment on column bests.share_hash is '64 hex digits';
comment on column bests.shares is 'valid shares of the period';
comment on column bests.work is 'sum of the difficulty of valid shares';
comment on column bests.chance is '0 to 1: of doing as well or better with that work';
