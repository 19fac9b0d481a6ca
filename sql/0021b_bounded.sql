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
