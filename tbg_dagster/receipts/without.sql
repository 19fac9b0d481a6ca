-- Closed hours with numbers, and no root of them an hour after they were closed.
select c.hour, i.instance
from share_ledger c
join engine_instances i on i.id = c.instance_id
where c.emitted > 0
  and c.closed_at < now() - interval '1 hour'
  and (c.hour at time zone 'UTC')::date = any(%(with_rows)s)
  and not exists (
      select from receipt_trees t where t.hour = c.hour and t.instance_id = c.instance_id
  )
order by c.hour, i.instance
