-- Every row counts: two equal ones are two. Rows are compared by all but is_block, which is
-- set later on a share that was stored before its block was known.
insert into missing_shares (
    time, user_id, worker_id, instance_id, seq, difficulty, share_diff, is_valid, reject_reason,
    is_block, job_id, nonce, nonce2, share_hash, ip_address, source
)
select
    time, user_id, worker_id, instance_id, seq, difficulty, share_diff, is_valid, reject_reason,
    is_block, job_id, nonce, nonce2, share_hash, ip_address, source
from (
    select
        time, user_id, worker_id, instance_id, seq, difficulty, share_diff, is_valid,
        reject_reason, bool_or(is_block) as is_block, job_id, nonce, nonce2, share_hash,
        ip_address, source, sum(copies) as copies
    from (
        select
            a.time,
            coalesce(u.id, a.user_id) as user_id,
            coalesce(w.id, a.worker_id) as worker_id,
            coalesce(i.id, a.instance_id) as instance_id,
            a.seq, a.difficulty, a.share_diff, a.is_valid, a.reject_reason, a.is_block,
            a.job_id, a.nonce, a.nonce2, a.share_hash, a.ip_address, a.source, 1 as copies
        from archived_shares a
        left join users u on u.btc_address = a.btc_address
        left join workers w on w.user_id = u.id and w.worker_name = a.worker_name
        left join engine_instances i on i.instance = a.instance
        union all
        select
            time, user_id, worker_id, instance_id, seq, difficulty, share_diff, is_valid,
            reject_reason, is_block, job_id, nonce, nonce2, share_hash, ip_address, source, -1
        from shares
        where time >= %(start)s and time < %(end)s
    ) both_sides
    group by
        time, user_id, worker_id, instance_id, seq, difficulty, share_diff, is_valid,
        reject_reason, job_id, nonce, nonce2, share_hash, ip_address, source
    having sum(copies) > 0
) absent
cross join lateral generate_series(1, copies)
