-- As missing_shares.sql.
insert into missing_events (time, event, instance_id, seq, source, payload)
select a.time, a.event, coalesce(i.id, a.instance_id), a.seq, a.source, a.payload
from archived_events a
left join engine_instances i on i.instance = a.instance
except all
select time, event, instance_id, seq, source, payload
from mining_events
where time >= %(start)s and time < %(end)s
