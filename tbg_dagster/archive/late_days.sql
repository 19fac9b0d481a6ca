-- Days with late shares: their hours, and when the last was noted.
select
    (hour at time zone 'UTC')::date as day,
    array_agg(hour order by hour) as hours,
    max(last_recorded_at) as noted
from late_share_hours
group by 1
order by 1
