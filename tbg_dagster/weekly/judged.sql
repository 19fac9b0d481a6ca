-- Which of some users have a finalised week that is not what their raw shares say.
with per_user as (
    select
        s.user_id,
        count(*) as accepted,
        sum(bounded(s.difficulty)) as work,
        max(s.share_diff) as best_share_diff
    from shares s
    where s.user_id = any (%(users)s) and s.time >= %(start)s and s.time < %(end)s and s.is_valid
      and not exists (
          select from skewed_hours k
          where k.hour = date_trunc('hour', s.time, 'UTC')
            and k.instance_id = coalesce(s.instance_id, 0)
            and k.decision is distinct from 'keep'
      )
    group by s.user_id
),
results as (
    select * from weekly_best_diff where week_start = %(week)s and user_id = any (%(users)s)
)
select coalesce(w.user_id, p.user_id) as user_id
from results w
full join per_user p using (user_id)
where (w.total_shares, w.best_difficulty) is distinct from (p.accepted, p.best_share_diff)
   or abs(w.total_work - p.work) > 1e-9 * abs(p.work)
order by 1
