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
-- Before the hour after which no event of the boot came in time.
in_time as (
    select instance_id, max(hour) filter (where skew_max >= -7200000000.0) as last_hour
    from ledger
    group by 1
),
late as (
    select l.hour, l.instance_id
    from ledger l
    join engine_instances i on i.id = l.instance_id
    join in_time t on t.instance_id = l.instance_id
    where l.skew_max < -7200000000.0
      and l.hour > %(now)s - interval '1 year'
      and i.source = 'hosted'
      and not starts_with(i.instance, 'sharelog/')
      and l.hour > coalesce(t.last_hour, '-infinity')
),
-- From the newest hour back, so that the window grows at its end only: one that shrinks at its
-- beginning is computed again for each row. For each hour it holds those two hours later and
-- more. With hours 7 (numbers 1 to 90), 8 (91 to 200), 9 (201 to 300), and 11 (40 to 60):
--   hour 11 looks at none, 9 at 11, 8 at 11, 7 at 9 and 11;
--   the lowest first number there is 40 for 9, 8 and 7; 300, 200 and 90 are above it:
--   the clock went back from some time after 11 into 9, 8 and 7.
ordered as (
    select
        l.hour,
        l.instance_id,
        l.last_seq,
        min(l.first_seq) filter (
            where a.hour is null and s.kind is distinct from 'ahead'
        ) over (
            partition by l.instance_id order by l.hour desc
            range between unbounded preceding and interval '2 hours' preceding
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
