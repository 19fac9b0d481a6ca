-- Online workers with what is needed to tell how long they may be silent.
select
    w.id as worker_id,
    u.btc_address as user,
    w.worker_name as worker,
    coalesce(w.last_share, w.first_seen) as last_seen,
    w.current_diff,
    coalesce(nullif(w.hashrate_1h, 0), greatest(w.hashrate_5m, w.hashrate_1m)) as hashrate
from workers w
join users u on u.id = w.user_id
where w.is_online and coalesce(w.last_share, w.first_seen) < %(now)s - interval '1 minute'
order by w.id
