-- Rows of the revision before ("archived") and of the database ("stored") that the new revision
-- lacks, by name.
with written as (
    select
        time, event, instance, seq, source, payload,
        case when instance is null then instance_id end
    from written_events
)
select
    (
        select count(*)
        from (
            select
                time, event, instance, seq, source, payload,
                case when instance is null then instance_id end
            from archived_events
            except all
            select * from written
        ) lost
    ) as archived,
    (
        select count(*)
        from (
            select
                time, event, instance, seq, source, payload,
                case when instance is null then instance_id end
            from named_events
            where time >= %(start)s and time < %(end)s
            except all
            select * from written
        ) lost
    ) as stored
