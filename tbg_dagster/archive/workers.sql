-- As names.sql, for the workers, which need their users' numbers.
insert into workers (user_id, worker_name, first_seen, last_share)
select u.id, s.worker_name, min(s.time), max(s.time)
from missing_shares s
join users u using (btc_address)
where s.worker_name is not null
group by 1, 2
order by 1, 2
on conflict (user_id, worker_name) do nothing
