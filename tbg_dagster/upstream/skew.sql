-- Notes hours of an engine boot whose events have times that cannot be.
--
-- ahead: the event lay in the future when it came, or when it was looked at. behind: an event
-- with a higher number has an earlier time than one of another hour, two hours or more later,
-- or all events of one of our engines came two hours or more late, and the engine's later
-- ones too: its clock was wrong from its start. An event that only came late, out of a spool
-- or a resend, has the low number that it always had, and later ones come in time. A share
-- log that is imported is late by nature.
with ahead as (
    select date_trunc('hour', time, 'UTC') as hour, coalesce(instance_id, 0) as instance_id
    from shares
    where time > %(now)s + %(tolerance)s
    union
    select hour, instance_id from ledger
    where hour > %(now)s + %(tolerance)s
      or skew_max > extract(epoch from %(tolerance)s::interval) * 1000000
),
late as (
    select l.hour, l.instance_id
    from ledger l
    join engine_instances i on i.id = l.instance_id
    where l.skew_max < -7200000000.0
      and l.hour > %(now)s - interval '1 year'
      and i.source = 'hosted'
      and not starts_with(i.instance, 'sharelog/')
      and not exists (
          select from ledger later
          where later.instance_id = l.instance_id
            and later.hour > l.hour
            and later.skew_max >= -7200000000.0
      )
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
(
    select hour, instance_id, 'behind' from ordered where last_seq > first_seq_later
    union
    select hour, instance_id, 'behind' from late
    except
    select hour, instance_id, 'behind' from ahead
)
on conflict (hour, instance_id) do nothing
