-- The shares of a day with their names, in an order that makes equal rows equal files:
-- those of the database, and those that only the archive's last revision has.
select
    s.time, s.btc_address, s.worker_name, s.instance, s.seq, s.difficulty, s.share_diff,
    s.is_valid, s.reject_reason, s.is_block, s.job_id, s.nonce, s.nonce2, s.share_hash,
    -- As it prints: a cast would add the mask.
    nullif(format('%%s', s.ip_address), ''), s.source, s.user_id, s.worker_id, s.instance_id
from (
    select * from named_shares where time >= %(start)s and time < %(end)s
    union all
    select * from missing_shares
) s
order by s.worker_id, s.time, s.instance_id, s.seq, s.share_hash, s.nonce, s.nonce2, s.job_id,
    s.difficulty, s.share_diff, s.reject_reason, s.ip_address
