-- The finalised result of a week, best first. What JSON and Redis cannot hold is bounded.
select
    w.rank,
    u.btc_address as user,
    coalesce(k.worker_name, '') as worker,
    bounded(w.best_difficulty) as best_difficulty,
    w.best_share_time,
    encode(w.best_share_hash, 'hex') as best_share_hash,
    w.total_shares,
    w.total_work
from weekly_best_diff w
join users u on u.id = w.user_id
left join workers k on k.id = w.best_worker_id
where w.week_start = %(week)s and w.finalized_at is not null
order by w.rank
limit %(most)s
