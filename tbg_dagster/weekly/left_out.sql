-- How many valid shares of a week are in no result, because a clock was wrong.
select coalesce(sum(counted.shares), 0)::bigint as shares
from skewed_hours k
cross join lateral (
    select count(*) as shares
    from shares s
    where s.time >= k.hour and s.time < k.hour + interval '1 hour'
      and coalesce(s.instance_id, 0) = k.instance_id
      and s.is_valid
) counted
where k.hour >= %(start)s and k.hour < %(end)s and k.decision is distinct from 'keep'
