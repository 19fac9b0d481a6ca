-- Users whose finalised week is not what the raw shares were counted to be: by the
-- statistics of its days, and here and now for the days that have none. Both count the
-- shares that a wrong clock keeps out of the result, and statistics may be about to be
-- computed again: the raw shares decide (judged.sql).
with counted as (
    select user_id, accepted, work, best_share_diff
    from worker_stats_daily
    where day >= %(week)s and day < %(week)s::date + 7 and accepted > 0
      and day <> all (%(uncounted)s::date[])
    union all
    select user_id, count(*), sum(bounded(difficulty)), max(share_diff)
    from shares
    where time >= %(start)s and time < %(end)s and is_valid
      and (time at time zone 'UTC')::date = any (%(uncounted)s::date[])
    group by user_id
),
per_user as (
    select
        user_id,
        sum(accepted)::bigint as accepted,
        sum(least(work, 1e290)) as work,
        max(best_share_diff) as best_share_diff
    from counted
    group by user_id
),
results as (
    select * from weekly_best_diff where week_start = %(week)s
)
select coalesce(w.user_id, p.user_id) as user_id
from results w
full join per_user p using (user_id)
where (w.total_shares, w.best_difficulty) is distinct from (p.accepted, p.best_share_diff)
   or abs(w.total_work - p.work) > 1e-9 * abs(p.work)
