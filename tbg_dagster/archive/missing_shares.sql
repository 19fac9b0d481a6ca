-- Every row counts: two equal ones are two. Rows are compared by all but is_block, which is
-- set later on a share that was stored before its block was known.
insert into missing_shares
select
    time, btc_address, worker_name, instance, seq, difficulty, share_diff, is_valid,
    reject_reason, is_block, job_id, nonce, nonce2, share_hash, ip_address, source, user_id,
    worker_id, instance_id
from (
    select
        time, btc_address, worker_name, instance, seq, difficulty, share_diff, is_valid,
        reject_reason, bool_or(is_block) as is_block, job_id, nonce, nonce2, share_hash,
        ip_address, source,
        max(user_id) filter (where copies > 0) as user_id,
        max(worker_id) filter (where copies > 0) as worker_id,
        max(instance_id) filter (where copies > 0) as instance_id,
        sum(copies) as copies
    from (
        select *, 1 as copies from archived_shares
        union all
        select *, -1 from named_shares where time >= %(start)s and time < %(end)s
    ) both_sides
    group by
        time, btc_address, worker_name, instance, seq, difficulty, share_diff, is_valid,
        reject_reason, job_id, nonce, nonce2, share_hash, ip_address, source,
        case when btc_address is null then user_id end,
        case when worker_name is null then worker_id end,
        case when instance is null then instance_id end
    having sum(copies) > 0
) absent
cross join lateral generate_series(1, copies)
