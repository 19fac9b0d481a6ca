-- The winners of the newest closed weeks up to one.
select w.week_start, u.btc_address as user, coalesce(k.worker_name, '') as worker, w.best_difficulty,
    (select count(*) from weekly_best_diff e
        where e.week_start = w.week_start and e.finalized_at is not null) as entrants
from weekly_best_diff w
join users u on u.id = w.user_id
left join workers k on k.id = w.best_worker_id
where w.rank = 1 and w.finalized_at is not null and w.week_start <= %(week)s
order by w.week_start desc
limit 10
