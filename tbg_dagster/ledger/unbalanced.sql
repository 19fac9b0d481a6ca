-- Engine boots whose two books differ: what they emitted, and what is counted as stored or
-- refused, or is a hole. A number that the sequence state takes for stored and that nothing
-- counted shows here.
select
    concat_ws(': ', nullif(i.cell, ''), i.instance) as instance,
    b.seq_emitted as emitted,
    (coalesce(l.counted, 0) + numbers_in(b.holes))::bigint as accounted
from engine_boots() b
join engine_instances i on i.id = b.instance_id
left join (
    select instance_id, sum(committed + dead_lettered) as counted from ledger group by 1
) l on l.instance_id = b.instance_id
where b.seq_emitted <> coalesce(l.counted, 0) + numbers_in(b.holes)
order by i.cell, b.instance
