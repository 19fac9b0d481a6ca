-- The events of a day, by hour and kind.
select
    date_trunc('hour', time, 'UTC') as hour,
    event,
    count(*) as events,
    sum(octet_length(payload::text)) as payload_bytes
from mining_events
where time >= %(start)s and time < %(end)s
group by 1, 2
