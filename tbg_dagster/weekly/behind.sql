-- Users whose best of an open week is lower than their hours say. A best commits with its
-- share, so every hour that is rolled up is in the table.
with hours as (
    select
        user_id,
        date_trunc('week', bucket at time zone 'UTC')::date as week_start,
        max(best_share_diff) as best
    from shares_hourly
    where bucket >= %(start)s and bucket < %(end)s
    group by 1, 2
)
select h.user_id, h.week_start, h.best, w.best_difficulty
from hours h
left join weekly_best_diff w using (user_id, week_start)
where h.best > coalesce(w.best_difficulty, -1)
  -- A finalised week has a check of its own, and leaves shares out.
  and not exists (
      select from weekly_best_diff f
      where f.week_start = h.week_start and f.finalized_at is not null
  )
order by h.week_start, h.user_id
