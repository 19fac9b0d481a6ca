-- Unexplained losses of the last days, as the ledger has them now.
select l.instance, l.hour, l.missing, l.unexplained
from ledger_hours l
join engine_instances i on i.id = l.instance_id
where l.unexplained <> 0
  and i.last_seen > now() - make_interval(days => %(days)s)
  and l.hour > now() - make_interval(days => %(days)s)
order by l.hour desc, l.instance
