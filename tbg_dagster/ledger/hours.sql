-- The closed hours of [start, end), all engines together.
select
    hour,
    count(*) as instances,
    sum(emitted)::bigint as emitted,
    sum(received)::bigint as received,
    sum(committed)::bigint as committed,
    sum(dead_lettered)::bigint as dead_lettered,
    sum(duplicates)::bigint as duplicates,
    sum(dropped)::bigint as dropped,
    sum(unexplained)::bigint as unexplained
from share_ledger
where hour >= %(start)s and hour < %(end)s
group by hour
order by hour
