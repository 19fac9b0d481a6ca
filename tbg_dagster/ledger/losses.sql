-- Closed hours of [start, end) in which events were lost: the unexplained first, then
-- the newest.
select
    l.hour, concat_ws(': ', nullif(i.cell, ''), i.instance) as instance,
    l.dropped, l.dropped_by_cause, l.unexplained
from share_ledger l
join engine_instances i on i.id = l.instance_id
where l.hour >= %(start)s and l.hour < %(end)s and (l.unexplained <> 0 or l.dropped <> 0)
order by (l.unexplained <> 0) desc, l.hour desc, l.unexplained desc, l.dropped desc, i.cell, i.instance
