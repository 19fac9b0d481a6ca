select
    count(*) as shares,
    count(*) filter (where w.id is null or w.user_id <> s.user_id) as orphans
from shares s
left join workers w on w.id = s.worker_id
where s.time >= %(start)s and s.time < %(end)s
