-- Workers to report as flapping now: when they reach %(least)s short silences in 24 hours, again
-- at four times as many, and once a day while it lasts.
with counted as (
    select worker_id, sum(naps)::integer as naps
    from worker_naps
    where hour > %(now)s - interval '24 hours'
    group by worker_id
    having sum(naps) >= %(least)s
),
calm as (
    delete from worker_flaps f
    where not exists (select from counted c where c.worker_id = f.worker_id)
),
old as (
    delete from worker_naps where hour < %(now)s - interval '2 days'
),
told as (
    insert into worker_flaps as f (worker_id, naps, told_at)
    select worker_id, naps, %(now)s from counted
    on conflict (worker_id) do update set naps = excluded.naps, told_at = excluded.told_at
    where excluded.naps >= 4 * f.naps or f.told_at <= %(now)s - interval '24 hours'
    returning worker_id, naps
)
select u.btc_address as user, w.worker_name as worker, t.naps
from told t
join workers w on w.id = t.worker_id
join users u on u.id = w.user_id
order by 1, 2
