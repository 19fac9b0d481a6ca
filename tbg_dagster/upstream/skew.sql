-- Notes hours of an engine boot whose events have times that cannot be.
--
-- ahead: the event lay in the future when it was looked at. behind: an event with a higher
-- number has an earlier time than one of another hour, two hours or more later. An event
-- that only came late, out of a spool or a resend, has the low number that it always had.
with ahead as (
    select date_trunc('hour', time, 'UTC') as hour, coalesce(instance_id, 0) as instance_id
    from shares
    where time > %(now)s + %(tolerance)s
    union
    select hour, instance_id from ledger where hour > %(now)s + %(tolerance)s
),
ordered as (
    select
        l.hour,
        l.instance_id,
        l.last_seq,
        min(l.first_seq) filter (
            where a.hour is null and s.kind is distinct from 'ahead'
        ) over (
            partition by l.instance_id order by l.hour
            range between interval '2 hours' following and unbounded following
        ) as first_seq_later
    from ledger l
    left join ahead a using (hour, instance_id)
    left join skewed_hours s using (hour, instance_id)
    where l.hour > %(now)s - interval '1 year'
)
insert into skewed_hours (hour, instance_id, kind)
select hour, instance_id, 'ahead' from ahead
union all
select hour, instance_id, 'behind' from ordered where last_seq > first_seq_later
on conflict (hour, instance_id) do nothing
