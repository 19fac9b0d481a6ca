with
put_shares as (
    insert into shares (
        time, user_id, worker_id, instance_id, seq, difficulty, share_diff, is_valid,
        reject_reason, is_block, job_id, nonce, nonce2, share_hash, ip_address, source
    )
    select
        m.time,
        coalesce(u.id, m.user_id),
        coalesce(w.id, m.worker_id),
        coalesce(i.id, m.instance_id),
        m.seq, m.difficulty, m.share_diff, m.is_valid, m.reject_reason, m.is_block, m.job_id,
        m.nonce, m.nonce2, m.share_hash, m.ip_address, m.source
    from missing_shares m
    left join users u on u.btc_address = m.btc_address
    left join workers w on w.user_id = u.id and w.worker_name = m.worker_name
    left join engine_instances i on i.instance = m.instance
    -- As the writer stores them, so that the index over time stays small.
    order by m.time
    returning 1
),
put_events as (
    insert into mining_events (time, event, instance_id, seq, source, payload)
    select m.time, m.event, coalesce(i.id, m.instance_id), m.seq, m.source, m.payload
    from missing_events m
    left join engine_instances i on i.instance = m.instance
    order by m.time
    returning 1
)
select
    (select count(*) from put_shares) as shares,
    (select count(*) from put_events) as events
