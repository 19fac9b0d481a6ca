-- The events of a day, as read_shares.sql reads the shares.
select e.time, e.event, e.instance, e.seq, e.source, e.payload::text, e.instance_id
from (
    select * from named_events where time >= %(start)s and time < %(end)s
    union all
    select * from missing_events
) e
order by e.event, e.time, e.instance_id, e.seq, e.payload
