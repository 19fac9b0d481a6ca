-- Users whose finalised week is not what their hours add up to, or whose rank is not the
-- place that their best share has.
with weeks as (
    select
        *,
        row_number() over (
            partition by week_start order by best_difficulty desc, best_share_time, user_id
        ) as place
    from weekly_best_diff
    where week_start >= %(first)s and week_start < %(end)s and finalized_at is not null
),
hours as (
    select
        date_trunc('week', bucket at time zone 'UTC')::date as week_start,
        user_id,
        sum(accepted)::bigint as accepted,
        sum(work) as work,
        max(best_share_diff) as best_share_diff
    from shares_hourly
    where bucket >= %(first)s::date::timestamp at time zone 'UTC'
      and bucket < %(end)s::date::timestamp at time zone 'UTC'
    group by 1, 2
    having sum(accepted) > 0
)
select
    coalesce(w.week_start, h.week_start) as week_start,
    coalesce(w.user_id, h.user_id) as user_id
from weeks w
full join hours h using (week_start, user_id)
where exists (select from weeks f where f.week_start = coalesce(w.week_start, h.week_start))
  and (
      (w.total_shares, w.best_difficulty) is distinct from (h.accepted, h.best_share_diff)
      or abs(w.total_work - h.work) > 1e-9 * h.work
      or w.rank is distinct from w.place
  )
order by 1, 2
