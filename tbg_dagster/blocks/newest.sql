-- The newest blocks with what became of them.
select b.block_height, b.status, b.confirmations, b.found_at, b.source,
    u.btc_address as user, w.worker_name as worker
from blocks b
join users u on u.id = b.user_id
join workers w on w.id = b.worker_id
order by b.found_at desc, b.id desc
limit 10
