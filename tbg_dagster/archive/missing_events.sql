-- As missing_shares.sql.
insert into missing_events
select time, event, instance_id, seq, source, payload
from (
    select time, event, instance_id, seq, source, payload, sum(copies) as copies
    from (
        select
            a.time, a.event, coalesce(i.id, a.instance_id) as instance_id, a.seq, a.source,
            a.payload, 1 as copies
        from archived_events a
        left join engine_instances i on i.instance = a.instance
        union all
        select time, event, instance_id, seq, source, payload, -1
        from mining_events
        where time >= %(start)s and time < %(end)s
    ) both_sides
    group by time, event, instance_id, seq, source, payload
    having sum(copies) > 0
) absent
cross join lateral generate_series(1, copies)
