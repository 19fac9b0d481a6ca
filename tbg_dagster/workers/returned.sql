-- Workers whose return is to be reported now.
with told as (
    delete from worker_liveness
    where alerted_at is not null and back_since <= %(now)s - %(debounce)s
    returning worker_id, silent_since
)
select t.worker_id, u.btc_address as user, w.worker_name as worker, t.silent_since
from told t
join workers w on w.id = t.worker_id
join users u on u.id = w.user_id
order by 1, 2
