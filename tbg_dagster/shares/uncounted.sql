-- Hours with late shares that are not in their hour, or not in their day and week although
-- these closed an hour ago. old: for longer than a day.
select
    count(*) as hours,
    min(hour) as first,
    max(hour) as last,
    count(*) filter (where due < now() - interval '1 day') as old
from (
    select
        hour,
        last_recorded_at,
        settled_hourly < shares as hourly,
        settled_daily < shares
            and date_trunc('day', hour, 'UTC') + interval '25 hours' <= %(now)s as daily,
        settled_weekly < shares
            and date_trunc('week', hour, 'UTC') + interval '169 hours' <= %(now)s as weekly,
        greatest(
            last_recorded_at,
            case
                when settled_hourly < shares then hour
                when settled_daily < shares then date_trunc('day', hour, 'UTC') + interval '1 day'
                else date_trunc('week', hour, 'UTC') + interval '7 days'
            end
        ) as due
    from late_share_hours
    where shares > least(settled_hourly, settled_daily, settled_weekly)
) late
where (hourly or daily or weekly) and last_recorded_at < now() - interval '1 hour'
