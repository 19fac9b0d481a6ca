-- Unexplained losses of the last days, as the ledger has them now; of a boot that ended earlier,
-- what was only learned in these days.
select concat_ws(': ', nullif(i.cell, ''), i.instance) as instance, l.hour, l.missing, l.unexplained,
    i.source
from ledger_hours l
join engine_instances i on i.id = l.instance_id
where l.unexplained <> 0
  and (
    least(l.hour, i.last_seen) > now() - make_interval(days => %(days)s)
    or i.declared_at > now() - make_interval(days => %(days)s)
        and i.seq_declared > i.seq_max
        and l.hour = (select max(k.hour) from ledger k where k.instance_id = l.instance_id)
  )
order by l.hour desc, l.instance
