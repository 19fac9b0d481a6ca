-- depends: 0002_shares
-- Shares as a person reads them: names instead of numbers, hex instead of bytes.

create view shares_hex as
select
    s.time,
    u.btc_address,
    w.worker_name,
    s.difficulty,
    s.share_diff,
    s.is_valid,
    s.reject_reason,
    s.is_block,
    s.job_id,
    encode(s.nonce, 'hex') as nonce,
    encode(s.nonce2, 'hex') as nonce2,
    encode(s.share_hash, 'hex') as share_hash,
    s.ip_address,
    s.source,
    i.instance,
    s.seq,
    s.user_id,
    s.worker_id,
    s.instance_id
from shares s
join users u on u.id = s.user_id
join workers w on w.id = s.worker_id
left join engine_instances i on i.id = s.instance_id;
