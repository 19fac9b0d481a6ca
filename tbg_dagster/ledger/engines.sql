-- The engine boots of an hour: what lost most first, then what sent most.
select concat_ws(': ', nullif(i.cell, ''), i.instance) as instance, l.*
from share_ledger l
join engine_instances i on i.id = l.instance_id
where l.hour = %(hour)s
order by l.unexplained desc, l.dropped desc, l.emitted desc, i.cell, i.instance
