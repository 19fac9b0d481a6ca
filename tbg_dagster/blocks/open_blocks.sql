-- Blocks that may still change. An orphan is final when the chain that replaced it is
-- as deep as a confirmed block's; a rejected one when it has not turned up for long.
select
    b.id, b.block_height, b.block_hash, b.status, b.confirmations, b.found_at, b.source,
    b.reward_sats, b.chain_height, u.btc_address
from blocks b
join users u on u.id = b.user_id
where b.status in ('found', 'accepted')
    or (b.status = 'orphaned' and %(tip)s - b.block_height + 1 < %(needed)s)
    or (b.status = 'rejected' and b.found_at > now() - %(rejected_final)s)
order by b.block_height, b.id
