-- Rows of the revision before ("archived") and of the database ("stored") that the new revision
-- lacks, by name. is_block is left out: it is set later.
with written as (
    select
        time, btc_address, worker_name, instance, seq, difficulty, share_diff, is_valid,
        reject_reason, job_id, nonce, nonce2, share_hash, ip_address, source,
        case when btc_address is null then user_id end,
        case when worker_name is null then worker_id end,
        case when instance is null then instance_id end
    from written_shares
)
select
    (
        select count(*)
        from (
            select
                time, btc_address, worker_name, instance, seq, difficulty, share_diff, is_valid,
                reject_reason, job_id, nonce, nonce2, share_hash, ip_address, source,
                case when btc_address is null then user_id end,
                case when worker_name is null then worker_id end,
                case when instance is null then instance_id end
            from archived_shares
            except all
            select * from written
        ) lost
        -- As renamed_shares.sql: the database's name is the one to find.
        where not exists (
            select from named_shares s
            where s.time >= %(start)s and s.time < %(end)s
              and s.time = lost.time and s.instance = lost.instance and s.seq = lost.seq
              and s.share_hash is not distinct from lost.share_hash
              and (s.btc_address, s.worker_name)
                  is distinct from (lost.btc_address, lost.worker_name)
        )
    ) as archived,
    (
        select count(*)
        from (
            select
                time, btc_address, worker_name, instance, seq, difficulty, share_diff, is_valid,
                reject_reason, job_id, nonce, nonce2, share_hash, ip_address, source,
                case when btc_address is null then user_id end,
                case when worker_name is null then worker_id end,
                case when instance is null then instance_id end
            from named_shares
            where time >= %(start)s and time < %(end)s
            except all
            select * from written
        ) lost
    ) as stored
