-- Hours with late shares that a rollup has not taken in yet. The days follow the hours
-- they are computed from; weeks come after the hours, and rebuild those that lack shares. A week
-- that is finalised and has got another provisional row is computed again as well, whatever became
-- of the late share.
select hour, bool_or(hourly) as hourly, bool_or(daily) as daily, bool_or(weekly) as weekly,
    sum(shares)::bigint as shares
from (
    select
        hour,
        shares,
        settled_hourly < shares as hourly,
        settled_hourly >= shares and settled_daily < shares as daily,
        settled_hourly >= shares and settled_weekly < shares as weekly
    from late_share_hours
    where shares > least(settled_hourly, settled_daily, settled_weekly)
    union all
    select distinct p.week_start::timestamp at time zone 'UTC', 0, false, false, true
    from weekly_best_diff p
    where p.finalized_at is null
      and p.week_start >= (%(horizon)s::timestamptz at time zone 'UTC')::date
      and exists (
          select from weekly_best_diff f
          where f.week_start = p.week_start and f.finalized_at is not null
      )
) late
group by hour
order by hour
