-- As missing_shares.sql.
insert into missing_events
select time, event, instance, seq, source, payload, instance_id
from (
    select
        time, event, instance, seq, source, payload,
        max(instance_id) filter (where copies > 0) as instance_id,
        sum(copies) as copies
    from (
        select *, 1 as copies from archived_events
        union all
        select *, -1 from named_events where time >= %(start)s and time < %(end)s
    ) both_sides
    group by
        time, event, instance, seq, source, payload,
        case when instance is null then instance_id end
    having sum(copies) > 0
) absent
cross join lateral generate_series(1, copies)
