-- Engine boots that are over, were heard of since the start, and whose last number nobody
-- vouches for, the newest first; and the last hour in which they are in the books.
select
    concat_ws(': ', nullif(i.cell, ''), i.instance) as instance,
    i.source,
    e.seq_emitted as last_seq,
    e.heard_at,
    coalesce(l.hour, date_trunc('hour', e.heard_at, 'UTC')) as hour
from engine_endings e
join engine_instances i on i.id = e.instance_id
left join (
    select instance_id, max(hour) as hour from ledger group by 1
) l on l.instance_id = e.instance_id
where e.ending = 'unknown' and e.seq_emitted > 0 and e.heard_at >= %(start)s and e.heard_at < %(end)s
order by e.heard_at desc, e.instance
