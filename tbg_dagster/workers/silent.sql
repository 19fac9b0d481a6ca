-- Workers whose silence is to be reported now.
with told as (
    update worker_liveness
    set alerted_at = %(now)s
    where alerted_at is null and marked_at <= %(now)s - %(debounce)s
    returning worker_id, silent_since
)
select t.worker_id, u.btc_address as user, w.worker_name as worker, t.silent_since
from told t
join workers w on w.id = t.worker_id
join users u on u.id = w.user_id
order by 1, 2
