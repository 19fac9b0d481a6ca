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

-- The share ledger, by instance and hour. Numbers run on from hour to hour, so what
-- an hour emitted is what lies between the highest number before it and its own
-- highest; what is missing of that and was not reported as dropped is unexplained.
-- An event that was emitted next to the full hour may count for the other hour by
-- its number: each instance's sums are exact.
create view ledger_hours as
with spans as (
    select
        l.*,
        coalesce(max(last_seq) over before, 0) as seq_before,
        coalesce(max(last_seq) over upto, 0) as seq_upto
    from ledger l
    window
        before as (
            partition by instance_id order by hour
            rows between unbounded preceding and 1 preceding
        ),
        upto as (
            partition by instance_id order by hour
            rows between unbounded preceding and current row
        )
),
holes as (
    select
        s.instance_id,
        s.hour,
        i.seq_missing * int8multirange(int8range(s.seq_before + 1, s.seq_upto + 1)) as numbers
    from spans s
    join engine_instances i on i.id = s.instance_id
    where not isempty(i.seq_missing)
),
missing as (
    select instance_id, hour, sum(upper(hole) - lower(hole))::bigint as events
    from holes, unnest(numbers) as hole
    group by 1, 2
),
causes as (
    select h.instance_id, h.hour, d.cause, sum(upper(lost) - lower(lost))::bigint as events
    from holes h
    join ledger_drops d on d.instance_id = h.instance_id
    cross join lateral unnest(h.numbers * d.numbers) as lost
    group by 1, 2, 3
),
explained as (
    -- A number may have been dropped twice, for two causes: it is missing once.
    select h.instance_id, h.hour, sum(upper(lost) - lower(lost))::bigint as events
    from holes h
    join (
        select instance_id, range_agg(numbers) as numbers from ledger_drops group by 1
    ) d on d.instance_id = h.instance_id
    cross join lateral unnest(h.numbers * d.numbers) as lost
    group by 1, 2
),
drops as (
    select
        instance_id,
        hour,
        e.events as dropped,
        jsonb_object_agg(c.cause, c.events) as dropped_by_cause
    from explained e
    join causes c using (instance_id, hour)
    group by 1, 2, 3
)
select
    i.instance,
    i.source,
    s.instance_id,
    s.hour,
    s.seq_upto - s.seq_before as emitted,
    s.received,
    s.committed + s.dead_lettered + s.duplicates as published,
    s.committed,
    s.dead_lettered,
    s.duplicates,
    coalesce(d.dropped, 0) as dropped,
    coalesce(d.dropped_by_cause, '{}') as dropped_by_cause,
    coalesce(m.events, 0) as missing,
    coalesce(m.events, 0) - coalesce(d.dropped, 0) as unexplained
from spans s
join engine_instances i on i.id = s.instance_id
left join missing m using (instance_id, hour)
left join drops d using (instance_id, hour);
