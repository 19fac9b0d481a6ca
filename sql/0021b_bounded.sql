-- depends: 0012_standings 0010_alerts
-- One absurd number stops nobody. The contract bounds difficulties; rows from before it did may
-- hold any double, whose sums, squares and quotients PostgreSQL refuses to compute.

-- A number as the contract bounds difficulties: from 1e-12 to 2^224, or 0. (Not declared strict,
-- which would keep it from being inlined.)
create function bounded(number double precision) returns double precision
language sql immutable parallel safe as $$
    select case
        when number > 26959946667150639794667015087019630673637144422540572481103610249216
            then 26959946667150639794667015087019630673637144422540572481103610249216
        when number > 0 and number < 1e-12 then 1e-12
        else number
    end::double precision
$$;

-- As before, of any numbers.
create or replace function chance_of(difficulty double precision, work double precision)
returns double precision
language sql immutable as $$
    select case
        when difficulty <= 0 then 1
        when bounded(work) / bounded(difficulty) < 1e-5 then bounded(work) / bounded(difficulty)
        else 1 - exp(greatest(-bounded(work) / bounded(difficulty), -700))
    end
$$;

-- As before, of any numbers.
create or replace view weekly_standings as
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

-- As before, of any numbers.
create or replace function worker_bests_since(since timestamptz)
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
