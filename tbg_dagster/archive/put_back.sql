with
put_shares as (
    insert into shares (
        time, user_id, worker_id, instance_id, seq, difficulty, share_diff, is_valid,
        reject_reason, is_block, job_id, nonce, nonce2, share_hash, ip_address, source
    )
    select
        time, user_id, worker_id, instance_id, seq, difficulty, share_diff, is_valid,
        reject_reason, is_block, job_id, nonce, nonce2, share_hash, ip_address, source
    from missing_shares
    -- As the writer stores them, so that the index over time stays small.
    order by time
    returning 1
),
put_events as (
    insert into mining_events (time, event, instance_id, seq, source, payload)
    select time, event, instance_id, seq, source, payload from missing_events order by time
    returning 1
)
select
    (select count(*) from put_shares) as shares,
    (select count(*) from put_events) as events
