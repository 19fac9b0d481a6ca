-- Users whose finalised week is not what their hours add up to, or whose rank is not the
-- place that their best share has.
-- The hours hold the shares that a wrong clock keeps out of the result; where a user has
-- some, its best may lie below that of its hours.
with results as (
    select
        *,
        row_number() over (order by best_difficulty desc, best_share_time, user_id) as place
    from weekly_best_diff
    where week_start = %(week)s and finalized_at is not null
),
left_out as (
    select s.user_id, count(*) as accepted, sum(bounded(s.difficulty)) as work
    from skewed_hours k
    join shares s
        on s.time >= k.hour
        and s.time < k.hour + interval '1 hour'
        and coalesce(s.instance_id, 0) = k.instance_id
        and s.is_valid
    where k.decision is distinct from 'keep' and k.hour >= %(start)s and k.hour < %(end)s
    group by 1
),
rolled as (
    select
        user_id,
        sum(accepted)::bigint as accepted,
        sum(least(work, 1e290)) as work,
        max(best_share_diff) as best_share_diff
    from shares_hourly
    where bucket >= %(start)s and bucket < %(end)s
    group by 1
    having sum(accepted) > 0
),
hours as (
    select
        r.user_id,
        r.accepted - coalesce(l.accepted, 0) as accepted,
        r.work - coalesce(l.work, 0) as work,
        r.best_share_diff,
        l.user_id is not null as partly
    from rolled r
    left join left_out l using (user_id)
    where r.accepted > coalesce(l.accepted, 0)
)
select coalesce(w.user_id, h.user_id) as user_id
from results w
full join hours h using (user_id)
where w.total_shares is distinct from h.accepted
   or case when h.partly then w.best_difficulty > h.best_share_diff
       else w.best_difficulty is distinct from h.best_share_diff
   end
   or abs(w.total_work - h.work) > 1e-9 * abs(h.work)
   or w.rank is distinct from w.place
order by 1
