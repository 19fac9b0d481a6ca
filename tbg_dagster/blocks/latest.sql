select
    b.block_height, b.block_hash, b.status, b.confirmations, b.reward_btc, b.found_at,
    u.btc_address
from blocks b
join users u on u.id = b.user_id
order by b.found_at desc
limit 15
