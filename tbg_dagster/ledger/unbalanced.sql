-- Engine boots whose two books differ: what the sequence state says that they emitted, and
-- what is counted as stored or refused, or is a hole. A number that the state takes for
-- stored and that nothing counted shows here.
select
    i.instance,
    i.seq_max as emitted,
    (coalesce(l.counted, 0) + coalesce(h.holes, 0))::bigint as accounted
from engine_instances i
left join (
    select instance_id, sum(committed + dead_lettered) as counted from ledger group by 1
) l on l.instance_id = i.id
left join lateral (
    select sum(upper(hole) - lower(hole)) as holes from unnest(i.seq_missing) as hole
) h on true
where i.seq_max <> coalesce(l.counted, 0) + coalesce(h.holes, 0)
order by i.instance
